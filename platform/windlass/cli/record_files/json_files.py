"""JSON Lines and JSON arrays."""

import io
import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from windlass.cli.record_files.base import MAX_FIELD, Content, FileRecord, ReadOptions, RecordFile
from windlass.dataset_files.json_array import array_records
from windlass.dataset_files.lines import detect_line_end, text_pieces
from windlass.domain.errors import InvalidError

_BLANK = object()


class ObjectsFile(RecordFile):
    """A file of objects; the output is JSON Lines."""

    _end = b"}\n"

    def __init__(self, path: Path, options: ReadOptions, added: Sequence[str]) -> None:
        super().__init__(path, options, added)
        self._column = options.column or "text"

    @abstractmethod
    def _values(self) -> Iterator[tuple[str, Any]]:
        """Yield the place and the value of each object; ``_BLANK`` for a blank line."""

    def records(self) -> Iterator[FileRecord]:
        """Read the objects."""
        keys: list[str] | None = None
        column = self._column
        found = False
        for place, value in self._values():
            if value is _BLANK:
                yield FileRecord(None, b"", place)
                continue
            if not isinstance(value, dict):
                raise InvalidError(f"{place} of {self.path} is not an object", hint='write {"text": "..."}')
            taken = sorted(set(value) & set(self._added))
            if taken:
                raise InvalidError(f"{place}: it already has a field {taken[0]}", hint="choose another --prefix")
            keys = keys or list(value)
            found = found or column in value
            yield FileRecord(self._text(value.get(column), place), _open_object(value), place)
        if keys is not None and not found:
            raise InvalidError(
                f"{self.path} has no field {column}; its first object has: {', '.join(keys)}",
                hint="name the field of the texts: --column text=FIELD",
            )

    def _suffix(self, values: Sequence[Any]) -> bytes:
        """Return the added fields and the end of the object."""
        return _dumps(dict(zip(self._added, values, strict=True)))[1:-1] + self._end

    def output(self, record: FileRecord, values: Sequence[Any]) -> bytes:
        """Return the object with the added fields, or the blank line."""
        return super().output(record, values) if record.prefix else b"\n"

    def read_suffix(self, stream: BinaryIO) -> list[Any] | None:
        """Read up to the end of the line; empty for a blank line."""
        line = stream.readline()
        return [] if line == b"\n" else self._decode_suffix(line)

    def _decode_suffix(self, suffix: bytes) -> list[Any] | None:
        if not suffix.endswith(self._end):
            return None
        try:
            return list(json.loads(b"{" + suffix.removesuffix(self._end) + b"}").values())
        except ValueError:
            return None


class JsonLinesFile(ObjectsFile):
    """One JSON object per line; blank lines are kept."""

    def __init__(self, content: Content, options: ReadOptions, added: Sequence[str]) -> None:
        super().__init__(content.path, options, added)
        content.line_end = detect_line_end(content.begin, quoted=False)
        self._content = content

    def _values(self) -> Iterator[tuple[str, Any]]:
        findings = self._content.findings()
        for line in self._content.lines(findings):
            self._content.check(findings)
            place = f"line {line.number}"
            try:
                value = json.loads(line.text) if line.text.strip() else _BLANK
            except (json.JSONDecodeError, RecursionError) as error:
                raise InvalidError(f"{place} of {self.path} is not valid JSON: {error}") from None
            yield place, value
        self._content.check(findings)


class JsonArrayFile(JsonLinesFile):
    """A JSON array of objects; the output has one object per line."""

    _end = b"}"

    def records(self) -> Iterator[FileRecord]:
        """Read the objects; all but the first begin with the separator."""
        separator = b""
        for record in super().records():
            yield replace(record, prefix=separator + record.prefix)
            separator = b",\n"

    def header(self) -> bytes:
        """Return the beginning of the array."""
        return b"[\n"

    def footer(self) -> bytes:
        """Return the end of the array."""
        return b"\n]\n"

    def read_suffix(self, stream: BinaryIO) -> list[Any] | None:
        """Read up to the separator or the end of the array."""
        line = stream.readline()
        suffix = line.removesuffix(b"\n").removesuffix(b",")
        values = self._decode_suffix(suffix)
        if values is not None:
            stream.seek(len(suffix) - len(line), io.SEEK_CUR)
        return values

    def _values(self) -> Iterator[tuple[str, Any]]:
        findings = self._content.findings()
        with self._content.errors():
            pieces = text_pieces(self._content.chunks(), self._content.encoding)
            for number, (_, value) in enumerate(array_records(pieces, MAX_FIELD, findings), 1):
                self._content.check(findings)
                yield f"element {number}", value
        self._content.check(findings)


def _open_object(value: dict[str, Any]) -> bytes:
    """Return the JSON text of an object without its closing brace, ready for more fields."""
    return _dumps(value)[:-1] + (b", " if value else b"")


def _dumps(value: dict[str, Any]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(value, default=str).encode()
