"""Prints data on standard output as a table, JSON, YAML or names."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from windlass.cli.safe_text import has_hidden, json_text, one_line
from windlass.wire.base import ReasonOut

T = TypeVar("T", bound=BaseModel)

STYLES = {
    "succeeded": "green",
    "ready": "green",
    "candidate": "green",
    "starts": "green",
    "ok": "green",
    "failed": "bold red",
    "rejected": "bold red",
    "error": "bold red",
    "never": "bold red",
    "running": "cyan",
    "starting": "cyan",
    "rolling-out": "cyan",
    "processing": "cyan",
    "importing": "cyan",
    "queued": "yellow",
    "pending": "yellow",
    "waits": "yellow",
    "warning": "yellow",
    "cancelling": "yellow",
    "exhausted": "bold red",
    "cancelled": "dim",
    "stopped": "dim",
}


class Output(StrEnum):
    """Output formats. ``wide`` is a table with all columns, whatever the width of the terminal."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column of a table, or a line of a record. Tables have the most important columns first."""

    title: str
    value: Callable[[T], object]
    shrinks: bool = False
    """Whether a narrow terminal may cut its text: true for sentences, never for names and ids."""
    keep: bool = False
    """Whether a narrow terminal shows it although it is not one of the first columns."""


def ascii_only(console: Console) -> bool:
    """Return whether the console cannot show block and braille characters."""
    return not console.encoding.lower().startswith("utf")


def table(console: Console, columns: Sequence[Column[T]], items: Iterable[T], *, wide: bool = False) -> list[str]:
    """Print a table with one line for each item, and return the titles of the columns that it leaves out.

    On a terminal, texts that may be cut are cut and the last columns are left out until a line fits, except when
    ``wide``.
    """
    cells = [[cell(column.value(item)) for column in columns] for item in items]
    titles = [column.title.upper() for column in columns]
    natural = [max(map(cell_len, column)) for column in zip(titles, *cells, strict=True)]
    if not console.is_terminal:
        for row in (titles, *cells):
            sys.stdout.write("  ".join(map(_pad, row, natural)).rstrip() + "\n")
        return []
    empty = [all(row[index] == "-" for row in cells) for index in range(len(columns))]
    widths = dict(enumerate(natural)) if wide else _fitting(columns, natural, empty, console.width)
    for number, row in enumerate((titles, *cells)):
        line = Text()
        for index, width in widths.items():
            text = Text(row[index], style=STYLES.get(row[index], "") if number else "dim")
            text.truncate(width, overflow="ellipsis", pad=True)
            line.append_text(text).append(_GAP)
        line.rstrip()
        console.print(line, soft_wrap=True)
    return [title for index, title in enumerate(titles) if index not in widths and not empty[index]]


_GAP = "  "
_MIN_TEXT_WIDTH = 20
"""Width to which a text may be cut to make room for other columns."""


def _fitting(
    columns: Sequence[Column[T]], natural: Sequence[int], empty: Sequence[bool], available: int
) -> dict[int, int]:
    """Return the columns that fit, by index, with their widths; the first column is always shown."""
    least = [
        min(width, max(_MIN_TEXT_WIDTH, len(column.title))) if column.shrinks else width
        for column, width in zip(columns, natural, strict=True)
    ]
    shown = list(range(len(columns)))

    def excess() -> int:
        return sum(least[index] for index in shown) + len(_GAP) * (len(shown) - 1) - available

    droppable = sorted(shown[1:], key=lambda index: (not empty[index], columns[index].keep, -index))
    while excess() > 0 and droppable:
        shown.remove(droppable.pop(0))
    spare = max(0, -excess())
    widths = {}
    for index in shown:
        grown = min(natural[index] - least[index], spare)
        widths[index], spare = least[index] + grown, spare - grown
    return widths


def _pad(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def record(console: Console, columns: Sequence[Column[T]], item: T) -> None:
    """Print one object, one line per field; fields without a value are omitted."""
    shown = [(column.title, cell(column.value(item))) for column in columns]
    shown = [(title, text) for title, text in shown if text not in {"", "-"}]
    width = max((len(title) for title, _ in shown), default=0)
    for title, text in shown:
        line = Text(f"{title:<{width}}  ", style="dim" if console.is_terminal else "")
        line.append(Text(text, style=STYLES.get(text, "default") if console.is_terminal else ""))
        console.print(line, soft_wrap=True)


def document(output: Output, data: Any) -> None:
    """Print JSON data as JSON or YAML."""
    if output is Output.YAML:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=not has_hidden(data))
        sys.stdout.write(text)
    else:
        sys.stdout.write(json_text(data) + "\n")


def plain(item: object) -> Any:
    """Return the JSON data of a wire model, or of a list or mapping of wire models."""
    if isinstance(item, BaseModel):
        return item.model_dump(mode="json")
    if isinstance(item, dict):
        return {key: plain(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [plain(value) for value in item]
    return item


def cell(value: object) -> str:
    """Return the text of one cell; ``-`` for an empty value."""
    match value:
        case None | "" | [] | ():
            text = "-"
        case bool():
            text = "yes" if value else "no"
        case datetime():
            text = age(value)
        case float():
            text = f"{value:.4g}"
        case dict():
            text = ", ".join(f"{one_line(key)}={cell(inner)}" for key, inner in value.items()) or "-"
        case list() | tuple():
            text = ", ".join(map(cell, value))
        case _:
            text = one_line(value)
    return text


def reason_text(reason: ReasonOut | None) -> str:
    """Return message and action of a reason as sentences on one line; empty without a reason."""
    if reason is None:
        return ""
    message, action = one_line(reason.message).strip(), one_line(reason.action).strip()
    return " ".join(part if part[-1] in ".!?" else f"{part}." for part in (message, action) if part)


def age(moment: datetime, now: datetime | None = None) -> str:
    """Return the time since ``moment``, such as ``5m ago``."""
    return duration(((now or datetime.now(UTC)) - moment).total_seconds()) + " ago"


def duration(seconds: float) -> str:
    """Return a duration in at most two units, such as ``3m05s`` or ``2d``."""
    rounded = max(int(seconds), 0)
    if rounded < 60:  # noqa: PLR2004 - seconds in a minute
        return f"{rounded}s"
    minutes, seconds_left = divmod(rounded, 60)
    if minutes < 60:  # noqa: PLR2004 - minutes in an hour
        return f"{minutes}m{seconds_left:02d}s" if minutes < 10 else f"{minutes}m"  # noqa: PLR2004 - seconds are omitted from 10 minutes on
    hours, minutes_left = divmod(minutes, 60)
    if hours < 48:  # noqa: PLR2004 - days are shown from 48 hours on
        return f"{hours}h{minutes_left:02d}m"
    return f"{hours // 24}d"
