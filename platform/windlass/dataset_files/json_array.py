"""Reads a JSON array of objects, one object at a time, whatever the size of the array and its layout."""

import json
import re
from collections.abc import Iterator
from typing import Any

from windlass.dataset_files.findings import FileFindings
from windlass.dataset_files.jsonl import reject_constant
from windlass.dataset_files.streams import UnreadableError
from windlass.dataset_files.tables import Record

_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_TAIL = 16
"""Characters at the end of a text within which an error can result from the cut: the longest token is -Infinity."""
_ACTION = "write an array of objects: [{...}, {...}], without NaN and Infinity"


def array_records(pieces: Iterator[str], limit: int, findings: FileFindings) -> Iterator[Record]:
    """Yield the objects of an array with the line in which each begins; ``limit`` is the length of an object.

    Raises:
        UnreadableError: the text is not a JSON array, is cut, or an object is longer than ``limit`` characters.
    """
    text = _Text(pieces, limit)
    text.expect("[")
    if text.next() == "]":
        text.expect("]")
    else:
        yield from _elements(text, findings)
    if text.next():
        raise UnreadableError("invalid-json", "text follows the end of the array", action=_ACTION, line=text.line)


def _elements(text: "_Text", findings: FileFindings) -> Iterator[Record]:
    separator = ","
    while separator == ",":
        text.next()
        line, value = text.line, text.decode()
        if isinstance(value, dict):
            yield line, value
        else:
            message = "an element of the array is not an object"
            findings.add("error", "not-an-object", message, line=line, action=_ACTION)
        separator = text.next()
        text.expect("]" if separator == "]" else ",")


class _Text:
    """A window of the text that is read on demand."""

    def __init__(self, pieces: Iterator[str], limit: int) -> None:
        self._pieces, self._limit = pieces, limit
        self._decoder = json.JSONDecoder(parse_constant=reject_constant)
        self._window, self._position = "", 0
        self.line = 1
        """The line of the position."""

    def next(self) -> str:
        """Skip white space and return the next character without moving past it; empty at the end."""
        while True:
            found = _NOT_SPACE.search(self._window, self._position)
            self._move((found.start() if found else len(self._window)) - self._position)
            if found or not self._extend():
                return found[0] if found else ""

    def expect(self, character: str) -> None:
        """Move past a character.

        Raises:
            UnreadableError: another one is next.
        """
        actual = self.next()
        if not actual:
            raise self._truncated()
        if actual != character:
            message = f"invalid JSON: expected {character!r} here"
            raise UnreadableError("invalid-json", message, action=_ACTION, line=self.line)
        self._move(1)

    def decode(self) -> Any:
        """Decode the value at the position and move past it."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._window, self._position)
            except RecursionError:
                raise UnreadableError("too-deep", "the JSON is nested too deeply", line=self.line) from None
            except ValueError as error:
                self._check_incomplete(error)
                continue
            self._move(end - self._position)
            return value

    def _check_incomplete(self, error: ValueError) -> None:
        """Extend the window if the value is incomplete.

        Raises:
            UnreadableError: the value is invalid, too long, or cut.
        """
        rest = self._window[self._position :]
        invalid = rest[error.pos - self._position :] if isinstance(error, json.JSONDecodeError) else rest
        unterminated = isinstance(error, json.JSONDecodeError) and error.msg.startswith("Unterminated string")
        if isinstance(error, json.JSONDecodeError) and (unterminated or len(invalid) < _TAIL):
            if len(rest) > self._limit:
                message = f"an object is longer than {self._limit:,} characters, or a quote is never closed"
                raise UnreadableError("line-too-long", message, line=self.line)
            if self._extend(len(rest)):
                return
            if unterminated or not invalid.strip():
                raise self._truncated()
        line = self.line + rest.count("\n", 0, len(rest) - len(invalid))
        message = "invalid JSON; the rest of the file was not read"
        raise UnreadableError("invalid-json", message, action=_ACTION, line=line) from None

    def _truncated(self) -> UnreadableError:
        return UnreadableError(
            "truncated-file", "the file ends inside the array", action="upload the whole file", line=self.line
        )

    def _move(self, count: int) -> None:
        self.line += self._window.count("\n", self._position, self._position + count)
        self._position += count

    def _extend(self, least: int = 1) -> bool:
        """Read at least so many characters more, without those behind the position; False at the end of the file."""
        added: list[str] = []
        size = 0
        while size < least and (piece := next(self._pieces, None)) is not None:
            added.append(piece)
            size += len(piece)
        self._window, self._position = self._window[self._position :] + "".join(added), 0
        return size > 0
