"""Reads single values of a row; a value that cannot be used becomes a finding with its line and JSON pointer."""

import json
from typing import Any, NoReturn

from windlass.dataset_files.findings import FileFindings, Severity


class BadRowError(Exception):
    """The row cannot be converted; a finding has been added."""


class ValueReader:
    """Reads the values of the rows of one file; ``line`` is that of the current row."""

    def __init__(self, findings: FileFindings, *, skip_unsupported: bool) -> None:
        """With ``skip_unsupported`` an unsupported value is a warning, and its row is left out."""
        self._findings, self._skip_unsupported = findings, skip_unsupported
        self.line = 0

    def text(self, value: Any, pointer: str) -> str:
        """Return a text that UTF-8 can encode; None becomes the empty string."""
        if value is None:
            return ""
        if not isinstance(value, str):
            self.reject("wrong-type", f"the value must be text, not {_json_type(value)}", pointer)
        if "\0" in value:
            self.reject("nul-byte", "the text contains a NUL character", pointer)
        try:
            value.encode()
        except UnicodeEncodeError:
            self.reject("not-utf-8", "the text contains an unpaired surrogate", pointer)
        return str(value)

    def json(self, text: str, pointer: str) -> Any:
        """Parse a column with JSON text."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            self.reject("invalid-json", "the column does not contain valid JSON", pointer)

    def report_missing(self, pointer: str) -> None:
        """Add a warning about a missing value."""
        self.add(
            "warning",
            "missing-value",
            "the value is missing or blank",
            pointer,
            "clean with drop-missing or fill-missing",
        )

    def reject(self, code: str, message: str, pointer: str, action: str = "") -> NoReturn:
        """Add an error about the row and stop its conversion."""
        self.add("error", code, message, pointer, action)
        raise BadRowError

    def unsupported(self, message: str, pointer: str) -> NoReturn:
        """Stop the conversion of a row that training does not support: skip it, or reject it."""
        if self._skip_unsupported:
            self.add("warning", "row-skipped", f"row left out: {message}", pointer)
            raise BadRowError
        action = "remove these rows, or leave them out with the option skip_unsupported"
        self.reject("unsupported-message", message, pointer, action)

    def add(self, severity: Severity, code: str, message: str, pointer: str, action: str = "") -> None:
        """Add a finding about the row."""
        self._findings.add(severity, code, message, action=action, line=self.line, pointer=pointer)


def _json_type(value: object) -> str:
    types = ((bool, "a boolean"), (int | float, "a number"), (list, "a list"), (dict, "an object"))
    return next((name for kind, name in types if isinstance(value, kind)), "another type")
