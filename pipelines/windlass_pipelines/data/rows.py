"""Turns a record of a file into a row of the internal form (``windlass.domain.datasets``), or into findings.

A missing label becomes null and a missing text the empty string, each with a warning: cleaning steps deal with them.
An Alpaca ``input`` follows its instruction after an empty line, a ``history`` pair is a user and an assistant turn.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from windlass.domain.datasets import RowFormat
from windlass_pipelines.data.findings import FileFindings, Severity, pointer_to
from windlass_pipelines.data.shapes import Shape
from windlass_pipelines.data.tables import Record

Row = dict[str, Any]
_ROLES = ("system", "user", "assistant", "tool")
_MAX_KEY = 200  # characters of a label or group


class _BadRowError(Exception):
    """The row cannot be converted; its finding is recorded."""


class RowReader:
    """Converts the records of one file."""

    def __init__(self, shape: Shape, findings: FileFindings) -> None:
        self._shape, self._findings = shape, findings
        self._line = 0
        self._convert: Callable[[Mapping[str, Any]], Row] = {
            RowFormat.TEXT_LABEL: self._text_label,
            RowFormat.MESSAGES: self._messages,
            RowFormat.PROMPT_COMPLETION: self._prompt_completion,
            RowFormat.ALPACA: self._alpaca,
        }[shape.row_format]

    def row(self, record: Record) -> Row | None:
        """Return the internal row, or None after recording why there is none."""
        self._line, values = record
        try:
            row = self._convert(values)
            if "group" in self._shape.columns and (group := self._key(values, "group")) is not None:
                row["group"] = group
        except _BadRowError:
            return None
        return row

    def _text_label(self, values: Mapping[str, Any]) -> Row:
        return {"text": self._text(values, "text"), "label": self._key(values, "label")}

    def _messages(self, values: Mapping[str, Any]) -> Row:
        column = self._shape.columns["messages"]
        given = values.get(column)
        if isinstance(given, str) and given.strip():
            given = self._json(given, pointer_to(column))
        if given is None or given in ("", []):
            self._missing(pointer_to(column))
            return {"messages": []}
        return {"messages": self._trainable(self._turns(given, pointer_to(column)), pointer_to(column))}

    def _prompt_completion(self, values: Mapping[str, Any]) -> Row:
        messages = self._system(values)
        messages += self._side(values, "prompt", "user")
        messages += self._side(values, "completion", "assistant")
        return {"messages": self._trainable(messages, pointer_to(self._shape.columns["completion"]))}

    def _alpaca(self, values: Mapping[str, Any]) -> Row:
        messages = self._system(values) + self._history(values)
        question = self._text(values, "instruction")
        if extra := self._optional(values, "input"):
            question = f"{question}\n\n{extra}"
        messages += [_turn("user", question), _turn("assistant", self._text(values, "output"))]
        return {"messages": messages}

    def _system(self, values: Mapping[str, Any]) -> list[Row]:
        text = self._optional(values, "system")
        return [_turn("system", text)] if text else []

    def _side(self, values: Mapping[str, Any], field: str, role: str) -> list[Row]:
        """Read one side of a prompt/completion pair: plain text, or messages already."""
        column = self._shape.columns[field]
        given = values.get(column)
        return (
            self._turns(given, pointer_to(column))
            if isinstance(given, list)
            else [_turn(role, self._text(values, field))]
        )

    def _history(self, values: Mapping[str, Any]) -> list[Row]:
        column = self._shape.columns.get("history")
        given = values.get(column) if column else None
        if not column or given is None or given == "":
            return []
        if isinstance(given, str):
            given = self._json(given, pointer_to(column))
        messages: list[Row] = []
        for index, pair in enumerate(given if isinstance(given, list) else [given]):
            place = pointer_to(column, index)
            if not isinstance(pair, list) or len(pair) != 2:  # noqa: PLR2004 - question and answer
                self._refuse("wrong-type", "history must be a list of [question, answer] pairs", place)
            messages += [
                _turn("user", self._checked(pair[0], place)),
                _turn("assistant", self._checked(pair[1], place)),
            ]
        return messages

    def _turns(self, given: Any, place: str) -> list[Row]:
        if not isinstance(given, list):
            self._refuse("wrong-type", "messages must be a list of objects with role and content", place)
        messages: list[Row] = []
        for index, turn in enumerate(given):
            spot = place + pointer_to(index)
            if not isinstance(turn, dict):
                self._refuse("wrong-type", "a message must be an object with role and content", spot)
            if turn.get("tool_calls") or turn.get("function_call"):
                self._refuse("unsupported-message", "tool calls cannot be trained on yet", spot, "remove such rows")
            if turn.get("role") not in _ROLES:
                self._refuse("wrong-role", f"role must be one of {', '.join(_ROLES)}", spot + "/role")
            if turn.get("weight") == 0:
                message = "weight 0 is not kept: training counts every assistant message"
                self._note("warning", "weight-ignored", message, spot + "/weight")
            content = self._content(turn.get("content"), spot + "/content")
            if not content.strip():
                self._missing(spot + "/content")
            messages.append(_turn(turn["role"], content))
        return messages

    def _trainable(self, messages: list[Row], place: str) -> list[Row]:
        if not any(turn["role"] == "assistant" for turn in messages):
            action = "each row needs an assistant message to learn from"
            self._refuse("no-assistant-message", "no message is the assistant's", place, action)
        return messages

    def _content(self, content: Any, place: str) -> str:
        if isinstance(content, list):
            parts = [
                part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
            ]
            if not all(isinstance(part, str) for part in parts):
                self._refuse("unsupported-message", "content parts other than text cannot be trained on yet", place)
            content = "".join(str(part) for part in parts)
        return self._checked(content, place)

    def _text(self, values: Mapping[str, Any], field: str) -> str:
        column = self._shape.columns[field]
        text = self._checked(values.get(column), pointer_to(column))
        if not text.strip():
            self._missing(pointer_to(column))
            return ""
        return text

    def _optional(self, values: Mapping[str, Any], field: str) -> str:
        column = self._shape.columns.get(field)
        text = self._checked(values.get(column), pointer_to(column)) if column else ""
        return text if text.strip() else ""

    def _key(self, values: Mapping[str, Any], field: str) -> str | None:
        """Read a label or group: text, or a whole number or boolean, which becomes text."""
        column = self._shape.columns[field]
        place, value = pointer_to(column), values.get(column)
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, float) and value.is_integer():
            value = str(int(value))  # a column of integers with gaps becomes floats in many tools
        elif isinstance(value, int) and abs(value) < 2**63:
            value = str(value)
        elif value is not None and not isinstance(value, str):
            if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN is how such tools write a gap
                value = None
            else:
                self._refuse("wrong-type", f"{field} must be text or a whole number", place)
        key = self._checked(value, place).strip()
        if len(key) > _MAX_KEY:
            message = f"{field} is longer than {_MAX_KEY} characters"
            self._refuse(f"{field}-too-long", message, place, "is this column really it?")
        if not key and field == "label":
            self._missing(place)
        return key or None

    def _checked(self, value: Any, place: str) -> str:
        """Return a text that UTF-8 can hold; None is the empty text."""
        if value is None:
            return ""
        if not isinstance(value, str):
            self._refuse("wrong-type", f"the value is {_json_type(value)}, not text", place)
        if "\0" in value:
            self._refuse("nul-byte", "the text holds a NUL character", place)
        try:
            value.encode()
        except UnicodeEncodeError:
            self._refuse("not-utf-8", "the text holds half of a surrogate pair", place)
        return str(value)

    def _json(self, text: str, place: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            self._refuse("invalid-json", "the text of the column is not JSON", place)

    def _missing(self, place: str) -> None:
        action = "clean with drop-missing or fill-missing"
        self._note("warning", "missing-value", "the value is missing or blank", place, action)

    def _refuse(self, code: str, message: str, place: str, action: str = "") -> NoReturn:
        self._note("error", code, message, place, action)
        raise _BadRowError

    def _note(self, severity: Severity, code: str, message: str, place: str, action: str = "") -> None:
        self._findings.add(severity, code, message, action=action, line=self._line, pointer=place)


def _turn(role: str, content: str) -> Row:
    return {"role": role, "content": content}


def _json_type(value: object) -> str:
    kinds = ((bool, "a boolean"), (int | float, "a number"), (list, "a list"), (dict, "an object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "another type")


def texts(row: Row) -> list[str]:
    """Return the texts of a row in order: the text, or the content of each message."""
    return [turn["content"] for turn in row["messages"]] if "messages" in row else [row["text"]]


def is_incomplete(row: Row) -> bool:
    """Whether the row's text, label or any message is missing or blank."""
    found = texts(row)
    return not found or not all(text.strip() for text in found) or ("label" in row and row["label"] is None)
