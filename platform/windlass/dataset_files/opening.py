"""Opens a dataset file in a text format: detects format, encoding, line end and dialect from its begin."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from windlass.dataset_files.delimited import open_delimited
from windlass.dataset_files.dialects import detect_dialect
from windlass.dataset_files.findings import FileFindings, Findings
from windlass.dataset_files.json_array import array_records
from windlass.dataset_files.jsonl import line_records
from windlass.dataset_files.lines import (
    Line,
    decode_sample,
    detect_encoding,
    detect_line_end,
    text_lines,
    text_pieces,
)
from windlass.dataset_files.streams import CHUNK, Budget, UnreadableError, file_chunks, read_sample
from windlass.dataset_files.tables import MAX_COLUMNS, Record, Table
from windlass.domain.ingest import Encoding, FileFormat, IngestOptions

_EXTENSIONS = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.TSV,
    ".json": FileFormat.JSON,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".parquet": FileFormat.PARQUET,
}
_SPREADSHEETS = {".xls", ".xlsx", ".ods", ".numbers"}
_MAGIC = {b"PAR1": "Parquet", b"\x1f\x8b": "gzip", b"PK\x03\x04": "a zip archive or a spreadsheet", b"%PDF": "PDF"}


def file_format_of(name: str, options: IngestOptions) -> FileFormat:
    """Return the format of a file: that of the options, else by its name.

    Raises:
        UnreadableError: the extension is unknown.
    """
    extension = PurePosixPath(name.lower().removesuffix(".gz")).suffix
    if file_format := options.file_format or _EXTENSIONS.get(extension):
        return file_format
    if extension in _SPREADSHEETS:
        raise UnreadableError("unknown-format", "spreadsheets are not supported", action="save the sheet as CSV")
    action = f"use one of {', '.join(_EXTENSIONS)} (text formats also with .gz), or set the option file_format"
    raise UnreadableError("unknown-format", "unknown file extension", action=action)


@dataclass(frozen=True)
class TextFile:
    """A file in a text format."""

    name: str
    stream: BinaryIO
    options: IngestOptions
    budget: Budget

    def open(self, file_format: FileFormat, findings: FileFindings, *, peek_rows: int | None = None) -> Table:
        """Return the file's table.

        JSON is read twice, first for the keys of all objects, or of the first ``peek_rows``.

        Raises:
            UnreadableError: the content is not in this format.
        """
        sample = self._sample()
        encoding = detect_encoding(sample, self.options.encoding)
        text = decode_sample(sample, encoding)
        if file_format in {FileFormat.JSON, FileFormat.JSONL}:
            file_format = FileFormat.JSON if text.lstrip().startswith("[") else FileFormat.JSONL
            return self._open_json(file_format, encoding, text, findings, peek_rows)
        default = "\t" if file_format is FileFormat.TSV else None
        dialect = detect_dialect(text, self.options, complete=len(sample) < CHUNK, default=default)
        line_end = detect_line_end(text, quoted=dialect.delimiter != "\t")
        lines = self._lines(encoding, line_end, self.budget, findings)
        header = self.options.header
        columns, records = open_delimited(lines, dialect, self.budget.max_value, findings, header=header)
        return Table(
            dict.fromkeys(columns),
            lambda _wanted: records,
            FileFormat.TSV if dialect.delimiter == "\t" else FileFormat.CSV,
            encoding,
            dialect.delimiter,
            dialect.quoting,
            has_header=dialect.has_header or not header,
        )

    def _open_json(
        self, file_format: FileFormat, encoding: Encoding, sample: str, findings: FileFindings, peek_rows: int | None
    ) -> Table:
        line_end = detect_line_end(sample, quoted=False)

        def records(budget: Budget, findings: FileFindings) -> Iterator[Record]:
            if file_format is FileFormat.JSONL:
                return line_records(self._lines(encoding, line_end, budget, findings), findings)
            self.stream.seek(0)
            chunks = file_chunks(self.stream, compressed=self._compressed, budget=budget)
            return array_records(text_pieces(chunks, encoding), budget.max_value, findings)

        discarded = FileFindings(Findings(), findings.file)  # the second reading finds the same
        columns = _count_keys(records(self.budget.copy(), discarded), peek_rows)
        return Table(columns, lambda _wanted: records(self.budget, findings), file_format, encoding)

    def _lines(self, encoding: Encoding, line_end: str, budget: Budget, findings: FileFindings) -> Iterator[Line]:
        self.stream.seek(0)
        chunks = file_chunks(self.stream, compressed=self._compressed, budget=budget)
        return text_lines(chunks, encoding, line_end, budget.max_value, findings)

    @property
    def _compressed(self) -> bool:
        return self.name.lower().endswith(".gz")

    def _sample(self) -> bytes:
        self.stream.seek(0)
        begin = self.stream.read(max(map(len, _MAGIC)))
        self.stream.seek(0)
        if not begin:
            raise UnreadableError("empty-file", "the file is empty", action="upload a file with rows")
        _check_magic(begin, allowed=b"\x1f\x8b" if self._compressed else None)
        sample = read_sample(self.stream, compressed=self._compressed, budget=self.budget)
        if not sample:
            raise UnreadableError("empty-file", "the file is empty", action="upload a file with rows")
        _check_magic(sample, allowed=None)
        return sample


def _check_magic(begin: bytes, *, allowed: bytes | None) -> None:
    for magic, kind in _MAGIC.items():
        if magic != allowed and begin.startswith(magic):
            message, action = f"the content is {kind}, not text", "use the file extension of the actual format"
            raise UnreadableError("wrong-format", message, action=action)


def _count_keys(records: Iterator[Record], limit: int | None) -> dict[str, int | None]:
    """Return how many of the first ``limit`` objects have each key; None for the keys of all of them.

    Raises:
        UnreadableError: there are too many different keys.
    """
    counts: Counter[str] = Counter()
    rows = 0
    for rows, (line, record) in enumerate(records, start=1):
        counts.update(record.keys())
        if len(counts) > MAX_COLUMNS:
            message = f"the objects have more than {MAX_COLUMNS:,} different keys"
            raise UnreadableError("too-many-columns", message, line=line)
        if rows == limit:
            break
    return {key: None if count == rows else count for key, count in counts.items()}
