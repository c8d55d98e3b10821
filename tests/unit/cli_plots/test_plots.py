"""Line plots, sparklines and bars: size, extremes, no control characters."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from windlass.cli.plots import bars, draw_curve, sparkline

NAN = math.nan
any_float = st.floats(allow_nan=True, allow_infinity=True)
printable = st.one_of(st.floats(-1e307, 1e307), st.sampled_from([NAN, math.inf]))


def series_of(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[int, float]]]:
    points = st.lists(st.tuples(st.integers(0, 10**9), values), max_size=40)
    return points.map(lambda listed: sorted(listed, key=lambda point: point[0]))


texts = st.text(max_size=20)


def rows_of(points: list[tuple[int, float]], width: int, height: int, *, ascii_only: bool = False) -> list[str]:
    return draw_curve(points, width, height, ascii_only=ascii_only).plain.split("\n")


@given(series_of(any_float), st.integers(-2, 120), st.integers(-2, 30), texts, st.booleans())
def test_curve_fits_its_width_and_height(
    points: list[tuple[int, float]], width: int, height: int, title: str, ascii_only: bool
) -> None:
    drawn = draw_curve(points, width, height, title, ascii_only=ascii_only).plain
    lines = drawn.split("\n")
    assert max(map(cell_len, lines)) <= max(width, 1)
    assert len(lines) <= max(height, 4)
    assert not ascii_only or drawn.isascii()


@given(series_of(printable), st.integers(10, 120), st.integers(4, 30), st.booleans())
def test_lowest_and_highest_value_are_labelled(
    points: list[tuple[int, float]], width: int, height: int, ascii_only: bool
) -> None:
    known = [value for _, value in points if math.isfinite(value)]
    drawn = draw_curve(points, width, height, ascii_only=ascii_only).plain
    if known:
        numbers = [float(word) for word in drawn.replace("..", " ").split() if word[-1].isdigit()]
        assert any(number == pytest.approx(min(known), rel=6e-3) for number in numbers)
        assert any(number == pytest.approx(max(known), rel=6e-3) for number in numbers)
    else:
        assert drawn == _cut("no values yet", width)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "~"


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40, unique=True), st.booleans())
def test_plot_uses_its_full_height(values: list[float], ascii_only: bool) -> None:
    plot = rows_of(list(enumerate(values)), 60, 12, ascii_only=ascii_only)[:-2]
    bar = "|" if ascii_only else "\u2502"
    assert plot[0].partition(bar)[2].strip()
    assert plot[-1].partition(bar)[2].strip()


def test_falling_line_is_drawn_from_upper_left_to_lower_right() -> None:
    assert rows_of([(0, 3.0), (5, 0.0)], 14, 7, ascii_only=True) == [
        "3 |'.         ",
        "  |  '.       ",
        "  |    ''.    ",
        "  |       '.  ",
        "0 |         '.",
        "  +-----------",
        "   0   step  5",
    ]
    assert rows_of([(0, 3.0), (5, 0.0)], 14, 7)[:5] == [
        "3 │⠑⢄         ",
        "  │  ⠑⠢⡀      ",
        "  │    ⠈⠢⡀    ",
        "  │      ⠈⠢⢄  ",
        "0 │         ⠑⢄",
    ]


def test_nan_is_a_gap() -> None:
    whole = rows_of([(0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0)], 30, 6, ascii_only=True)[2]
    cut = rows_of([(0, 1.0), (1, 1.0), (2, NAN), (3, 1.0)], 30, 6, ascii_only=True)[2]
    assert whole.partition("|")[2].count(" ") == 0
    assert cut.partition("|")[2].strip().count(" ") > 10


def test_constant_series_has_one_label() -> None:
    for points in ([(1, 5.0), (9, 5.0)], [(4, 5.0)]):
        lines = rows_of(points, 40, 8)
        assert [line.split(" ")[0] for line in lines if line.startswith("5")] == ["5"]
        assert lines[3].strip("5 │")


def test_title_line_ends_with_the_last_value() -> None:
    drawn = draw_curve([(1, 900.0), (2, 1528.0)], 50, 8, "tokens_per_second").plain
    assert drawn.split("\n")[0] == "tokens_per_second" + " " * 29 + "1528"


def test_narrow_terminal_gets_a_sparkline() -> None:
    assert rows_of([(1, 4.0), (2, 2.0), (3, 1.0)], 9, 8) == ["█▃▁", "1..4"]


def test_title_cannot_control_the_terminal() -> None:
    title = "loss\x1b[2J\x07\nsecond\u202eline\u2028"
    drawn = draw_curve([(1, 1.0), (2, 2.0)], 60, 8, title).plain
    assert drawn.startswith("loss [2J  second line ")
    assert not set("\x1b\x07\u202e\u2028") & set(drawn)


def test_spike_of_a_long_series_is_visible() -> None:
    points = [(i, 50.0 if i == 70_001 else 1.0) for i in range(100_000)]
    top = rows_of(points, 80, 10)[0]
    assert top.startswith("50 ")
    assert top.partition("│")[2].strip()


def test_sparkline_spans_lowest_to_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([7, NAN, 0], 8) == "█ ▁"
    assert sparkline([0, 0, 4, 4], 2, ascii_only=True) == ".@"
    assert sparkline([], 8) == sparkline([1.0], 0) == ""


@given(st.lists(any_float, max_size=200), st.integers(-2, 80), st.booleans())
def test_sparkline_is_at_most_as_wide_as_requested(values: list[float], width: int, ascii_only: bool) -> None:
    drawn = sparkline(values, width, ascii_only=ascii_only)
    assert len(drawn) == min(len(values), max(width, 0))
    assert not ascii_only or drawn.isascii()


def test_bars_are_proportional_and_only_zero_is_empty() -> None:
    lines = bars({"positive": 8000, "negative": 4000, "rare": 1, "none": 0}, 40).plain.split("\n")
    cells = [sum(c == "█" for c in line) for line in lines]
    assert cells == [25, 12, 0, 0]
    assert "▏" in lines[2]
    assert [line.split()[-1] for line in lines] == ["8,000", "4,000", "1", "0"]
    assert lines[3].split() == ["none", "0"]


@given(st.dictionaries(texts, st.integers(0, 10**9), min_size=1, max_size=8), st.integers(-1, 80), st.booleans())
def test_bars_fit_the_width(counts: dict[str, int], width: int, ascii_only: bool) -> None:
    drawn = bars(counts, width, ascii_only=ascii_only).plain
    lines = drawn.split("\n")
    assert len(lines) == len(counts)
    assert max(map(cell_len, lines)) <= max(width, 1)
    assert not ascii_only or drawn.isascii()
    if width >= 13:
        assert all(line.endswith(f"{count:,}") for line, count in zip(lines, counts.values(), strict=True))
