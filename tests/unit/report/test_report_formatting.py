"""Number formats, axis ticks and downsampling."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass_pipelines.report.charts import Series, downsample, line_chart, smooth
from windlass_pipelines.report.formatting import duration, is_share, metric_title, number, percent, tick_labels, ticks
from windlass_pipelines.report.markup import Html, coordinate, el, join

reals = st.floats(-1e12, 1e12)


@given(reals, reals, st.integers(2, 8))
def test_ticks_cover_the_range_in_about_the_requested_number_of_steps(a: float, b: float, about: int) -> None:
    low, high = min(a, b), max(a, b)
    marks = ticks(low, high, about)
    slack = 1e-6 * max(abs(low), abs(high), high - low)
    assert marks[0] <= low + slack
    assert marks[-1] >= high - slack
    assert 2 <= len(marks) <= about + 3
    assert list(marks) == sorted(set(marks))


@given(reals, reals)
def test_tick_labels_are_distinct(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    if high - low > 1e-5 * max(abs(low), abs(high), 1e-3):
        labels = tick_labels(ticks(low, high))
        assert len(set(labels)) == len(labels)


@given(st.lists(st.tuples(st.integers(0, 10**6), reals), min_size=1, max_size=600), st.integers(4, 100))
def test_downsampling_keeps_ends_and_extremes(points: list[tuple[int, float]], limit: int) -> None:
    kept_points = downsample(points, limit)
    assert len(kept_points) <= max(limit + 2, 3)
    assert (kept_points[0], kept_points[-1]) == (points[0], points[-1])
    values = [y for _, y in points]
    assert {min(values), max(values)} <= {y for _, y in kept_points}


def test_smoothing_keeps_a_straight_line() -> None:
    line = [(float(i), 3.0 * i + 1) for i in range(300)]
    assert [y for _, y in smooth(line)] == pytest.approx([y for _, y in line])


def test_a_gap_breaks_the_curve() -> None:
    points = [(1, 1.0), (2, 2.0), (3, math.nan), (4, 2.0), (5, math.inf), (6, 1.0), (7, 1.5)]
    drawing = line_chart([Series("loss", points)], label="Loss")
    path = drawing.partition(' d="')[2].partition('"')[0]
    assert [len(piece.split()) for piece in path.split("M")[1:]] == [2, 1, 2]


def test_a_chart_without_a_finite_value_is_not_drawn() -> None:
    assert line_chart([Series("loss", [(1, math.nan)]), Series("other", [])], label="Loss") == ""


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 5, "0\u202f%"), (1, 1000, "<1\u202f%"), (999, 1000, ">99\u202f%"), (5, 5, "100\u202f%"), (1, 0, "\u2013")],
)
def test_a_percentage_rounds_only_exact_values_to_0_or_100(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.82134, "0.821"),
        (12.345, "12.3"),
        (1528.4, "1,528"),
        (4.9e-5, "4.9e\u221205"),
        (-0.5, "\u22120.500"),
        (math.nan, "\u2013"),
        (None, "\u2013"),
        (-math.inf, "\u2212\u221e"),
        (3e12, "3e+12"),
    ],
)
def test_a_number_shows_the_digits_that_matter(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.25, "4.2\u202fs"), (59, "59\u202fs"), (96.2, "1\u202fmin 36\u202fs"), (7300, "2\u202fh 1\u202fmin")],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_metrics_have_display_names() -> None:
    assert metric_title("eval_exact_answer_rate") == "Exact answers"
    assert metric_title("some_new_metric") == "Some new metric"
    assert is_share("eval_macro_f1")
    assert not is_share("learning_rate")


def test_an_element_escapes_text_and_attributes_and_keeps_markup() -> None:
    built = el("p", "a < b", el("b", '"x"'), class_="<'\">", hidden=True, lang=None, width=2.50)
    assert built == ('<p class="&lt;&#x27;&quot;&gt;" hidden width="2.5">a &lt; b<b>&quot;x&quot;</b></p>')
    assert join(["<", Html("<br>")]) == "&lt;<br>"
    assert el("p", f"{Html('<i>')}") == "<p>&lt;i&gt;</p>"


def test_coordinates_have_no_negative_zero_and_no_spare_digits() -> None:
    assert [coordinate(v) for v in (-0.001, 10.0, 100, 3.14159)] == ["0", "10", "100", "3.14"]
