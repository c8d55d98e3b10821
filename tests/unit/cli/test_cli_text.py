"""Printed output: safe, complete, machine-readable."""

import io
import json
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from rich.console import Console

from windlass.cli import errors
from windlass.cli.dataset_report import clean_command, show_report
from windlass.cli.job_views import evaluation_text
from windlass.cli.render import Column, Output, age, cell, document, duration, record, table
from windlass.cli.safe_text import json_line, json_text, lines, one_line
from windlass.domain.datasets import Finding, Histogram, Split, SplitReport, ValidationReport, VersionState
from windlass.domain.errors import FieldProblem, InvalidError, QuotaExceededError, WindlassError, error_classes
from windlass.domain.ingest import Encoding, FileFormat, FileReport
from windlass.kit.numbers import size
from windlass.wire.datasets import DatasetReportOut

_DIRECTION = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _dangerous(text: str, *, allowed: str = "") -> set[str]:
    return {c for c in text if (unicodedata.category(c) == "Cc" or c in _DIRECTION) and c not in allowed}


@settings(deadline=None)  # a busy machine is no failure
@given(st.text())
def test_one_line_has_no_control_characters(text: str) -> None:
    assert not _dangerous(one_line(text), allowed="\t")


@settings(deadline=None)  # a busy machine is no failure
@given(st.text())
def test_lines_keep_only_line_breaks_and_tabs(text: str) -> None:
    assert not _dangerous(lines(text), allowed="\n\t")


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_harmless_text_is_unchanged(text: str) -> None:
    assert one_line(text) == text


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_is_the_same_data_and_safe_to_print(data: object) -> None:
    assert json.loads(json_text(data)) == data
    assert json.loads(json_line(data)) == data
    assert not _dangerous(json_text(data), allowed="\n")
    assert not _dangerous(json_line(data))


@settings(deadline=None)  # a busy machine is no failure
@given(st.dictionaries(st.text(), st.text()))
@example({"": "\x85"})
@example({"name": "caf\xe9 \u2028"})
def test_yaml_is_the_same_data_and_safe_to_print(data: dict[str, str]) -> None:
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", shown)
        document(Output.YAML, data)
    assert yaml.safe_load(shown.getvalue()) == data
    assert not _dangerous(shown.getvalue(), allowed="\n")


def test_escape_sequences_of_a_log_are_removed_completely() -> None:
    assert lines("\x1b[1;31mred\x1b[0m\x1b]0;title\x07 50%\r100%\n") == "red 50%\n100%\n"


class _Row(BaseModel):
    name: str
    note: str


_COLUMNS = (Column[_Row]("name", lambda row: row.name), Column[_Row]("note", lambda row: row.note))


def test_table_in_a_file_has_full_lines_without_trailing_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [_Row(name="größe", note="x" * 300), _Row(name="名前", note="")]
    table(Console(), _COLUMNS, rows)
    head, first, second = capsys.readouterr().out.splitlines()
    assert head == "NAME   NOTE"
    assert first == "größe  " + "x" * 300
    assert second == "名前   -"


@pytest.mark.parametrize(
    ("shrinks", "wide", "shown", "hidden"), [(True, False, 33, []), (False, False, 0, ["NOTE"]), (False, True, 90, [])]
)
def test_table_on_a_terminal_has_one_line_for_each_object(
    shrinks: bool, wide: bool, shown: int, hidden: list[str]
) -> None:
    screen = io.StringIO()
    columns = (_COLUMNS[0], Column[_Row]("note", lambda row: row.note, shrinks=shrinks))
    console = Console(file=screen, force_terminal=True, width=40, color_system=None)
    left_out = table(console, columns, [_Row(name="abc", note="y" * 90)], wide=wide)
    head, line = screen.getvalue().splitlines()
    assert head.startswith("NAME")
    assert line.startswith("abc")
    assert line.count("y") == shown
    assert ("\N{HORIZONTAL ELLIPSIS}" in line) is shrinks
    assert left_out == hidden
    assert wide or max(len(head), len(line)) <= 40


def test_record_omits_empty_fields() -> None:
    shown = io.StringIO()
    record(Console(file=shown, width=40), _COLUMNS, _Row(name="a", note=""))
    assert shown.getvalue() == "name  a\n"


