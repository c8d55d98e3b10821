"""Converts a record of a file to a row of the internal form (``windlass.domain.datasets``), or to findings.

A missing label becomes null and a missing text the empty string, each with a warning; cleaning steps handle them, and
training skips the rows that are left.
An Alpaca ``input`` is appended to its instruction after an empty line; a ``history`` pair becomes a user and an
assistant message. ``windlass_pipelines.data.messages`` reads lists of messages.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from windlass.dataset_files.findings import FileFindings, pointer_to
from windlass.dataset_files.schema_detection import RowSchema
from windlass.dataset_files.tables import Record
from windlass.domain.ingest import RowFormat
from windlass_pipelines.data.messages import MessageReader, chat_message
from windlass_pipelines.data.values import BadRowError, ValueReader
from windlass_pipelines.rows import Row

_MAX_KEY = 200  # characters of a label or group


class RowReader:
    """Converts the records of one file."""

    def __init__(self, schema: RowSchema, findings: FileFindings, *, skip_unsupported: bool = False) -> None:
        """With ``skip_unsupported``, rows that training does not support are left out instead of rejected."""
        self._schema = schema
        self._values = ValueReader(findings, skip_unsupported=skip_unsupported)
        self._messages = MessageReader(self._values)
        self._convert: Callable[[Mapping[str, Any]], Row] = {
            RowFormat.TEXT_LABEL: self._text_label,
            RowFormat.MESSAGES: self._conversation,
            RowFormat.SHAREGPT: self._sharegpt,
            RowFormat.PROMPT_COMPLETION: self._prompt_completion,
            RowFormat.ALPACA: self._alpaca,
        }[schema.row_format]

    def row(self, record: Record) -> Row | None:
        """Return the internal row; on errors, add a finding and return None."""
        self._values.line, values = record
        try:
            row = self._convert(values)
            if "group" in self._schema.columns and (group := self._label_or_group(values, "group")) is not None:
                row["group"] = group
        except BadRowError:
            return None
        return row

    def _text_label(self, values: Mapping[str, Any]) -> Row:
        return {"text": self._text(values, "text"), "label": self._label_or_group(values, "label")}

    def _conversation(self, values: Mapping[str, Any]) -> Row:
        return {"messages": self._read_conversation(values, "messages", [])}

    def _sharegpt(self, values: Mapping[str, Any]) -> Row:
        return {"messages": self._read_conversation(values, "conversations", self._system(values))}

    def _read_conversation(self, values: Mapping[str, Any], field: str, before: list[Row]) -> list[Row]:
        column = self._schema.columns[field]
        pointer, value = pointer_to(column), values.get(column)
        if isinstance(value, str) and value.strip():
            value = self._values.json(value, pointer)
        if value is None or value in ("", []):
            self._values.report_missing(pointer)
            return []
        return before + self._messages.conversation(value, pointer)

    def _prompt_completion(self, values: Mapping[str, Any]) -> Row:
        messages = self._system(values)
        messages += self._prompt_or_completion(values, "prompt", "user")
        messages += self._prompt_or_completion(values, "completion", "assistant")
        return {"messages": self._messages.require_answer(messages, pointer_to(self._schema.columns["completion"]))}

    def _alpaca(self, values: Mapping[str, Any]) -> Row:
        messages = self._system(values) + self._history(values)
        question = self._text(values, "instruction")
        if extra := self._optional(values, "input"):
            question = f"{question}\n\n{extra}"
        messages += [chat_message("user", question), chat_message("assistant", self._text(values, "output"))]
        return {"messages": messages}

    def _system(self, values: Mapping[str, Any]) -> list[Row]:
        text = self._optional(values, "system")
        return [chat_message("system", text)] if text else []

    def _prompt_or_completion(self, values: Mapping[str, Any], field: str, role: str) -> list[Row]:
        """Read the prompt or the completion: plain text, or a list of messages."""
        column = self._schema.columns[field]
        value = values.get(column)
        return (
            self._messages.messages(value, pointer_to(column))
            if isinstance(value, list)
            else [chat_message(role, self._text(values, field))]
        )

    def _history(self, values: Mapping[str, Any]) -> list[Row]:
        column = self._schema.columns.get("history")
        value = values.get(column) if column else None
        if not column or value is None or value == "":
            return []
        if isinstance(value, str):
            value = self._values.json(value, pointer_to(column))
        messages: list[Row] = []
        for index, pair in enumerate(value if isinstance(value, list) else [value]):
            pointer = pointer_to(column, index)
            if not isinstance(pair, list) or len(pair) != 2:  # noqa: PLR2004 - question and answer
                self._values.reject("wrong-type", "history must be a list of [question, answer] pairs", pointer)
            messages += [
                chat_message("user", self._values.text(pair[0], pointer)),
                chat_message("assistant", self._values.text(pair[1], pointer)),
            ]
        return messages

    def _text(self, values: Mapping[str, Any], field: str) -> str:
        column = self._schema.columns[field]
        text = self._values.text(values.get(column), pointer_to(column))
        if not text.strip():
            self._values.report_missing(pointer_to(column))
            return ""
        return text

    def _optional(self, values: Mapping[str, Any], field: str) -> str:
        column = self._schema.columns.get(field)
        text = self._values.text(values.get(column), pointer_to(column)) if column else ""
        return text if text.strip() else ""

    def _label_or_group(self, values: Mapping[str, Any], field: str) -> str | None:
        """Read a label or group: text, or an integer or boolean, which becomes text."""
        column = self._schema.columns[field]
        pointer, value = pointer_to(column), values.get(column)
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, float) and value.is_integer():
            value = str(int(value))  # pandas stores integer columns with missing values as floats
        elif isinstance(value, int) and abs(value) < 10**_MAX_KEY:
            value = str(value)
        elif value is not None and not isinstance(value, str):
            if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN: a missing value in pandas
                value = None
            else:
                self._reject_several_labels(field, value, pointer)
                self._values.reject("wrong-type", f"{field} must be text, an integer or a boolean", pointer)
        key = self._values.text(value, pointer).strip()
        if field == "label" and key[:1] in {"[", "{"}:
            self._reject_several_labels(field, _parsed(key), pointer)
        if len(key) > _MAX_KEY:
            message = f"{field} is longer than {_MAX_KEY} characters"
            self._values.reject(f"{field}-too-long", message, pointer, "check the column mapping")
        if not key and field == "label":
            self._values.report_missing(pointer)
        return key or None

    def _reject_several_labels(self, field: str, value: Any, pointer: str) -> None:
        """Reject a label that is a list or an object, such as Label Studio's ``{"choices": [...]}``."""
        if field == "label" and isinstance(value, list | dict) and value:
            message = "multi-label classification is not supported: a row has one label"
            self._values.reject("multi-label", message, pointer, "keep one label per row")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
