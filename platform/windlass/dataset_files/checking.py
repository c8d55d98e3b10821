"""Checks the begin of a dataset file before an upload: a wrong option costs neither a transfer nor a version."""

import os
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from windlass.dataset_files.findings import FileFindings, Findings
from windlass.dataset_files.opening import TextFile, file_format_of
from windlass.dataset_files.schema_detection import detect_schema
from windlass.dataset_files.streams import Budget, UnreadableError
from windlass.dataset_files.tables import Table
from windlass.domain.ingest import MAX_LINE_BYTES, FileFormat, IngestOptions
from windlass.domain.specs import Task

_ROWS = 1000
_PARQUET_MAGIC = b"PAR1"
_UNLIMITED = 1 << 62


def check_file(path: Path, name: str, task: Task, options: IngestOptions) -> None:
    """Read the first rows of a file as the data process will. Of Parquet only the first and last bytes are checked.

    Raises:
        UnreadableError: the data process would reject the file.
        OSError: the file cannot be read.
    """
    file_format = file_format_of(name, options)
    with path.open("rb") as stream:
        if file_format is FileFormat.PARQUET:
            _check_parquet(stream)
        else:
            _check_text(stream, name, file_format, task, options)


def _check_parquet(stream: BinaryIO) -> None:
    size = stream.seek(0, os.SEEK_END)
    if not size:
        raise UnreadableError("empty-file", "the file is empty", action="upload a file with rows")
    stream.seek(0)
    first = stream.read(len(_PARQUET_MAGIC))
    stream.seek(max(0, size - len(_PARQUET_MAGIC)))
    if first != _PARQUET_MAGIC:
        action = "use the file extension of the actual format"
        raise UnreadableError("wrong-format", "the file is not Parquet", action=action)
    if stream.read() != _PARQUET_MAGIC:
        message = "the Parquet file has no valid footer"
        raise UnreadableError("truncated-file", message, action="upload the whole file")


def _check_text(stream: BinaryIO, name: str, file_format: FileFormat, task: Task, options: IngestOptions) -> None:
    findings = Findings()
    file_findings = FileFindings(findings, name)
    file = TextFile(name, stream, options, Budget(_UNLIMITED, _UNLIMITED, MAX_LINE_BYTES))

    def checked(table: Table) -> None:
        detect_schema(task, options.row_format, options.columns, table)

    table = file.open(file_format, file_findings, peek_rows=_ROWS)
    rows = sum(1 for _ in islice(table.read(frozenset(table.columns)), _ROWS))
    for finding in findings.collect():
        if finding.severity == "error":
            raise UnreadableError(finding.code, finding.message, action=finding.action, line=finding.line)
    if not rows:
        raise UnreadableError("no-rows", "the file has no rows", action="upload a file with rows")
    try:
        checked(table)
    except UnreadableError:
        if table.format in {FileFormat.CSV, FileFormat.TSV}:
            raise
        checked(file.open(file_format, file_findings))  # a later object may have the key
