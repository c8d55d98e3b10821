"""Charts as inline SVG: they scale with the page while text keeps its size; hover effects use CSS only.

The coordinate system is the plot area: x in per cent of its width, y in pixels from its top. Axis labels are outside
(``overflow: visible``), in the padding of ``.plot`` in the style sheet. Only the curves are in a nested ``svg`` that is
scaled without preserving its aspect ratio; its strokes do not scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from windlass_pipelines.report.formatting import number, tick_labels, ticks
from windlass_pipelines.report.markup import Html, coordinate, el, join

_UNITS = 1000
"""Width of the nested coordinate system of curves."""
_MAX_DRAWN = 800
_MAX_HOVER_STRIPS = 80
_MAX_DOTS = 30
_SMOOTH_FROM = 60
_MAX_PLOTTED = 1e100
"""Larger values, like infinity and NaN, are gaps; their sums could overflow."""
_NOISE_RATIO = 4
"""A curve is noisy when its total variation exceeds its range by this factor."""
_LABEL_HEIGHT = 15
_LOW = 160
"""Charts below this height have fewer grid lines."""
_NEAR_AXIS = 0.1
"""Share of the width in which a centred tick label would touch the y axis."""
_ZERO_WITHIN = 0.35
"""The y axis starts at 0 when the lowest value is below this share of the highest."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One named curve. ``tone`` is a CSS class: ``main`` or ``quiet``."""

    name: str
    points: Points
    tone: str = "main"


@dataclass(frozen=True)
class ReferenceLine:
    """A horizontal reference line, e.g. a gate."""

    name: str
    value: float


@dataclass(frozen=True)
class _Frame:
    left: float
    right: float
    low: float
    high: float
    height: int

    def x(self, value: float) -> float:
        """Return x as a fraction of the width, 0 to 1."""
        return (value - self.left) / (self.right - self.left) if self.right > self.left else 0.5

    def y(self, value: float) -> float:
        return self.height * (1 - (value - self.low) / (self.high - self.low))


def finite(points: Points) -> list[tuple[float, float]]:
    """Drop points that cannot be plotted on a linear axis."""
    return [(x, y) for x, y in points if _is_plottable(y)]


def _is_plottable(value: float) -> bool:
    return abs(value) < _MAX_PLOTTED


