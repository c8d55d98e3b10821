"""Builds HTML and inline SVG. Every string is escaped unless it is Html: what is forgotten shows as text, not code."""

import html
import re
from collections.abc import Iterable

_VOID = frozenset({"br", "hr", "meta", "wbr"})
# Not characters of an HTML document, or (bidirectional overrides) able to make text read as something else.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


class Html(str):
    """Markup that may stand in a page as it is. What ``+`` and ``format`` make of it is plain text again."""

    __slots__ = ()


Attribute = str | float | bool | None


def clean(text: str) -> str:
    """Replace control characters, lone surrogates and direction overrides by U+FFFD; keep tabs and newlines."""
    return _UNWANTED.sub("\ufffd", text)


def cut(text: str, limit: int) -> str:
    """Return ``text``, or its first ``limit - 1`` characters and an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"


def escape(text: str) -> Html:
    """Return ``text`` as markup that shows it; markup passes unchanged."""
    return text if isinstance(text, Html) else Html(html.escape(clean(text)))


def join(parts: Iterable[str]) -> Html:
    """Concatenate, escaping what is not markup."""
    return Html("".join(escape(part) for part in parts))


def coordinate(value: float) -> str:
    """Write a number for an SVG attribute: at most two decimals, no trailing zeros, never ``-0``."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def el(name: str, /, *children: str | None, **attributes: Attribute) -> Html:
    """Build one element. ``class_`` is ``class``, ``aria_label`` is ``aria-label``; None and False leave out."""
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
