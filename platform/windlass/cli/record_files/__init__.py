"""Files of records: CSV, TSV, JSON Lines, JSON arrays and Parquet."""

from collections.abc import Sequence
from pathlib import Path

from windlass.cli.record_files.base import Content, FileRecord, ReadOptions, RecordFile
from windlass.cli.record_files.delimited import DelimitedFile
from windlass.cli.record_files.json_files import JsonArrayFile, JsonLinesFile
from windlass.cli.record_files.parquet_files import ParquetFile
from windlass.domain.errors import InvalidError

__all__ = ["FileRecord", "ReadOptions", "RecordFile", "open_record_file"]

_DELIMITED = {".csv": None, ".tsv": "\t"}
"""The delimiter of the format, None if it is detected."""
_JSON = (".jsonl", ".ndjson", ".json")
_PARQUET = ".parquet"


def open_record_file(path: Path, options: ReadOptions, added: Sequence[str]) -> RecordFile:
    """Return the records of a file; the end of its name selects the format.

    Raises:
        InvalidError: the file is missing, is no regular file, or has an unknown format or no column for the texts.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        problem = "is not a regular file" if path.exists() else "does not exist"
        raise InvalidError(f"{path} {problem}", hint="--file reads the file twice: to check it, and to score it")
    known = (*_DELIMITED, *_JSON, _PARQUET)
    if suffix not in known:
        raise InvalidError(f"{path} has an unknown format", hint=f"its name must end with {', '.join(known)}")
    if options.delimiter is not None and suffix not in _DELIMITED:
        raise InvalidError("--delimiter is for CSV and TSV files")
    try:
        if suffix == _PARQUET:
            return ParquetFile(path, options, added)
        content = Content(path, options.encoding)
        if suffix in _DELIMITED:
            return DelimitedFile(content, options, added, _DELIMITED[suffix])
        is_array = content.begin.lstrip().startswith("[")
        return JsonArrayFile(content, options, added) if is_array else JsonLinesFile(content, options, added)
    except OSError as error:
        raise InvalidError(f"cannot read {path}: {error.strerror}") from error