def downsample(points: Points, limit: int) -> Points:
    """Keep about ``limit`` points: the minimum and maximum of each of ``limit / 2`` windows, and both ends."""
    if len(points) <= limit:
        return points
    runs = max(1, limit // 2)
    kept_indices = {0, len(points) - 1}
    for run in range(runs):
        span = range(run * len(points) // runs, (run + 1) * len(points) // runs)
        kept_indices |= {min(span, key=lambda i: points[i][1]), max(span, key=lambda i: points[i][1])}
    return [points[i] for i in sorted(kept_indices)]


def smooth(points: Points) -> Points:
    """Return the centred moving average over a fifteenth of the curve; the window is narrower at both ends."""
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    reach, last = len(points) // 30, len(points) - 1
    spans = ((i - min(reach, i, last - i), i + min(reach, i, last - i) + 1) for i in range(len(points)))
    return [(x, (sums[end] - sums[start]) / (end - start)) for (x, _), (start, end) in zip(points, spans, strict=True)]


def _is_noisy(points: Points) -> bool:
    values = [y for _, y in points]
    travel = sum(abs(b - a) for a, b in pairwise(values))
    return len(points) > _SMOOTH_FROM and travel > _NOISE_RATIO * (max(values) - min(values))


def _percent_of_width(share: float) -> str:
    return f"{coordinate(100 * share)}%"


def _frame(
    series: Sequence[Series], levels: Sequence[ReferenceLine], height: int
) -> tuple[_Frame, tuple[float, ...]] | None:
    points = [point for curve in series for point in finite(curve.points)]
    if not points:
        return None
    values = [y for _, y in points] + [level.value for level in levels]
    low, high = min(values), max(values)
    if 0 < low < _ZERO_WITHIN * high:
        low = 0.0
    marks = ticks(low, high, 2 if height < _LOW else 4)
    steps = [x for x, _ in points]
    return _Frame(min(steps), max(steps), marks[0], marks[-1], height), marks


def _axes(frame: _Frame, marks: Sequence[float], x_name: str) -> Html:
    parts = []
    for value, label in zip(marks, tick_labels(marks), strict=True):
        y = frame.y(value)
        parts.append(el("line", class_="base" if value == marks[0] else "grid", x1="0", x2="100%", y1=y, y2=y))
        parts.append(el("text", label, class_="tick", x="0", dx=-8, y=y, dy=4, text_anchor="end"))
    integer_ticks = [v for v in ticks(frame.left, frame.right, 5) if frame.left <= v <= frame.right and v == round(v)]
    steps = integer_ticks if len(integer_ticks) > 1 else sorted({frame.left, frame.right})
    for i, (value, label) in enumerate(zip(steps, tick_labels(steps), strict=True)):
        named = label if i else f"{x_name} {label}"
        anchor = "start" if frame.x(value) < _NEAR_AXIS else "middle"
        parts.append(
            el(
                "text",
                named,
                class_="tick",
                x=_percent_of_width(frame.x(value)),
                y=frame.height,
                dy=18,
                text_anchor=anchor,
            )
        )
    return join(parts)


def _segments(points: Points) -> list[list[tuple[float, float]]]:
    """Split a curve at its gaps."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if _is_plottable(point[1]):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _path(points: Points, frame: _Frame, class_: str) -> Html:
    lines = (
        " ".join(
            f"{coordinate(_UNITS * frame.x(x))},{coordinate(frame.y(y))}" for x, y in downsample(piece, _MAX_DRAWN)
        )
        for piece in _segments(points)
    )
    return el("path", d="".join(f"M{line}" for line in lines), class_=class_)


def _curves(series: Sequence[Series], frame: _Frame) -> Html:
    lines, dots = [], []
    for curve in series:
        finite_points = finite(curve.points)
        noisy = _is_noisy(finite_points)
        lines.append(_path(curve.points, frame, f"curve {curve.tone}{' raw' if noisy else ''}"))
        if noisy:
            lines.append(_path(smooth(finite_points), frame, f"curve {curve.tone}"))
        if len(finite_points) <= _MAX_DOTS:
            dots += [
                el("circle", class_=f"dot {curve.tone}", cx=_percent_of_width(frame.x(x)), cy=frame.y(y), r=3)
                for x, y in finite_points
            ]
    box = f"0 0 {_UNITS} {frame.height}"
    inner = el("svg", *lines, viewBox=box, preserveAspectRatio="none", width="100%", height=frame.height)
    return join([inner, *dots])


def _last(curve: Series) -> float:
    finite_points = finite(curve.points)
    return (smooth(finite_points) if _is_noisy(finite_points) else finite_points)[-1][1]


def _end_labels(series: Sequence[Series], frame: _Frame) -> Html:
    """Label each of several curves at its end; move labels apart that would overlap."""
    if len(series) == 1:
        return Html()  # it is named in the title
    labels = sorted((frame.y(_last(curve)), curve.name, number(_last(curve)), curve.tone) for curve in series)
    label_positions: list[float] = []
    for y, *_ in labels:
        label_positions.append(max(y, label_positions[-1] + 2 * _LABEL_HEIGHT) if label_positions else y)
    spill = max(0.0, label_positions[-1] + _LABEL_HEIGHT - frame.height)
    return join(
        el(
            "text",
            el("tspan", name, x="100%", dx=10, dy=-1),
            el("tspan", value, x="100%", dx=10, dy=_LABEL_HEIGHT - 1, class_="value"),
            class_=f"name {tone}",
            y=position - spill,
        )
        for position, (_, name, value, tone) in zip(label_positions, labels, strict=True)
    )


def _reference_line(level: ReferenceLine, frame: _Frame) -> Html:
    y = frame.y(level.value)
    name = el("text", f"{level.name} {level.value:g}", class_="name level", x="100%", y=y + 15, text_anchor="end")
    return join([el("line", class_="level", x1="0", x2="100%", y1=y, y2=y), name])


def _hover_strips(series: Sequence[Series], frame: _Frame, x_name: str) -> Html:
    """Return vertical strips that show the values of their step above the plot on hover."""
    values_by_step: dict[float, list[tuple[Series, float]]] = {}
    for curve in series:
        for x, y in downsample(finite(curve.points), _MAX_HOVER_STRIPS):
            values_by_step.setdefault(x, []).append((curve, y))
    steps = sorted(values_by_step)
    edges = [0.0, *((frame.x(a) + frame.x(b)) / 2 for a, b in pairwise(steps)), 1.0]
    groups = []
    for step, start, end in zip(steps, edges, edges[1:], strict=False):
        user_text = "  ".join(f"{curve.name} {number(y)}" for curve, y in values_by_step[step])
        text = f"{x_name} {step:,.0f}:  {user_text}"
        x = frame.x(step)
        groups.append(
            el(
                "g",
                el("rect", x=_percent_of_width(start), width=_percent_of_width(end - start), y=0, height=frame.height),
                el("line", x1=_percent_of_width(x), x2=_percent_of_width(x), y1=0, y2=frame.height),
                *(
                    el("circle", class_=curve.tone, cx=_percent_of_width(x), cy=frame.y(y), r=4)
                    for curve, y in values_by_step[step]
                ),
                el(
                    "text",
                    text,
                    x=_percent_of_width(x),
                    y=-8,
                    text_anchor=("start", "middle", "end")[min(int(3 * x), 2)],
                ),
                class_="stop",
            )
        )
    return join(groups)


def line_chart(
    series: Sequence[Series],
    *,
    label: str,
    levels: Sequence[ReferenceLine] = (),
    height: int = 220,
    x_name: str = "step",
) -> Html:
    """Draw curves over a common axis; an empty string when no series has a finite value.

    ``label`` is the text alternative. Noisy curves are drawn faint under their moving average.
    """
    shown = [curve for curve in series if finite(curve.points)]
    framed = _frame(shown, levels, height)
    if framed is None:
        return Html()
    frame, marks = framed
    drawing = el(
        "svg",
        _axes(frame, marks, x_name),
        *(_reference_line(level, frame) for level in levels),
        _curves(shown, frame),
        _end_labels(shown, frame),
        _hover_strips(shown, frame, x_name),
        role="img",
        aria_label=label,
        width="100%",
        height=height,
    )
    return el("div", drawing, class_="plot named" if len(shown) > 1 else "plot")


@dataclass(frozen=True)
class VerticalLine:
    """A vertical line in a histogram, at a value of its axis."""

    name: str
    value: float


def histogram(
    edges: Sequence[float], counts: Sequence[int], *, label: str, mark: VerticalLine | None = None, height: int = 150
) -> Html:
    """Draw a histogram with bars of equal width; the axis shows the bin edges, as bins may be uneven."""
    top = max(counts, default=0)
    if top == 0:
        return Html()
    slot = 1 / len(counts)
    marks = ticks(0, top, 3)
    frame = _Frame(0, len(counts), 0, marks[-1], height)
    grid = [
        join(
            [
                el("line", class_="base" if v == 0 else "grid", x1="0", x2="100%", y1=frame.y(v), y2=frame.y(v)),
                el("text", text, class_="tick", x="0", dx=-8, y=frame.y(v), dy=4, text_anchor="end"),
            ]
        )
        for v, text in zip(marks, tick_labels(marks), strict=True)
        if v == round(v)
    ]
    bars = [
        el(
            "rect",
            el("title", f"{low:,.0f} to {high:,.0f}: {bin_count:,}"),
            class_="bin",
            x=_percent_of_width(i * slot + 0.08 * slot),
            width=_percent_of_width(0.84 * slot),
            y=frame.y(bin_count),
            height=height - frame.y(bin_count),
        )
        for i, (low, high, bin_count) in enumerate(zip(edges, edges[1:], counts, strict=False))
        if bin_count
    ]
    every = -(-len(edges) // 8)
    names = [
        el("text", f"{edge:,.0f}", class_="tick", x=_percent_of_width(i * slot), y=height, dy=18, text_anchor="middle")
        for i, edge in enumerate(edges)
        if i % every == 0
    ]
    drawing = [*grid, *bars, *names, *_vertical_line(edges, slot, mark, height)]
    return el(
        "div",
        el("svg", *drawing, role="img", aria_label=label, width="100%", height=height),
        class_="plot bins",
    )


def _vertical_line(edges: Sequence[float], slot: float, mark: VerticalLine | None, height: int) -> list[Html]:
    if mark is None or not edges[0] < mark.value < edges[-1]:
        return []
    position = next(i for i in range(len(edges) - 1) if mark.value < edges[i + 1])
    x = (position + (mark.value - edges[position]) / (edges[position + 1] - edges[position])) * slot
    anchor, shift = ("end", -5) if 2 * x > 1 else ("start", 5)
    return [
        el("line", class_="level", x1=_percent_of_width(x), x2=_percent_of_width(x), y1=-6, y2=height),
        el("text", mark.name, class_="name level", x=_percent_of_width(x), dx=shift, y=4, text_anchor=anchor),
    ]


def bar(share: float, *, tone: str = "main", tick: float | None = None) -> Html:
    """Draw a fraction as a thin bar, with an optional tick for comparison; decorative, the number is in the text."""
    parts = [
        el("rect", class_="track", width="100%", height=8, rx=1),
        el("rect", class_=f"fill {tone}", width=_percent_of_width(min(max(share, 0.0), 1.0)), height=8, rx=1),
    ]
    if tick is not None:
        parts.append(
            el("line", class_="tickmark", x1=_percent_of_width(tick), x2=_percent_of_width(tick), y1=-3, y2=11)
        )
    return el("svg", *parts, class_="bar", width="100%", height=8, aria_hidden="true")


def dumbbell(before: float | None, after: float, gate: float | None) -> Html:
    """Draw a fraction before and after fine-tuning on one line, with the gate as a tick; empty outside 0 to 1."""
    if not 0 <= after <= 1:
        return Html()
    parts = [el("line", class_="grid", x1="0", x2="100%", y1=10, y2=10)]
    if gate is not None and 0 <= gate <= 1:
        parts.append(el("line", class_="level", x1=_percent_of_width(gate), x2=_percent_of_width(gate), y1=1, y2=19))
    if before is not None and 0 <= before <= 1:
        parts.append(el("line", class_="way", x1=_percent_of_width(before), x2=_percent_of_width(after), y1=10, y2=10))
        parts.append(el("circle", class_="before", cx=_percent_of_width(before), cy=10, r=4.5))
    parts.append(el("circle", class_="after", cx=_percent_of_width(after), cy=10, r=5.5))
    return el("svg", *parts, class_="dumbbell", width="100%", height=20, aria_hidden="true")
