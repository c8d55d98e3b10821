"""The options of ``windlass dataset upload``: parsed to those of the API, and written as a command again."""

import re
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.cli.session import Session
from windlass.domain.datasets import Split
from windlass.domain.errors import InvalidError
from windlass.domain.ingest import (
    DELIMITER_NAMES,
    DELIMITER_PATTERN,
    Encoding,
    FileFormat,
    IngestOptions,
    Quoting,
    RowFormat,
)
from windlass.domain.specs import Task

if TYPE_CHECKING:
    from windlass.sdk import SourceFile

_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, kw_only=True)
class UploadOptions:
    """The arguments and options as the user wrote them; the fields after ``files`` have the names of the flags."""

    name: str
    files: tuple[str, ...]
    task: Task | None
    column: tuple[str, ...]
    file_format: FileFormat | None
    encoding: str | None
    delimiter: str | None
    quoting: Quoting | None
    no_header: bool
    row_format: RowFormat | None
    allow_overlap: bool
    skip_unsupported: bool
    validation_fraction: float | None
    resume: str | None

    def sources(self) -> "list[SourceFile]":
        """Return the files with their splits."""
        return [_source(text) for text in self.files]

    def ingest_options(self) -> IngestOptions:
        """Return the options of the API.

        Raises:
            InvalidError: an option is invalid; the error names the flag.
        """
        fraction = IngestOptions().validation_fraction if self.validation_fraction is None else self.validation_fraction
        return IngestOptions(
            file_format=self.file_format,
            encoding=None if self.encoding is None else parse_encoding(self.encoding),
            delimiter=None if self.delimiter is None else parse_delimiter(self.delimiter),
            quoting=self.quoting,
            header=not self.no_header,
            row_format=self.row_format,
            columns=dict(map(_column, self.column)),
            allow_overlap=self.allow_overlap,
            skip_unsupported=self.skip_unsupported,
            validation_fraction=fraction,
        )

    def command(self, session: Session, *more: str) -> str:
        """Return the command with these options and ``more`` arguments, quoted for a shell."""
        words = ["windlass", "dataset", "upload", self.name, *self.files]
        flags = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        flags |= {"project": session.project, "server": session.server, "key_file": session.key_file}
        for name, value in flags.items():
            flag = f"--{name.replace('_', '-')}"
            if value is True:
                words.append(flag)
            elif isinstance(value, tuple):
                words += [word for item in value for word in (flag, item)]
            elif value or isinstance(value, float):
                words += [flag, str(value)]
        return shlex.join([*words, *more])


def column_flags(missing: list[str], columns: list[str]) -> list[str]:
    """Return a flag for each missing field: with the column that differs only in case, else with a placeholder."""
    by_name = {column.strip().casefold(): column for column in columns}
    return [word for field in missing for word in ("--column", f"{field}={by_name.get(field, 'COLUMN')}")]


def as_flags(text: str) -> str:
    """Replace options of the API by flags: ``the option file_format`` becomes ``--file-format``."""
    text = text.replace("options.columns", "--column FIELD=COLUMN").replace(
        "set the option header to false", "set --no-header"
    )
    return re.sub(r"the option ([a-z_]+)", lambda found: f"--{found[1].replace('_', '-')}", text)


def _source(text: str) -> "SourceFile":
    """Return a file; ``train=FILE`` sets its split, unless only a path of that name exists (``train=2026/a.csv``)."""
    from windlass.sdk import SourceFile  # noqa: PLC0415 - the HTTP stack doubles the time of `--help`

    split, separator, path = text.partition("=")
    if separator and split in {part.value for part in Split} and (Path(path).exists() or not Path(text).exists()):
        return SourceFile(Path(path), Split(split))
    return SourceFile(Path(text))


def parse_encoding(name: str) -> Encoding:
    """Return an encoding by one of its names.

    Raises:
        InvalidError: it is not supported.
    """
    try:
        return Encoding(name)
    except ValueError:
        raise InvalidError(f"--encoding {name!r}: unknown encoding", hint=f"use one of {', '.join(Encoding)}") from None


def parse_delimiter(text: str) -> str:
    """Return the delimiter for its name or the character itself.

    Raises:
        InvalidError: it is no delimiter.
    """
    by_name = {name: char for char, name in DELIMITER_NAMES.items()} | {"\\t": "\t"}
    delimiter = by_name.get(text.lower(), text)
    if not re.fullmatch(DELIMITER_PATTERN, delimiter):
        raise InvalidError(
            f"--delimiter {text!r}: not a delimiter",
            hint=f"use {', '.join(DELIMITER_NAMES.values())}, or one other character that is no letter, digit or quote",
        )
    return delimiter


def _column(text: str) -> tuple[str, str]:
    field, separator, column = text.partition("=")
    if not separator or not column or not _FIELD_NAME.fullmatch(field):
        raise InvalidError(
            f"--column {text!r}: invalid value", hint="write FIELD=COLUMN, for example --column text=review"
        )
    return field, column
