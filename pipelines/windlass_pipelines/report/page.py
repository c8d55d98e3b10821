"""Report page layout, tables and components. The page loads no resources and runs no scripts."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from windlass_pipelines.report.markup import Html, el, join, truncate

STYLE = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
"""Allows only the style sheet, by hash: no scripts, images, inline styles or requests."""


def document(title: str, body: Iterable[str]) -> str:
    """Return the HTML document."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=CONTENT_SECURITY_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", title),
        el("style", Html(STYLE)),
    )
    return "<!DOCTYPE html>\n" + el("html", head, el("body", join(body)), lang="en") + "\n"


def user_text(text: str, limit: int = 600) -> Html:
    """Return user-provided text, truncated to ``limit`` characters and isolated in text direction."""
    return el("bdi", truncate(text, limit))


def section(title: str, *children: str, lead: str = "") -> Html:
    """Return a section with a title; empty when it has no content."""
    content = join(children)
    if not content:
        return Html()
    return el("section", el("h2", title), el("p", lead, class_="lead") if lead else None, content)


def figure(title: str, drawing: Html, *, note: str = "", more: Html | None = None) -> Html:
    """Return a chart with its main result as title; empty without a drawing."""
    if not drawing:
        return Html()
    caption = el("figcaption", el("h3", title), el("p", note, class_="note") if note else None)
    return el("figure", caption, drawing, more)


def grid(*children: Html, width: str = "") -> Html:
    """Arrange figures in a responsive grid; ``halves`` or ``thirds`` limit the width of each."""
    content = join(children)
    return el("div", content, class_=f"grid {width}".strip()) if content else content


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str,
    numeric: Sequence[int] = (),
    class_: str = "",
) -> Html:
    """Return a table with row headers in the first column. ``numeric`` columns align right."""

    def align(column: int) -> str | None:
        return "number" if column in numeric else None

    head = el("tr", *(el("th", text, scope="col", class_=align(i)) for i, text in enumerate(headers)))
    body = [
        el(
            "tr",
            el("th", first, scope="row"),
            *(el("td", cell, class_=align(i), data_name=headers[i]) for i, cell in enumerate(rest, start=1)),
        )
        for first, *rest in rows
    ]
    if not body:
        return Html()
    content = el("table", el("caption", caption), el("thead", head), el("tbody", *body), class_=class_ or None)
    return el("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)


def details(summary: str, content: Html) -> Html:
    """Return collapsible content; empty without content."""
    return el("details", el("summary", summary), content) if content else content


def pairs(title: str, values: Mapping[str, str], *, columns: bool = False) -> Html:
    """Return a list of names and values, optionally in multiple columns."""
    if not values:
        return Html()
    items = (el("div", el("dt", name), el("dd", value)) for name, value in values.items() if value)
    return el("div", el("h3", title), el("dl", *items), class_="pairs columns" if columns else "pairs")
