"""Numeric series as curves, sparklines and bars in the terminal: braille and blocks, or plain ASCII."""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

_LEAST_LINES = 4
_LEAST_PLOT = 8
"""Cells; a narrower or lower plot gives way to a sparkline."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_INK = ".:-=+*#@"
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille cell by row and column, from U+2800."""
_UNSAFE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_CURVE, _QUIET, _TITLE = "cyan", "dim", "bold"

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class _Frame:
    """Maps steps and values (already logarithms where asked) to shares of the plot."""

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


@dataclass(frozen=True)
class Curve:
    """A curve as wide as the console gives it, in the characters that the console's encoding has."""

    points: Points
    height: int = 12
    title: str = ""
    unit: str = ""
    log: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw for the console at hand."""
        yield draw_curve(
            self.points,
            options.max_width,
            self.height,
            self.title,
            self.unit,
            log=self.log,
            ascii_only=options.ascii_only,
        )


def draw_curve(
    points: Points,
    width: int,
    height: int,
    title: str = "",
    unit: str = "",
    *,
    log: bool = False,
    ascii_only: bool = False,
) -> Text:
    """Draw (step, value) points, in step order, in at most ``width`` cells and ``height`` (at least 4) lines.

    The title line ends with the last value; lowest and highest value stand at the axis. Values that are not finite
    (with ``log`` also those not above 0) are gaps. A terminal too small for axes gets a sparkline.
    """
    width, height = max(width, 1), max(height, _LEAST_LINES)
    scaled = [(step, _scaled(value, log=log)) for step, value in points]
    known = [value for (_, place), (_, value) in zip(scaled, points, strict=True) if place is not None]
    if not known:
        return _join([Text(_fit(_clean(f"{title}: no values yet" if title else "no values yet", ascii_only), width))])
    low, high = min(known), max(known)
    lines = [_heading(title, _figure(known[-1], unit), width, ascii_only)] if title else []
    labels = [_figure(high), _figure(low)]
    gutter = max(map(len, labels)) + 1
    rows, columns = height - len(lines) - 2, width - gutter - 1
    if rows < 2 or columns < _LEAST_PLOT:  # noqa: PLR2004 - one row for the highest, one for the lowest
        return _join(lines + _small(known, labels, width, height - len(lines), ascii_only=ascii_only))

    places = [place for _, place in scaled if place is not None]
    steps = [step for step, place in scaled if place is not None]
    frame = _Frame(min(steps), max(steps), min(places), max(places))
    bar, corner, dash = ("|", "+", "-") if ascii_only else ("│", "└", "─")
    named = {0: labels[0], rows - 1: labels[1]} if low < high else {rows // 2: labels[0]}
    for row, cells in enumerate(_plot(scaled, frame, columns, rows, ascii_only=ascii_only)):
        lines.append(Text.assemble((f"{named.get(row, ''):>{gutter - 1}} {bar}", _QUIET), (cells, _CURVE)))
    lines.append(Text(" " * gutter + corner + dash * columns, _QUIET))
    lines.append(Text(" " * (gutter + 1) + _step_axis(frame, columns), _QUIET))
    return _join(lines)


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Draw values in at most ``width`` characters, one each or the mean of a run; what is not finite is blank."""
    levels = _INK if ascii_only else _BLOCKS
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
    """Draw one bar per name, in the mapping's order, in at most ``width`` cells; the counts are always in full."""
    if not counts:
        return Text()
    names = {name: _clean(name, ascii_only) for name in counts}
    figures = {name: f"{count:,}" for name, count in counts.items()}
    widest = max(map(len, figures.values()))
    label = min(max(map(cell_len, names.values())), (width - widest) // 2)
    room = width - label - widest - 2
    if room < 1:
        return _join([Text(_fit(figure, max(width, 1))) for figure in figures.values()])
    most = max(1, *counts.values())
    return _join(
        [
            Text.assemble(
                set_cell_size(_fit(names[name], label), label) + " ",
                (_bar(max(count, 0) / most, room, ascii_only=ascii_only), _CURVE),
                f" {figures[name]:>{widest}}",
            )
            for name, count in counts.items()
        ]
    )


def _join(lines: Iterable[Text]) -> Text:
    joined = Text("\n").join(lines)
    joined.no_wrap, joined.overflow = True, "crop"
    return joined


def _scaled(value: float, *, log: bool) -> float | None:
    """Return where a value stands on the axis, None for a gap."""
    if not math.isfinite(value) or (log and value <= 0):
        return None
    return math.log10(value) if log else value


def _clean(text: str, ascii_only: bool) -> str:
    """Make text of one line without control and format characters; they could steer the terminal."""
    kept = "".join(" " if unicodedata.category(c) in _UNSAFE else c for c in text)
    return kept.encode("ascii", "replace").decode() if ascii_only else kept


def _fit(text: str, width: int) -> str:
    """Cut text to a number of cells."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + "~" if width > 1 else set_cell_size(text, width)


def _figure(value: float, unit: str = "") -> str:
    """Write a value in at most ten characters, and its unit."""
    large = 1000 <= abs(value) < 1e7  # noqa: PLR2004 - whole numbers that still read well
    return (f"{value:.0f}" if large else f"{value:.3g}") + (f" {unit}" if unit else "")


def _heading(title: str, last: str, width: int, ascii_only: bool) -> Text:
    name, value = _clean(title, ascii_only), _clean(last, ascii_only)
    if cell_len(value) + 2 > width:
        return Text(_fit(name, width), _TITLE)
    room = width - cell_len(value) - 1
    return Text.assemble((set_cell_size(_fit(name, room), room) + " ", _TITLE), value)


def _small(values: Sequence[float], labels: Sequence[str], width: int, height: int, *, ascii_only: bool) -> list[Text]:
    """Show a series without axes: a sparkline, then highest and lowest, beside each other where they fit."""
    high, low = labels
    span = f"{low}..{high}"
    ends = [high] if high == low else [span] if len(span) <= width else [high, low]
    lines = [Text(sparkline(values, width, ascii_only=ascii_only), _CURVE), *(Text(_fit(end, width)) for end in ends)]
    return lines[:height]


def _step_axis(frame: _Frame, columns: int) -> str:
    first, last = str(frame.first), str(frame.last)
    if first == last or len(first) + len(last) + 1 > columns:
        return _fit(f"step {first}" if first == last else last.rjust(columns), columns)
    between = columns - len(first) - len(last)
    return first + (" step ".center(between) if between >= len(" step ") else " " * between) + last


def _bar(share: float, room: int, *, ascii_only: bool) -> str:
    """Fill a share of ``room`` cells; what is not nothing shows at least a trace."""
    if ascii_only:
        return ("#" * max(round(share * room), 1 if share else 0)).ljust(room)
    eighths = max(round(share * room * 8), 1 if share else 0)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).ljust(room)


def _plot(
    points: Sequence[tuple[int, float | None]], frame: _Frame, columns: int, rows: int, *, ascii_only: bool
) -> list[str]:
    """Return the rows of the plot, each ``columns`` characters; None is a gap."""
    across, down = (1, 2) if ascii_only else (2, 4)
    right, bottom = columns * across - 1, rows * down - 1
    lit: set[tuple[int, int]] = set()
    before: tuple[int, int] | None = None
    for step, value in points:
        if value is None:
            before = None
            continue
        dot = (round(frame.x(step) * right), round((1 - frame.y(value)) * bottom))
        lit.update(_segment(before or dot, dot))
        before = dot
    glyph = _ascii_glyph if ascii_only else _braille_glyph
    return ["".join(glyph(lit, column, row) for column in range(columns)) for row in range(rows)]


def _segment(start: tuple[int, int], end: tuple[int, int]) -> Iterable[tuple[int, int]]:
    """Yield the dots from start to end, both included."""
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
