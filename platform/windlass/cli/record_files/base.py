"""Reads records from files, and writes them with more fields added at their ends.

Files are read like those of datasets, one record at a time. The output of a record begins with its own fields
(``FileRecord.prefix``), so that an interrupted output can be compared with the input.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from windlass.cli.upload_options import as_flags
from windlass.dataset_files.findings import FileFindings, Findings
from windlass.dataset_files.lines import Line, decode_sample, detect_encoding, text_lines
from windlass.dataset_files.streams import CHUNK, UnreadableError
from windlass.domain.endpoints import MAX_INPUT_CHARACTERS
from windlass.domain.errors import InvalidError
from windlass.domain.ingest import Encoding

MAX_FIELD = 1 << 24
"""Characters of one CSV row or of one element of a JSON array."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One record: its text (None: missing), its own part of the output, and its place in the file for messages."""

    text: str | None
    prefix: bytes
    place: str


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a file is read. ``column`` None selects the column ``text`` or the only column."""

    column: str | None = None
    encoding: Encoding | None = None
    delimiter: str | None = None
    escape_formulas: bool = True


class Content:
    """The content of a file as text.

    Raises:
        InvalidError: the encoding contradicts the byte order mark.
    """

    def __init__(self, path: Path, encoding: Encoding | None) -> None:
        self.path = path
        with path.open("rb") as stream:
            sample = stream.read(CHUNK)
        self.is_whole = len(sample) < CHUNK
        """Whether ``begin`` is the whole file."""
        with self.errors():
            self.encoding = detect_encoding(sample, encoding)
        self.begin = decode_sample(sample, self.encoding)
        self.line_end = "\n"

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the file."""
        with self.path.open("rb") as stream:
            yield from iter(lambda: stream.read(CHUNK), b"")

    def lines(self, findings: FileFindings) -> Iterator[Line]:
        """Yield the lines that are valid text."""
        return text_lines(self.chunks(), self.encoding, self.line_end, MAX_FIELD, findings)

    def findings(self) -> FileFindings:
        """Return an empty list of findings about the file."""
        return FileFindings(Findings(), self.path.name)

    def check(self, findings: FileFindings) -> None:
        """Raise the first error of the findings.

        Raises:
            InvalidError: there is one.
        """
        if findings.findings.rejected:
            error = findings.findings.collect()[0]
            raise self._invalid(error.message, error.line, error.action)

    def warnings(self, findings: FileFindings) -> tuple[str, ...]:
        """Return the warnings of the findings, with their lines."""
        return tuple(
            str(self._invalid(finding.message, finding.line, ""))
            for finding in findings.findings.collect()
            if finding.severity == "warning"
        )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Convert errors of the readers.

        Raises:
            InvalidError: the file is unreadable.
        """
        try:
            yield
        except UnreadableError as error:
            raise self._invalid(error.message, error.line, error.action) from None

    def _invalid(self, message: str, line: int | None, action: str) -> InvalidError:
        place = f"{self.path}, line {line}" if line is not None else str(self.path)
        return InvalidError(f"{place}: {message}", hint=as_flags(action))


class RecordFile(ABC):
    """A file of records with one text each; ``added`` are the names of the fields that the output adds."""

    def __init__(self, path: Path, options: ReadOptions, added: Sequence[str]) -> None:
        self.path = path
        self._options = options
        self._added = added
        self._column = ""
        self.warnings: tuple[str, ...] = ()
        """What the last complete reading found suspicious."""

    @property
    def output_suffix(self) -> str:
        """The end of the name of an output."""
        return self.path.suffix

    @abstractmethod
    def records(self) -> Iterator[FileRecord]:
        """Read the records.

        Raises:
            InvalidError: the file or a record is invalid; the message has the line.
        """

    def output(self, record: FileRecord, values: Sequence[Any]) -> bytes:
        """Return the output of a record with the values of the added fields."""
        return record.prefix + self._suffix(values)

    @abstractmethod
    def _suffix(self, values: Sequence[Any]) -> bytes: ...

    @abstractmethod
    def read_suffix(self, stream: BinaryIO) -> list[Any] | None:
        """Read the added fields of an output at their position; None if they are incomplete."""

    def header(self) -> bytes:
        """Return the beginning of the output."""
        return b""

    def footer(self) -> bytes:
        """Return the end of the output."""
        return b""

    def _text(self, value: object, place: str) -> str | None:
        """Return the text of a record; None if it is missing or blank."""
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if not isinstance(value, str):
            kind = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else f"{value!r:.40}"
            raise InvalidError(f"{place}: {self._column} is {kind}, not a string")
        if len(value) > MAX_INPUT_CHARACTERS:
            problem = f"{self._column} has {len(value):,} characters, the limit is {MAX_INPUT_CHARACTERS:,}"
            raise InvalidError(f"{place}: {problem}", hint="shorten the text; a model reads only its beginning")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidError(f"{place}: {self._column} has half of a surrogate pair") from None
        return value
