"""The bytes of an uploaded file in bounded memory, decompressed."""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

CHUNK = 1 << 20
_GZIP = 31  # window bits: zlib's largest window, gzip header and trailer


class UnreadableError(Exception):
    """A file cannot be read any further; becomes an error finding."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        action: str = "",
        line: int | None = None,
        columns: tuple[str, ...] = (),
        missing: tuple[str, ...] = (),
    ) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.action = action
        self.line = line
        self.columns = columns
        """The columns of the file, if the mapping of columns is the cause."""
        self.missing = missing
        """The fields without a column, if mapping them to columns is the way out."""


class Budget:
    """Read limits of one request: total decompressed bytes, total rows, and bytes of one line or value."""

    def __init__(self, max_bytes: int, max_rows: int, max_value: int) -> None:
        self.max_bytes, self.max_rows, self.max_value = max_bytes, max_rows, max_value
        self._bytes = self._rows = 0

    def copy(self) -> "Budget":
        """Return a budget of what is left, to read a part of a file more than once."""
        return Budget(self.max_bytes - self._bytes, self.max_rows - self._rows, self.max_value)

    def spend_bytes(self, count: int) -> None:
        """Count bytes.

        Raises:
            UnreadableError: more than allowed.
        """
        self._bytes += count
        if self._bytes > self.max_bytes:
            raise UnreadableError(
                "too-large",
                f"the data exceeds the limit of {self.max_bytes:,} bytes after decompression",
                action="upload less data, or request a higher limit",
            )

    def spend_row(self) -> None:
        """Count one row.

        Raises:
            UnreadableError: more than allowed.
        """
        self._rows += 1
        if self._rows > self.max_rows:
            raise UnreadableError(
                "too-many-rows", f"the data exceeds the limit of {self.max_rows:,} rows", action="upload fewer rows"
            )


def file_chunks(stream: BinaryIO, *, compressed: bool, budget: Budget) -> Iterator[bytes]:
    """Yield the decompressed content in chunks of at most ``CHUNK`` bytes.

    Raises:
        UnreadableError: the budget is exceeded, or the gzip stream is corrupted or truncated.
    """
    pieces = _inflate(stream) if compressed else iter(lambda: stream.read(CHUNK), b"")
    for piece in pieces:
        budget.spend_bytes(len(piece))
        yield piece


def _inflate(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a gzip file with one or more members, at most ``CHUNK`` bytes at a time."""
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
            raise UnreadableError("broken-gzip", "the gzip stream is corrupted", action="compress it again") from None
        if piece:
            yield piece
        data = member.unconsumed_tail
        if member.eof:
            data = member.unused_data.lstrip(b"\0")
            member, started = zlib.decompressobj(_GZIP), False


def read_sample(stream: BinaryIO, *, compressed: bool, budget: Budget) -> bytes:
    """Return the begin of the content, at least ``CHUNK`` bytes if there are as many, and rewind the stream.

    Raises:
        UnreadableError: the budget is exceeded, or the gzip stream is corrupted or truncated.
    """
    sample = bytearray()
    for piece in file_chunks(stream, compressed=compressed, budget=budget.copy()):
        sample += piece
        if len(sample) >= CHUNK:
            break
    stream.seek(0)
    return bytes(sample)
