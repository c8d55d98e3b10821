"""Data on standard output: table, JSON, YAML or names."""

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
from rich.table import Table
from rich.text import Text

from windlass.cli.safe_text import json_text, one_line
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
    "accepted": "yellow",
    "queued": "yellow",
    "pending": "yellow",
    "waits": "yellow",
    "warning": "yellow",
    "cancelling": "yellow",
    "cancelled": "dim",
    "stopped": "dim",
}


class Output(StrEnum):
    """What standard output carries."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column of a table, or one line of a record."""

    title: str
    value: Callable[[T], object]


def ascii_only(console: Console) -> bool:
    """Tell whether a terminal cannot show blocks and braille."""
    return not console.encoding.lower().startswith("utf")


def table(console: Console, columns: Sequence[Column[T]], items: Iterable[T]) -> None:
    """Print a table: coloured and folded on a terminal, plain whole lines elsewhere."""
    cells = [[cell(column.value(item)) for column in columns] for item in items]
    titles = [column.title.upper() for column in columns]
    if console.is_terminal:
        drawn = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for title in titles:
            drawn.add_column(title, overflow="fold")
        for row in cells:
            drawn.add_row(*(Text(text, style=STYLES.get(text, "")) for text in row))
        console.print(drawn)
        return
    widths = [max(map(cell_len, column)) for column in zip(titles, *cells, strict=True)]
    for row in (titles, *cells):
        padded = (text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def record(console: Console, columns: Sequence[Column[T]], item: T) -> None:
    """Print one object, a line per field; fields without a value are left out."""
    shown = [(column.title, cell(column.value(item))) for column in columns]
    shown = [(title, text) for title, text in shown if text not in {"", "-"}]
    width = max((len(title) for title, _ in shown), default=0)
    for title, text in shown:
        line = Text(f"{title:<{width}}  ", style="dim" if console.is_terminal else "")
        line.append(Text(text, style=STYLES.get(text, "default") if console.is_terminal else ""))
        console.print(line, soft_wrap=True)


def document(output: Output, data: Any) -> None:
    """Print plain data as JSON or YAML."""
    if output is Output.YAML:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=json_text(data).isascii())
        sys.stdout.write(text)
    else:
        sys.stdout.write(json_text(data) + "\n")


def plain(item: object) -> Any:
    """Return JSON data of a wire model, or of a list or mapping of them."""
    if isinstance(item, BaseModel):
        return item.model_dump(mode="json")
    if isinstance(item, dict):
        return {key: plain(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [plain(value) for value in item]
    return item


def cell(value: object) -> str:
    """Return the text of one cell; ``-`` for nothing."""
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
    """Return why something waits or failed and what to do, as sentences on one line; empty without a reason."""
    if reason is None:
        return ""
    message, action = one_line(reason.message).strip(), one_line(reason.action).strip()
    return " ".join(part if part[-1] in ".!?" else f"{part}." for part in (message, action) if part)


def age(moment: datetime, now: datetime | None = None) -> str:
    """Return how long ago a moment was: ``12s``, ``5m``, ``3h``, ``2d``."""
    return duration(((now or datetime.now(UTC)) - moment).total_seconds()) + " ago"


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units at most."""
    whole = max(int(seconds), 0)
    if whole < 60:  # noqa: PLR2004 - seconds in a minute
        return f"{whole}s"
    minutes, seconds_left = divmod(whole, 60)
    if minutes < 60:  # noqa: PLR2004 - minutes in an hour
        return f"{minutes}m{seconds_left:02d}s" if minutes < 10 else f"{minutes}m"  # noqa: PLR2004 - then seconds no longer matter
    hours, minutes_left = divmod(minutes, 60)
    if hours < 48:  # noqa: PLR2004 - then days say more
        return f"{hours}h{minutes_left:02d}m"
    return f"{hours // 24}d"


def size(count: int) -> str:
    """Return bytes in binary units."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - binary units
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
