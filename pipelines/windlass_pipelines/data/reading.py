"""Reads the uploaded files of a request into rows of the internal form; read errors become findings."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from windlass.dataset_files.findings import FileFindings, Findings, name_list, printable
from windlass.dataset_files.opening import TextFile, file_format_of
from windlass.dataset_files.schema_detection import RowSchema, detect_schema, internal_schema
from windlass.dataset_files.streams import Budget, UnreadableError
from windlass.dataset_files.tables import Table
from windlass.domain.artifacts import FileEntry, sha256_file
from windlass.domain.datasets import COLUMNS_IGNORED, DataRequest, Split
from windlass.domain.ingest import FileFormat, FileReport
from windlass.kit.numbers import count
from windlass_pipelines.data.parquet import open_parquet
from windlass_pipelines.data.row_store import RowStore, RowWriter
from windlass_pipelines.data.rows import RowReader


def read_inputs(request: DataRequest, folder: Path, findings: Findings) -> tuple[RowStore, tuple[FileReport, ...]]:
    """Write the rows of all input files to the new ``folder``; files without a split go to train.

    Returns:
        The rows, and how each readable file was read.
    """
    budget = Budget(request.max_bytes, request.max_rows, request.max_line_bytes)
    files: list[FileReport] = []
    with RowWriter(folder) as writer:
        for number, (path, split) in enumerate(request.inputs):
            name = request.names[number] if number < len(request.names) else Path(path).name
            file_findings = FileFindings(findings, printable(name))
            if request.entries and not _is_intact(Path(path), request.entries[number], file_findings):
                continue
            with Path(path).open("rb") as stream:
                upload = _Upload(name, stream, file_findings, request, budget)
                files += upload.read_into(writer, split or Split.TRAIN)
    return writer.rows, tuple(files)


def _is_intact(path: Path, declared: FileEntry, findings: FileFindings) -> bool:
    """Compare a file with its declared length and sha256; a difference is a finding."""
    actual = sha256_file(path)
    if actual == declared:
        return True
    message = f"the file has sha256 {actual.sha256} and {actual.bytes:,} bytes, declared were "
    message += f"{declared.sha256} and {declared.bytes:,}"
    findings.add("error", "checksum-mismatch", message, action="upload the file again")
    return False


@dataclass(frozen=True)
class _Upload:
    name: str
    stream: BinaryIO
    findings: FileFindings
    request: DataRequest
    budget: Budget

    def read_into(self, writer: RowWriter, split: Split) -> list[FileReport]:
        """Copy the rows; return how the file was read, or nothing if it could not be opened."""
        try:
            table = self._open()
            schema = self._schema(table)
        except UnreadableError as error:
            self._add(error)
            return []
        read = self._copy_rows(table, schema, writer, split)
        return [
            FileReport(
                name=self.findings.file,
                format=table.format,
                encoding=table.encoding,
                delimiter=table.delimiter,
                quoting=table.quoting,
                rows=read,
            )
        ]

    def _copy_rows(self, table: Table, schema: RowSchema, writer: RowWriter, split: Split) -> int:
        """Convert and write the rows; return how many were read."""
        read = 0
        reader = RowReader(schema, self.findings, skip_unsupported=self.request.options.skip_unsupported)
        try:
            for record in table.read(frozenset(schema.columns.values())):
                self.budget.spend_row()
                read += 1
                if (row := reader.row(record)) is not None:
                    writer.add(split, row)
        except UnreadableError as error:
            self._add(error)
        if not read and not self.findings.findings.rejected:
            self.findings.add("error", "no-rows", "the file has no rows", action="upload a file with rows")
        return read

    def _add(self, error: UnreadableError) -> None:
        self.findings.add("error", error.code, error.message, action=error.action, line=error.line)

    def _schema(self, table: Table) -> RowSchema:
        if self._is_internal:
            return internal_schema(self.request.task)
        options = self.request.options
        schema = detect_schema(self.request.task, options.row_format, options.columns, table)
        used = frozenset(schema.columns.values())
        if unused := {column: rows for column, rows in table.columns.items() if column not in used}:
            names = tuple(
                column if rows is None else f"{column} ({count(rows, 'row')})" for column, rows in unused.items()
            )
            self.findings.add("info", COLUMNS_IGNORED, f"unused columns: {name_list(names)}")
        return schema

    def _open(self) -> Table:
        file_format = file_format_of(self.name, self.request.options)
        if file_format is FileFormat.PARQUET:
            return open_parquet(self.stream, self.budget, self.findings)
        file = TextFile(self.name, self.stream, self.request.options, self.budget)
        table = file.open(file_format, self.findings, peek_rows=1 if self._is_internal else None)
        return _checked(table, self.findings)

    @property
    def _is_internal(self) -> bool:
        """Whether the rows are in the internal form, so that their keys are known."""
        return self.request.operation == "clean"


def _checked(table: Table, findings: FileFindings) -> Table:
    """Return the table, or reject a JSON file without any object: its columns are unknown.

    Raises:
        UnreadableError: the file has no object.
    """
    if not table.columns:
        for _ in table.read(frozenset()):  # adds the findings of the lines
            pass
        message = "no line of the file is a JSON object" if findings.findings.rejected else "the file has no rows"
        raise UnreadableError("no-rows", message, action="write one JSON object per line")
    return table
