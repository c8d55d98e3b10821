"""Text of a file in bounded memory: detects the encoding and the line end, and yields lines or pieces of text."""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from windlass.dataset_files.findings import FileFindings
from windlass.dataset_files.streams import UnreadableError
from windlass.domain.ingest import Encoding

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, Encoding.UTF_8),
    (codecs.BOM_UTF16_LE, Encoding.UTF_16LE),
    (codecs.BOM_UTF16_BE, Encoding.UTF_16BE),
)
_UTF_16 = {Encoding.UTF_16LE, Encoding.UTF_16BE}
_NUL_SAMPLE = 8
"""Bytes in which UTF-16 without a byte order mark is recognised: the first four characters are almost always ASCII."""


@dataclass(frozen=True, slots=True)
class Line:
    """One physical line without its line end. ``ended`` is false for a last line without a line end."""

    number: int
    text: str
    ended: bool


def detect_encoding(sample: bytes, wanted: Encoding | None) -> Encoding:
    """Return the encoding: the wanted one, else that of the byte order mark, else UTF-16 if it looks so, else UTF-8.

    UTF-16 is returned with its byte order.

    Raises:
        UnreadableError: the byte order mark contradicts the wanted encoding.
    """
    marked = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if sample.startswith(mark)), None)
    if wanted is Encoding.UTF_16:  # of either byte order
        wanted = marked if marked in _UTF_16 else _by_nul_bytes(sample[:_NUL_SAMPLE]) or Encoding.UTF_16LE
    if wanted and marked and wanted is not marked:
        raise UnreadableError(
            "wrong-encoding",
            f"the file begins with the byte order mark of {marked}, the option encoding is {wanted}",
            action="leave out the option encoding",
        )
    return wanted or marked or _by_nul_bytes(sample[:_NUL_SAMPLE]) or Encoding.UTF_8


def _by_nul_bytes(sample: bytes) -> Encoding | None:
    """Recognise ASCII text in UTF-16: one byte of each pair is NUL."""
    first, second = sample[::2], sample[1::2]
    if len(second) > 1 and not any(second) and all(first[: len(second)]):
        return Encoding.UTF_16LE
    if len(second) > 1 and not any(first) and all(second):
        return Encoding.UTF_16BE
    return None


def decode_sample(sample: bytes, encoding: Encoding) -> str:
    """Return the begin of a file as text; invalid bytes and a cut character become replacement characters."""
    return sample.decode(encoding, "replace").removeprefix("\ufeff")


def detect_line_end(sample: str, *, quoted: bool) -> str:
    """Return CR if it ends the first line, else LF; a CR before LF is part of the line.

    With ``quoted``, line ends between quotes do not count.
    """
    is_open = False
    for found in re.finditer(r"\r\n|\n|\r|\"", sample):
        if found[0] == '"':
            is_open = quoted and not is_open
        elif not is_open:
            return "\r" if found[0] == "\r" else "\n"
    return "\n"


def text_lines(
    chunks: Iterable[bytes], encoding: Encoding, line_end: str, limit: int, findings: FileFindings
) -> Iterator[Line]:
    """Yield the lines that are valid text; add a finding for each other line.

    Raises:
        UnreadableError: the file ends within a character of UTF-16.
    """
    codec = encoding.value
    if encoding in _UTF_16:
        chunks, codec = _as_utf_8(chunks, encoding), "utf-8"
    for index, (raw, ended) in enumerate(_raw_lines(chunks, line_end.encode(), limit)):
        number = index + 1
        if raw is None:
            message = f"the line is longer than {limit:,} bytes"
            findings.add("error", "line-too-long", message, line=number, action="write one row per line")
            continue
        if b"\0" in raw:
            findings.add("error", "nul-byte", "the line contains a NUL byte", line=number)
            continue
        try:
            text = raw.decode(codec)
        except UnicodeDecodeError as error:
            where = f"byte {error.start + 1} of the line" if encoding not in _UTF_16 else "the line"
            _add_undecodable(f"{where} is not valid {encoding.upper()}", encoding, number, findings)
            continue
        yield Line(number, text.removeprefix("\ufeff") if index == 0 else text, ended)


def _add_undecodable(message: str, encoding: Encoding, line: int, findings: FileFindings) -> None:
    if encoding is Encoding.UTF_8:
        action = "save the file as UTF-8, or set the option encoding, for example to windows-1252"
        findings.add("error", "not-utf-8", message, line=line, action=action)
    else:
        findings.add("error", "wrong-encoding", message, line=line, action="set the option encoding to the actual one")


def _as_utf_8(chunks: Iterable[bytes], encoding: Encoding) -> Iterator[bytes]:
    """Convert UTF-16; half of a surrogate pair stays, and its line is then not valid."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        message = "the file ends in the middle of a UTF-16 character"
        raise UnreadableError("truncated-file", message, action="upload the whole file") from None


def _raw_lines(chunks: Iterable[bytes], line_end: bytes, limit: int) -> Iterator[tuple[bytes | None, bool]]:
    """Yield (line, whether it has a line end); the line is None when longer than ``limit`` bytes."""
    pending, skipping = b"", False
    for chunk in chunks:
        lines = chunk.split(line_end)
        lines[0] = pending + lines[0]
        pending = lines.pop()
        for line in lines:
            yield (None if skipping or len(line) > limit else line), True
            skipping = False
        if skipping or len(pending) > limit:
            pending, skipping = b"", True
    if pending or skipping:
        yield (None if skipping else pending), False


def text_pieces(chunks: Iterable[bytes], encoding: Encoding) -> Iterator[str]:
    """Yield the whole text in pieces.

    Raises:
        UnreadableError: it is not valid in this encoding.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    first = True
    try:
        for chunk in chunks:
            piece = decoder.decode(chunk)
            yield piece.removeprefix("\ufeff") if first else piece
            lines, first = lines + piece.count("\n"), False
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        code = "not-utf-8" if encoding is Encoding.UTF_8 else "wrong-encoding"
        invalid = f"the text is not valid {encoding.upper()}"
        action = "save the file as UTF-8, or set the option encoding"
        line = lines + error.object.count(b"\n", 0, error.start)
        raise UnreadableError(code, invalid, action=action, line=line) from None
