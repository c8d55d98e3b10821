"""Reads JSON Lines (https://jsonlines.org): one object a line."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any, Never

from windlass_pipelines.data.findings import FileFindings
from windlass_pipelines.data.sources import Line
from windlass_pipelines.data.tables import Record, Table

_PEEK_ROWS = 50
_PEEK_BYTES = 1 << 20


def open_jsonl(lines: Iterator[Line], findings: FileFindings) -> Table:
    """Open the lines of a file; the columns are the keys of its first rows (at most 50, or 1 MiB)."""
    records = _records(lines, findings)
    first: list[Record] = []
    columns: dict[str, None] = {}
    size = 0
    for length, record in records:
        first.append(record)
        columns.update(dict.fromkeys(record[1]))
        size += length
        if len(first) >= _PEEK_ROWS or size > _PEEK_BYTES:
            break
    rest = (record for _, record in records)
    return Table(tuple(columns), lambda _wanted: chain(first, rest))


def _records(lines: Iterator[Line], findings: FileFindings) -> Iterator[tuple[int, Record]]:
    for line in lines:
        if not line.text or line.text.isspace():
            continue
        try:
            value: Any = json.loads(line.text, parse_constant=_refuse_constant)
        except RecursionError:
            findings.add("error", "too-deep", "the JSON is nested too deeply", line=line.number)
            continue
        except ValueError as error:
            _bad_json(line, error, findings)
            continue
        if isinstance(value, dict):
            yield len(line.text), (line.number, value)
        else:
            message = "the line is JSON but not an object"
            findings.add("error", "not-an-object", message, line=line.number, action="one object per line")


def _refuse_constant(_name: str) -> Never:
    raise ValueError


def _bad_json(line: Line, error: ValueError, findings: FileFindings) -> None:
    place = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
    if line.ended:
        message, action = f"not valid JSON{place}", "one JSON object per line, NaN and Infinity not allowed"
        findings.add("error", "invalid-json", message, line=line.number, action=action)
    else:
        message, action = f"the last line is not valid JSON{place} and has no line end", "upload the whole file"
        findings.add("error", "truncated-file", message, line=line.number, action=action)
