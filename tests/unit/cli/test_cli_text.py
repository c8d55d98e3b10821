"""What is printed: safe, whole, readable by programs and people."""

import io
import json
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from rich.console import Console

from windlass.cli import failures
from windlass.cli.dataset_report import show_report
from windlass.cli.render import Column, Output, age, cell, document, duration, record, size, table
from windlass.cli.safe_text import json_line, json_text, lines, one_line
from windlass.domain.datasets import Finding, Histogram, Split, SplitReport, ValidationReport, VersionState
from windlass.domain.errors import FieldProblem, InvalidError, QuotaExceededError, WindlassError, error_classes
from windlass.wire.datasets import DatasetReportOut

_DIRECTION = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _dangerous(text: str, *, allowed: str = "") -> set[str]:
    return {c for c in text if (unicodedata.category(c) == "Cc" or c in _DIRECTION) and c not in allowed}


@settings(deadline=None)  # a busy machine is no failure
@given(st.text())
def test_one_line_has_no_control_character_at_all(text: str) -> None:
    assert not _dangerous(one_line(text), allowed="\t")


@settings(deadline=None)  # a busy machine is no failure
@given(st.text())
def test_lines_keep_only_line_ends_and_tabs(text: str) -> None:
    assert not _dangerous(lines(text), allowed="\n\t")


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_harmless_text_is_left_as_it_is(text: str) -> None:
    assert one_line(text) == text


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_is_the_same_data_and_safe_to_look_at(data: object) -> None:
    assert json.loads(json_text(data)) == data
    assert json.loads(json_line(data)) == data
    assert not _dangerous(json_text(data), allowed="\n")
    assert not _dangerous(json_line(data))


@settings(deadline=None)  # a busy machine is no failure
@given(st.dictionaries(st.text(), st.text()))
def test_yaml_is_the_same_data_and_safe_to_look_at(data: dict[str, str]) -> None:
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", shown)
        document(Output.YAML, data)
    assert yaml.safe_load(shown.getvalue()) == data
    assert not _dangerous(shown.getvalue(), allowed="\n")


def test_colours_and_titles_of_a_log_are_taken_out_whole() -> None:
    assert lines("\x1b[1;31mred\x1b[0m\x1b]0;title\x07 50%\r100%\n") == "red 50%\n100%\n"


class _Row(BaseModel):
    name: str
    note: str


_COLUMNS = (Column[_Row]("name", lambda row: row.name), Column[_Row]("note", lambda row: row.note))


def test_a_table_in_a_file_has_whole_lines_without_trailing_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [_Row(name="größe", note="x" * 300), _Row(name="名前", note="")]
    table(Console(), _COLUMNS, rows)
    head, first, second = capsys.readouterr().out.splitlines()
    assert head == "NAME   NOTE"
    assert first == "größe  " + "x" * 300
    assert second == "名前   -"


def test_a_table_on_a_terminal_folds_instead_of_cutting() -> None:
    screen = io.StringIO()
    table(
        Console(file=screen, force_terminal=True, width=40, color_system=None),
        _COLUMNS,
        [_Row(name="a", note="y" * 90)],
    )
    assert screen.getvalue().count("y") == 90
    assert max(map(len, screen.getvalue().splitlines())) <= 40


def test_a_record_leaves_out_what_has_no_value() -> None:
    shown = io.StringIO()
    record(Console(file=shown, width=40), _COLUMNS, _Row(name="a", note=""))
    assert shown.getvalue() == "name  a\n"


