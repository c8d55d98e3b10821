"""Makes untrusted text safe to print: no character can move the cursor, hide text or change its direction."""

import json
import re
from typing import Any

# C0 and C1 controls, DEL, line separators, and the marks that override writing direction (UAX #9).
_HIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_HIDDEN_EXCEPT_NEWLINE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_ESCAPE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[@-Z\\\\-_])")


def one_line(value: object) -> str:
    """Return ``value`` as text without control characters; line breaks become spaces."""
    text = re.sub(r"[\r\n]+", " ", str(value))
    return _HIDDEN.sub("\N{REPLACEMENT CHARACTER}", _ESCAPE.sub("", text))


def lines(text: str) -> str:
    """Return text without control characters other than line breaks and tabs.

    Carriage returns, which progress bars write, become line breaks.
    """
    text = _ESCAPE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _HIDDEN_EXCEPT_NEWLINE.sub("\N{REPLACEMENT CHARACTER}", text)


def json_text(data: Any) -> str:
    """Return indented JSON with hidden characters escaped: the same data, safe to print."""
    return _escaped(json.dumps(data, ensure_ascii=False, indent=2, default=str))


def json_line(data: Any) -> str:
    """Return JSON on one line with hidden characters escaped."""
    return _escaped(json.dumps(data, ensure_ascii=False, default=str))


def has_hidden(data: Any) -> bool:
    """Return whether JSON data has hidden characters other than those that JSON and YAML always escape."""
    return _HIDDEN.search(json.dumps(data, ensure_ascii=False, default=str)) is not None


def _escaped(text: str) -> str:
    return _HIDDEN_EXCEPT_NEWLINE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
