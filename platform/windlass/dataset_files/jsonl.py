"""Reads JSON Lines (https://jsonlines.org): one object per line."""

import json
from collections.abc import Iterator
from typing import Any, Never

from windlass.dataset_files.findings import FileFindings
from windlass.dataset_files.lines import Line
from windlass.dataset_files.streams import UnreadableError
from windlass.dataset_files.tables import Record


def line_records(lines: Iterator[Line], findings: FileFindings) -> Iterator[Record]:
    """Yield the objects of the lines; add a finding for each line that is not an object.

    Raises:
        UnreadableError: the first object spans several lines.
    """
    first = True
    for line in lines:
        if not line.text or line.text.isspace():
            continue
        try:
            value: Any = json.loads(line.text, parse_constant=reject_constant)
        except RecursionError:
            findings.add("error", "too-deep", "the JSON is nested too deeply", line=line.number)
        except ValueError as error:
            if first and line.ended and line.text.startswith("{") and is_incomplete(error, line.text.rstrip()):
                action = "write one object per line, or an array of objects: [{...}, {...}]"
                message = "an object spans several lines"
                raise UnreadableError("invalid-json", message, action=action, line=line.number) from None
            _add_invalid_json(line, error, findings)
        else:
            if isinstance(value, dict):
                yield line.number, value
            else:
                message = "the line is JSON but not an object"
                findings.add("error", "not-an-object", message, line=line.number, action="write one object per line")
        first = False


def reject_constant(_name: str) -> Never:
    """Reject NaN and Infinity, which are not JSON."""
    raise ValueError


def is_incomplete(error: ValueError, text: str) -> bool:
    """Whether a JSON error is at the end of the text, outside of a string."""
    return isinstance(error, json.JSONDecodeError) and error.pos >= len(text) and "string" not in error.msg


def _add_invalid_json(line: Line, error: ValueError, findings: FileFindings) -> None:
    position = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
    if line.ended:
        message, action = f"invalid JSON{position}", "write one JSON object per line, without NaN and Infinity"
        findings.add("error", "invalid-json", message, line=line.number, action=action)
    else:
        message, action = f"the last line is invalid JSON{position} and has no line end", "upload the whole file"
        findings.add("error", "truncated-file", message, line=line.number, action=action)