def test_no_colour_is_printed_when_the_user_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = io.StringIO()
    table(Console(file=screen, force_terminal=True, width=40), _COLUMNS, [_Row(name="failed", note="x")])
    assert "\x1b[31m" not in screen.getvalue()
    assert "31m" not in screen.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        ({}, "-"),
        (False, "no"),
        (0, "0"),
        (0.123456, "0.1235"),
        ({"a": 1, "b": [2, 3]}, "a=1, b=2, 3"),
        ("a\nb\x1b[2J", "a b"),
    ],
)
def test_a_cell_says_a_value_shortly(value: object, text: str) -> None:
    assert cell(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (59, "59s"), (61, "1m01s"), (599, "9m59s"), (660, "11m"), (7260, "2h01m"), (172_800, "2d")],
)
def test_lengths_of_time_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(now - timedelta(seconds=seconds), now) == f"{text} ago"


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB")])
def test_sizes_are_in_binary_units(count: int, text: str) -> None:
    assert size(count) == text


def test_an_error_says_what_which_field_how_out_and_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    error = InvalidError(
        "two fields are wrong",
        hint="look at the \x1b[1mspec",
        fields=[FieldProblem("/spec/a", "too long"), FieldProblem("", "too short")],
    )
    error.request_id = "req_7"
    failures.show(error)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "error: two fields are wrong",
        "  /spec/a: too long",
        "  /: too short",
        "  hint: look at the spec",
        "  request: req_7",
    ]


def test_the_smallest_change_is_said_when_the_hint_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    failures.show(QuotaExceededError("too many", facts={"smallest_change": "ask for 2"}))
    assert "smallest change that fits: ask for 2" in capsys.readouterr().err


@pytest.mark.parametrize("kind", sorted(error_classes(), key=str))
def test_every_error_has_an_agreed_exit_code(kind: type[WindlassError]) -> None:
    agreed = {
        "invalid": 2,
        "bad_request": 2,
        "precondition_required": 2,
        "method_not_allowed": 2,
        "unsupported_media_type": 2,
        "context_length_exceeded": 2,
        "too_large": 2,
        "checksum_mismatch": 2,
        "unauthenticated": 3,
        "forbidden": 3,
        "not_found": 4,
        "conflict": 5,
        "limit_reached": 5,
        "illegal_move": 5,
        "fenced": 5,
        "attempt_held": 5,
        "idempotency_in_progress": 5,
        "idempotency_mismatch": 5,
        "precondition_failed": 5,
        "quota_exceeded": 6,
        "unavailable": 7,
        "busy": 7,
        "endpoint_not_ready": 7,
        "storage_full": 7,
        "upstream_failed": 1,
        "internal": 1,
    }
    assert failures.exit_code(kind("x")) == agreed[kind.code]


def test_a_validation_report_shows_all_that_was_found() -> None:
    numbers = SplitReport(
        rows=1200,
        labels={"good": 700, "b\x1b[2Jad": 500},
        missing=3,
        exact_duplicates=2,
        near_duplicates=1,
        groups=40,
        tokens=Histogram(edges=(0, 8, 16), counts=(1000, 200)),
        tokens_mean=7.4,
        tokens_max=15,
    )
    finding = Finding(
        code="bad-row",
        severity="error",
        message="no \u202etext",
        action="mend it",
        file="a.csv",
        line=7,
        pointer="/text",
        count=4,
    )
    report = ValidationReport(
        findings=(finding,),
        splits={Split.TRAIN: numbers},
        personal_data={"email": 2},
        overlap={"validation": 9},
        steps=({"op": "deduplicate", "rows_in": 1300, "rows_out": 1200},),
    )
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system=None, width=100)
    show_report(console, DatasetReportOut(ref="shop@1", state=VersionState.REJECTED, report=report))
    shown = screen.getvalue()
    for words in (
        "shop@1  rejected",
        "1,200 rows, 40 groups, 3 with a missing field, 2 exact duplicates, 1 near duplicates, 7 tokens on average",
        "good",
        "8 to 16 tokens",
        "step deduplicate: 1300 rows in, 1200 out",
        "validation: 9 rows also stand in train",
        "personal data: 2 email",
        "(a.csv:7 /text) [4 times]: mend it",
    ):
        assert words in shown
    assert not _dangerous(shown, allowed="\n")
