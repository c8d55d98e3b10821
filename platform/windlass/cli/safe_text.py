"""Text that others wrote, made safe to print: no character may move the cursor, hide text or change its direction."""

import json
import re
from typing import Any

# C0 and C1 controls, DEL, line separators, and the marks that override writing direction (UAX #9).
_HIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_HIDDEN_BUT_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_ESCAPE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[@-Z\\\\-_])")


def one_line(value: object) -> str:
    """Return ``value`` as text without control characters; line ends become spaces."""
    text = re.sub(r"[\r\n]+", " ", str(value))
    return _HIDDEN.sub("\N{REPLACEMENT CHARACTER}", _ESCAPE.sub("", text))


def lines(text: str) -> str:
    """Return text that may have several lines, without other control characters.

    Carriage returns, as progress bars write them, become line ends.
    """
    text = _ESCAPE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _HIDDEN_BUT_LINES.sub("\N{REPLACEMENT CHARACTER}", text)


def json_text(data: Any) -> str:
    """Return JSON whose hidden characters are escaped: the same data, safe on a terminal."""
    return _escaped(json.dumps(data, ensure_ascii=False, indent=2, default=str))


def json_line(data: Any) -> str:
    """Return the same on one line."""
    return _escaped(json.dumps(data, ensure_ascii=False, default=str))


def _escaped(text: str) -> str:
    return _HIDDEN_BUT_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
