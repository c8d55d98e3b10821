"""Lines keep the time at which they were written, however late they are sent."""

from datetime import UTC, datetime, timedelta

import pytest

from windlass.runtime.timed_lines import TimedLines

START = datetime(2026, 1, 1, tzinfo=UTC)


class SetClock:
    """A clock whose time the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def taken(lines: TimedLines, *, include_partial: bool = False) -> list[tuple[float, str]]:
    return [((item.time - START).total_seconds(), item.text) for item in lines.take(include_partial=include_partial)]


def test_a_line_has_the_time_of_its_first_piece(clock: SetClock) -> None:
    lines = TimedLines(clock)
    lines.add("be")
    clock.seconds = 7.0
    lines.add("gun\nnext\npar")
    clock.seconds = 9.0
    assert taken(lines) == [(0.0, "begun\n"), (7.0, "next\n")]
    assert lines, "the partial line is left"
    lines.add("tial\n")
    assert taken(lines) == [(7.0, "partial\n")]
    assert not lines


def test_lines_of_one_second_are_one_item_and_keep_their_order(clock: SetClock) -> None:
    lines = TimedLines(clock)
    for seconds, text in ((0.1, "a\n"), (0.9, "b\n"), (1.0, "c\n"), (1.5, "d\n")):
        clock.seconds = seconds
        lines.add(text)
    assert taken(lines) == [(0.0, "a\nb\n"), (1.0, "c\nd\n")]


def test_a_line_without_an_end_is_taken_on_request_or_when_it_is_long(clock: SetClock) -> None:
    lines = TimedLines(clock)
    lines.add("progress 10 %\r")
    assert taken(lines) == []
    assert taken(lines, include_partial=True) == [(0.0, "progress 10 %\r")]
    lines.add("x" * 200_000)
    assert [len(text) for _, text in taken(lines)] == [65_536, 65_536, 65_536, 3_392]
