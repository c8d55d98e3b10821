"""Reads the uploaded files of a request into rows of the internal form; what cannot be read becomes findings."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from windlass.domain.datasets import DataRequest, FileFormat, Split
from windlass_pipelines.data.delimited import open_delimited
from windlass_pipelines.data.findings import FileFindings, Findings, name_list, printable
from windlass_pipelines.data.jsonl import open_jsonl
from windlass_pipelines.data.parquet import open_parquet
from windlass_pipelines.data.rows import RowReader
from windlass_pipelines.data.rowset import RowSet, RowWriter
from windlass_pipelines.data.shapes import choose_shape
from windlass_pipelines.data.sources import Budget, UnreadableError, file_chunks, text_lines
from windlass_pipelines.data.tables import Table

_ENDINGS = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.TSV,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".parquet": FileFormat.PARQUET,
}
_MAGIC = {b"PAR1": "Parquet", b"\x1f\x8b": "gzip", b"PK\x03\x04": "a zip archive", b"%PDF": "PDF"}


def read_inputs(request: DataRequest, folder: Path, findings: Findings) -> RowSet:
    """Write the rows of all input files to the new ``folder``; rows without a split belong to train."""
    budget = Budget(request.max_bytes, request.max_rows, request.max_line_bytes)
    with RowWriter(folder) as writer:
        for number, (path, split) in enumerate(request.inputs):
            name = request.names[number] if number < len(request.names) else Path(path).name
            with Path(path).open("rb") as stream:
                upload = _Upload(name, stream, FileFindings(findings, printable(name)), request, budget)
                upload.read_into(writer, split or Split.TRAIN)
    return writer.rows


@dataclass(frozen=True)
class _Upload:
    name: str
    stream: BinaryIO
    findings: FileFindings
    request: DataRequest
    budget: Budget

    def read_into(self, writer: RowWriter, split: Split) -> None:
        try:
            self._copy_rows(writer, split)
        except UnreadableError as error:
            self.findings.add("error", error.code, error.message, action=error.action, line=error.line)

    def _copy_rows(self, writer: RowWriter, split: Split) -> None:
        table = self._open()
        options = self.request.options
        shape = choose_shape(self.request.task, options.row_format, options.columns, table.columns)
        used = frozenset(shape.columns.values())
        if unused := tuple(column for column in table.columns if column not in used):
            self.findings.add("info", "columns-ignored", f"columns that are not used: {name_list(unused)}")
        reader = RowReader(shape, self.findings)
        read = 0
        for record in table.read(used):
            self.budget.spend_row()
            read += 1
            if (row := reader.row(record)) is not None:
                writer.add(split, row)
        if not read and not self.findings.findings.rejected:
            raise UnreadableError("no-rows", "the file has no rows", action="upload a file with rows")

    def _open(self) -> Table:
        if not self.stream.read(1):
            raise UnreadableError("empty-file", "the file is empty", action="upload a file with rows")
        compressed = self.name.lower().endswith(".gz")
        chosen = self.request.options.file_format or _format_of(self.name)
        if chosen is FileFormat.PARQUET:
            return open_parquet(self.stream, self.budget, self.findings)
        self._check_magic(compressed=compressed)
        chunks = file_chunks(self.stream, compressed=compressed, budget=self.budget)
        lines = text_lines(chunks, self.budget.max_value, self.findings)
        if chosen is FileFormat.JSONL:
            return _checked(open_jsonl(lines, self.findings), self.findings.findings)
        delimiter = "\t" if chosen is FileFormat.TSV else ","
        return open_delimited(lines, delimiter, self.budget.max_value, self.findings)

    def _check_magic(self, *, compressed: bool) -> None:
        self.stream.seek(0)
        begin = self.stream.read(4)
        self.stream.seek(0)
        for magic, what in _MAGIC.items():
            if begin.startswith(magic) and not (compressed and what == "gzip"):
                message, action = f"the content is {what}, not text", "name the file by its content"
                raise UnreadableError("wrong-format", message, action=action)


def _checked(table: Table, findings: Findings) -> Table:
    """Refuse a JSONL file without any object, of which no column can be asked.

    Raises:
        UnreadableError: it has none.
    """
    if not table.columns:
        why = "no line of the file is a JSON object" if findings.rejected else "the file has no rows"
        raise UnreadableError("no-rows", why, action="write one JSON object per line")
    return table


def _format_of(name: str) -> FileFormat:
    base = name.lower().removesuffix(".gz")
    ending = PurePosixPath(base).suffix
    if ending not in _ENDINGS:
        action = f"name it with one of {', '.join(_ENDINGS)} (or .gz after a text format), or set options.file_format"
        raise UnreadableError("unknown-format", "the file name's ending tells no known format", action=action)
    return _ENDINGS[ending]
