"""Bytes and lines of an uploaded file, read in bounded memory: decompression budget, line limit, strict UTF-8."""

import codecs
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from windlass_pipelines.data.findings import FileFindings

CHUNK = 1 << 20
_GZIP = 31  # window bits: zlib's largest window, gzip header and trailer
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class UnreadableError(Exception):
    """Reading of a file stops here, for one reason that becomes an error finding."""

    def __init__(self, code: str, message: str, *, action: str = "", line: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.action = action
        self.line = line


class Budget:
    """What one request may read: decompressed bytes and rows in all, and the length of one line or value."""

    def __init__(self, max_bytes: int, max_rows: int, max_value: int) -> None:
        self.max_bytes, self.max_rows, self.max_value = max_bytes, max_rows, max_value
        self._bytes = self._rows = 0

    def spend_bytes(self, count: int) -> None:
        """Count bytes.

        Raises:
            UnreadableError: more than allowed.
        """
        self._bytes += count
        if self._bytes > self.max_bytes:
            raise UnreadableError(
                "too-large",
                f"the data is over the limit of {self.max_bytes:,} bytes after decompression",
                action="upload less data, or ask for a higher limit",
            )

    def spend_row(self) -> None:
        """Count one row.

        Raises:
            UnreadableError: more than allowed.
        """
        self._rows += 1
        if self._rows > self.max_rows:
            raise UnreadableError(
                "too-many-rows", f"the data has more than {self.max_rows:,} rows", action="upload fewer rows"
            )


@dataclass(frozen=True, slots=True)
class Line:
    """One physical line without its line feed. ``ended`` is false for a last line that has none."""

    number: int
    text: str
    ended: bool


def file_chunks(stream: BinaryIO, *, compressed: bool, budget: Budget) -> Iterator[bytes]:
    """Yield the content, decompressed, in pieces of at most ``CHUNK`` bytes.

    Raises:
        UnreadableError: over the budget; a gzip stream that is broken or cut.
    """
    pieces = _inflate(stream) if compressed else iter(lambda: stream.read(CHUNK), b"")
    for piece in pieces:
        budget.spend_bytes(len(piece))
        yield piece


def _inflate(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what a gzip file of one or more members holds, never more than ``CHUNK`` bytes at a time."""
    member, data, started = zlib.decompressobj(_GZIP), b"", False
    while True:
        data = data or stream.read(CHUNK)
        if not data:
            if started:
                raise UnreadableError(
                    "truncated-file", "the gzip stream ends before its end marker", action="upload the file again"
                )
            return
        started = True
        try:
            piece = member.decompress(data, CHUNK)
        except zlib.error:
            raise UnreadableError("broken-gzip", "the gzip stream is damaged", action="compress it again") from None
        if piece:
            yield piece
        data = member.unconsumed_tail
        if member.eof:
            data = member.unused_data.lstrip(b"\0")
            member, started = zlib.decompressobj(_GZIP), False


def _raw_lines(chunks: Iterable[bytes], limit: int) -> Iterator[tuple[bytes | None, bool]]:
    """Yield (line, ended by a line feed); the line is None when it is longer than ``limit`` bytes."""
    pending, skipping = b"", False
    for chunk in chunks:
        lines = chunk.split(b"\n")
        lines[0] = pending + lines[0]
        pending = lines.pop()
        for line in lines:
            yield (None if skipping or len(line) > limit else line), True
            skipping = False
        if skipping or len(pending) > limit:
            pending, skipping = b"", True
    if pending or skipping:
        yield (None if skipping else pending), False


def text_lines(chunks: Iterable[bytes], limit: int, findings: FileFindings) -> Iterator[Line]:
    """Yield the lines that are readable text; each other line is a finding.

    Raises:
        UnreadableError: the file is UTF-16.
    """
    for index, (raw, ended) in enumerate(_raw_lines(chunks, limit)):
        number = index + 1
        if raw is None:
            message = f"the line is longer than {limit:,} bytes"
            findings.add("error", "line-too-long", message, line=number, action="one row per line")
            continue
        if index == 0:
            if raw.startswith(_UTF16):
                raise UnreadableError("not-utf-8", "the file is UTF-16", action="save it as UTF-8", line=1)
            raw = raw.removeprefix(codecs.BOM_UTF8)  # noqa: PLW2901 - the mark is no part of the line
        if b"\0" in raw:
            findings.add("error", "nul-byte", "the line holds a NUL byte", line=number)
            continue
        try:
            yield Line(number, raw.decode(), ended)
        except UnicodeDecodeError as error:
            message = f"byte {error.start + 1} of the line is not UTF-8"
            findings.add("error", "not-utf-8", message, line=number, action="save the file as UTF-8")
