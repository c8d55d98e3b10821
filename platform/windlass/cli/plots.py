"""Line plots, sparklines and bar charts for the terminal: braille and block characters, or ASCII."""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

_MIN_LINES = 4
_MIN_COLUMNS = 8
"""Cells; a smaller plot is replaced by a sparkline."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = ".:-=+*#@"
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille cell by row and column, added to U+2800."""
_UNSAFE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_CURVE_STYLE, _AXIS_STYLE, _TITLE_STYLE = "cyan", "dim", "bold"

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class _Frame:
    """Maps steps and values to fractions of the plot."""

    first: int
    last: int
    low: float
    high: float

    def x(self, step: int) -> float:
        return (step - self.first) / (self.last - self.first) if self.last > self.first else 0.0

    def y(self, value: float) -> float:
        if self.low == self.high:
            return 0.5
        if math.isinf(self.high - self.low):
            return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return (value - self.low) / (self.high - self.low)


def draw_curve(
    points: Points,
    width: int,
    height: int,
    title: str = "",
    *,
    ascii_only: bool = False,
) -> Text:
    """Draw (step, value) points, sorted by step, in at most ``width`` cells and ``height`` (at least 4) lines.

    The title line ends with the last value; the axis shows the lowest and the highest value. Values that are not
    finite are gaps. A terminal too small for axes gets a sparkline.
    """
    width, height = max(width, 1), max(height, _MIN_LINES)
    known = [value for _, value in points if math.isfinite(value)]
    if not known:
        return _join([Text(_fit(_clean(f"{title}: no values yet" if title else "no values yet", ascii_only), width))])
    low, high = min(known), max(known)
    lines = [_heading(title, _figure(known[-1]), width, ascii_only)] if title else []
    labels = [_figure(high), _figure(low)]
    gutter = max(map(len, labels)) + 1
    rows, columns = height - len(lines) - 2, width - gutter - 1
    if rows < 2 or columns < _MIN_COLUMNS:  # noqa: PLR2004 - one row for the highest and one for the lowest value
        return _join(lines + _small(known, labels, width, height - len(lines), ascii_only=ascii_only))

    steps = [step for step, value in points if math.isfinite(value)]
    frame = _Frame(min(steps), max(steps), low, high)
    bar, corner, dash = ("|", "+", "-") if ascii_only else ("│", "└", "─")
    named = {0: labels[0], rows - 1: labels[1]} if low < high else {rows // 2: labels[0]}
    for row, cells in enumerate(_plot(points, frame, columns, rows, ascii_only=ascii_only)):
        lines.append(Text.assemble((f"{named.get(row, ''):>{gutter - 1}} {bar}", _AXIS_STYLE), (cells, _CURVE_STYLE)))
    lines.append(Text(" " * gutter + corner + dash * columns, _AXIS_STYLE))
    lines.append(Text(" " * (gutter + 1) + _step_axis(frame, columns), _AXIS_STYLE))
    return _join(lines)


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Draw values in at most ``width`` characters: one per value, or the mean of neighbours; gaps are blank."""
    levels = _ASCII_BLOCKS if ascii_only else _BLOCKS
    cells = min(max(width, 0), len(values))
    means = []
    for i in range(cells):
        run = [v for v in values[i * len(values) // cells : (i + 1) * len(values) // cells] if math.isfinite(v)]
        means.append(sum(v / len(run) for v in run) if run else math.nan)
    known = [mean for mean in means if math.isfinite(mean)]
    if not known:
        return " " * cells
    frame = _Frame(0, 0, min(known), max(known))
    top = len(levels) - 1
    return "".join(levels[round(frame.y(mean) * top)] if math.isfinite(mean) else " " for mean in means)


def bars(counts: Mapping[str, int], width: int, *, ascii_only: bool = False) -> Text:
    """Draw one bar per name, in the mapping's order, in at most ``width`` cells; counts are never cut."""
    if not counts:
        return Text()
    names = {name: _clean(name, ascii_only) for name in counts}
    figures = {name: f"{count:,}" for name, count in counts.items()}
    widest = max(map(len, figures.values()))
    label = min(max(map(cell_len, names.values())), (width - widest) // 2)
    room = width - label - widest - 2
    if room < 1:
        return _join([Text(_fit(figure, max(width, 1))) for figure in figures.values()])
    maximum = max(1, *counts.values())
    return _join(
        [
            Text.assemble(
                set_cell_size(_fit(names[name], label), label) + " ",
                (_bar(max(count, 0) / maximum, room, ascii_only=ascii_only), _CURVE_STYLE),
                f" {figures[name]:>{widest}}",
            )
            for name, count in counts.items()
        ]
    )


def _join(lines: Iterable[Text]) -> Text:
    joined = Text("\n").join(lines)
    joined.no_wrap, joined.overflow = True, "crop"
    return joined


def _clean(text: str, ascii_only: bool) -> str:
    """Return one line without control and format characters, which could control the terminal."""
    cleaned = "".join(" " if unicodedata.category(c) in _UNSAFE else c for c in text)
    return cleaned.encode("ascii", "replace").decode() if ascii_only else cleaned


def _fit(text: str, width: int) -> str:
    """Cut text to ``width`` cells."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + "~" if width > 1 else set_cell_size(text, width)


def _figure(value: float) -> str:
    """Format a value in at most ten characters."""
    large = 1000 <= abs(value) < 1e7  # noqa: PLR2004 - readable as a whole number
    return f"{value:.0f}" if large else f"{value:.3g}"


def _heading(title: str, last: str, width: int, ascii_only: bool) -> Text:
    name = _clean(title, ascii_only)
    if len(last) + 2 > width:
        return Text(_fit(name, width), _TITLE_STYLE)
    room = width - len(last) - 1
    return Text.assemble((set_cell_size(_fit(name, room), room) + " ", _TITLE_STYLE), last)


def _small(values: Sequence[float], labels: Sequence[str], width: int, height: int, *, ascii_only: bool) -> list[Text]:
    """Draw a series without axes: a sparkline, then the range on one line if it fits."""
    high, low = labels
    span = f"{low}..{high}"
    ends = [high] if high == low else [span] if len(span) <= width else [high, low]
    lines = [
        Text(sparkline(values, width, ascii_only=ascii_only), _CURVE_STYLE),
        *(Text(_fit(end, width)) for end in ends),
    ]
    return lines[:height]


def _step_axis(frame: _Frame, columns: int) -> str:
    first, last = str(frame.first), str(frame.last)
    if first == last or len(first) + len(last) + 1 > columns:
        return _fit(f"step {first}" if first == last else last.rjust(columns), columns)
    between = columns - len(first) - len(last)
    return first + (" step ".center(between) if between >= len(" step ") else " " * between) + last


def _bar(fraction: float, room: int, *, ascii_only: bool) -> str:
    """Fill a fraction of ``room`` cells; a fraction above 0 fills at least the smallest unit."""
    if ascii_only:
        return ("#" * max(round(fraction * room), 1 if fraction else 0)).ljust(room)
    eighths = max(round(fraction * room * 8), 1 if fraction else 0)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).ljust(room)


def _plot(points: Points, frame: _Frame, columns: int, rows: int, *, ascii_only: bool) -> list[str]:
    """Return the rows of the plot, each ``columns`` characters wide; a value that is not finite is a gap."""
    across, down = (1, 2) if ascii_only else (2, 4)
    right, bottom = columns * across - 1, rows * down - 1
    lit: set[tuple[int, int]] = set()
    previous: tuple[int, int] | None = None
    for step, value in points:
        if not math.isfinite(value):
            previous = None
            continue
        dot = (round(frame.x(step) * right), round((1 - frame.y(value)) * bottom))
        lit.update(_segment(previous or dot, dot))
        previous = dot
    glyph = _ascii_glyph if ascii_only else _braille_glyph
    return ["".join(glyph(lit, column, row) for column in range(columns)) for row in range(rows)]


def _segment(start: tuple[int, int], end: tuple[int, int]) -> Iterable[tuple[int, int]]:
    """Yield the dots from start to end, inclusive."""
    (x0, y0), (x1, y1) = start, end
    count = max(abs(x1 - x0), abs(y1 - y0), 1)
    return ((x0 + round((x1 - x0) * i / count), y0 + round((y1 - y0) * i / count)) for i in range(count + 1))


def _braille_glyph(lit: set[tuple[int, int]], column: int, row: int) -> str:
    bits = sum(
        bit for y, line in enumerate(_DOTS) for x, bit in enumerate(line) if (2 * column + x, 4 * row + y) in lit
    )
    return chr(0x2800 + bits) if bits else " "


def _ascii_glyph(lit: set[tuple[int, int]], column: int, row: int) -> str:
    return " '.:"[((column, 2 * row) in lit) + 2 * ((column, 2 * row + 1) in lit)]