def test_no_color_disables_colours(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_cell_text_is_short(value: object, text: str) -> None:
    assert cell(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (59, "59s"), (61, "1m01s"), (599, "9m59s"), (660, "11m"), (7260, "2h01m"), (172_800, "2d")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(now - timedelta(seconds=seconds), now) == f"{text} ago"


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB")])
def test_sizes_are_in_binary_units(count: int, text: str) -> None:
    assert size(count) == text


def test_error_shows_message_fields_hint_and_request_id(capsys: pytest.CaptureFixture[str]) -> None:
    error = InvalidError(
        "two fields are wrong",
        hint="see the \x1b[1mspec",
        fields=[FieldProblem("/spec/a", "too long"), FieldProblem("", "too short")],
    )
    error.request_id = "req_7"
    errors.print_error(error)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: two fields are wrong",
        "  /spec/a: too long",
        "  /: too short",
        "  hint: see the spec",
        "  request: req_7",
    ]


def test_error_shows_the_smallest_change_unless_the_hint_contains_it(capsys: pytest.CaptureFixture[str]) -> None:
    errors.print_error(QuotaExceededError("too many", context={"smallest_change": "ask for 2"}))
    assert "smallest change that fits: ask for 2" in capsys.readouterr().err


@pytest.mark.parametrize("kind", sorted(error_classes(), key=str))
def test_every_error_class_has_the_documented_exit_code(kind: type[WindlassError]) -> None:
    documented = {
        "invalid": 2,
        "bad_request": 2,
        "precondition_required": 2,
        "method_not_allowed": 2,
        "unsupported_media_type": 2,
        "context_length_exceeded": 2,
        "too_large": 2,
        "checksum_mismatch": 2,
        "purpose_not_allowed": 2,
        "consent_expired": 2,
        "unauthenticated": 3,
        "forbidden": 3,
        "not_found": 4,
        "capability_missing": 5,
        "conflict": 5,
        "limit_reached": 5,
        "invalid_transition": 5,
        "fenced": 5,
        "attempt_active": 5,
        "idempotency_in_progress": 5,
        "idempotency_mismatch": 5,
        "precondition_failed": 5,
        "quota_exceeded": 6,
        "budget_exceeded": 6,
        "unavailable": 7,
        "transaction_conflict": 7,
        "request_timeout": 7,
        "rate_limited": 7,
        "too_many_requests": 7,
        "busy": 7,
        "endpoint_not_ready": 7,
        "storage_full": 7,
        "upstream_failed": 1,
        "internal": 1,
    }
    assert errors.exit_code(kind("x")) == documented[kind.code]


def test_an_evaluation_counts_the_rows_that_were_skipped() -> None:
    evaluation = {"rows": 8, "rows_skipped": {"train": 3, "validation": 1}, "rows_dropped": {"train": 2}}
    assert evaluation_text(evaluation) == "rows 8  (6 rows skipped)"


@pytest.mark.parametrize(
    ("codes", "flags"),
    [
        (("incomplete-rows", "duplicates", "rare-label"), "--drop-missing --dedupe"),
        (("near-duplicates", "similar-labels", "personal-data"), "--mask --merge-labels --dedupe --near"),
        (("train-overlap",), "--dedupe --split 0.8/0.2 --stratify"),
        (("near-overlap",), "--dedupe --near"),
        (("label-missing-in-train",), "--dedupe --split 0.8/0.2 --stratify"),
        (("rare-label",), ""),
    ],
)
def test_the_report_ends_with_the_complete_command_that_cleans_the_version(codes: tuple[str, ...], flags: str) -> None:
    findings = tuple(Finding(code=code, severity="warning", message="x") for code in codes)
    splits = {Split.TRAIN: SplitReport(rows=2, labels={"a": 1, "b": 1})}
    report = ValidationReport(findings=findings, splits=splits)
    command = clean_command(DatasetReportOut(ref="shop@1", state=VersionState.READY, report=report))
    assert command == (f"windlass dataset clean shop@1 {flags}" if flags else "")


def test_findings_that_differ_only_in_their_line_are_one_line() -> None:
    findings = tuple(
        Finding(code="missing-value", severity="warning", message="blank", file="a.csv", line=n, pointer="/label")
        for n in range(2, 7)
    )
    findings += (Finding(code="duplicates", severity="warning", message="3 duplicates, not blank", count=3),)
    screen = io.StringIO()
    report = ValidationReport(findings=findings, splits={})
    show_report(Console(file=screen, width=200), DatasetReportOut(ref="s@1", state=VersionState.READY, report=report))
    lines = [line for line in screen.getvalue().splitlines() if "blank" in line]
    assert lines == [
        "  warning blank (a.csv:2 /label, a.csv:3 /label, a.csv:4 /label and 2 more) [5 times]",
        "  warning 3 duplicates, not blank",
    ]


def test_validation_report_shows_statistics_and_findings() -> None:
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
        action="fix it",
        file="a.csv",
        line=7,
        pointer="/text",
        count=4,
    )
    file = FileReport(name="a.csv", format=FileFormat.CSV, encoding=Encoding.UTF_8, delimiter=";", rows=1200)
    report = ValidationReport(
        findings=(finding,),
        files=(file,),
        splits={Split.TRAIN: numbers},
        personal_data={"email": 2},
        overlap={"validation": 9},
        steps=({"op": "deduplicate", "rows_in": 1300, "rows_out": 1200},),
    )
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system=None, width=100)
    show_report(console, DatasetReportOut(ref="shop@1", state=VersionState.REJECTED, report=report))
    shown = screen.getvalue()
    for expected in (
        "shop@1  rejected",
        "a.csv: 1,200 rows (csv, utf-8, delimiter semicolon)",
        "1,200 rows, 40 groups, 3 without text, label or answer, 2 exact duplicates, 1 near duplicate",
        "good",
        "8 to 16 tokens",
        "step deduplicate: 1300 rows in, 1200 out",
        "validation: 9 of them also in train",
        "personal data: 2 email",
        "(a.csv:7 /text) [4 times]: fix it",
    ):
        assert expected in shown
    assert not _dangerous(shown, allowed="\n")


@pytest.mark.parametrize(
    ("seen", "note"), [(0, ""), (3, "(3 of them also in train)"), (10, "(the rows it was trained on)")]
)
def test_an_evaluation_names_rows_that_were_trained_on(seen: int, note: str) -> None:
    evaluation = {"split": "validation", "perplexity": 1.004, "rows": 10, "also_trained_on": seen}
    assert evaluation_text(evaluation) == f"perplexity 1.004  rows 10  {note}".rstrip()
