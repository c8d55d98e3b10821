"""Builds HTML and inline SVG. Every string is escaped unless it is ``Html``."""

import html
import re
from collections.abc import Iterable

_VOID = frozenset({"br", "hr", "meta", "wbr"})
# Characters that are invalid in HTML, and bidirectional overrides, which can spoof text.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


class Html(str):
    """Escaped markup. The results of ``+`` and ``format`` are plain text again."""

    __slots__ = ()


Attribute = str | float | bool | None


def clean(text: str) -> str:
    """Replace control characters, lone surrogates and bidirectional overrides by U+FFFD; keep tabs and newlines."""
    return _UNWANTED.sub("\ufffd", text)


def truncate(text: str, limit: int) -> str:
    """Return ``text``, or its first ``limit - 1`` characters and an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"


def escape(text: str) -> Html:
    """Escape ``text``; markup is returned unchanged."""
    return text if isinstance(text, Html) else Html(html.escape(clean(text)))


def join(parts: Iterable[str]) -> Html:
    """Concatenate, escaping strings that are not markup."""
    return Html("".join(escape(part) for part in parts))


def coordinate(value: float) -> str:
    """Format a number for an SVG attribute: at most two decimals, no trailing zeros, never ``-0``."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def el(name: str, /, *children: str | None, **attributes: Attribute) -> Html:
    """Build one element. ``class_`` is ``class``, ``aria_label`` is ``aria-label``; None and False are omitted."""
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.removesuffix("_").replace("_", "-")
        if value is True:
            written.append(f" {attribute}")
        else:
            shown = value if isinstance(value, str) else coordinate(value)
            written.append(f' {attribute}="{escape(str(shown))}"')
    start = f"<{name}{''.join(written)}>"
    if name in _VOID:
        return Html(start)
    return Html(f"{start}{join(child for child in children if child is not None)}</{name}>")
