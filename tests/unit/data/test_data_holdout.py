"""Uploads without validation rows are divided, so that a job can evaluate its model."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.unit.data.data_requests import codes, csv_rows, ingest, jsonl, only_finding, output_rows

from windlass.domain.datasets import Deduplicate, Split, SplitRows

DEFAULTS: dict[str, Any] = {"options": {"validation_fraction": 0.2}}
TICKETS = [(f"ticket {n} about {topic}", topic) for n in range(50) for topic in ("billing", "login")]


def texts_of(folder: Path, split: Split) -> set[str]:
    return {row["text"] for row in output_rows(folder, split)}


def test_a_fifth_is_held_out_by_label_and_the_steps_are_recorded(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"t.csv": csv_rows(TICKETS)}, **DEFAULTS)
    assert result.accepted
    assert result.rows == {Split.TRAIN: 80, Split.VALIDATION: 20}
    assert result.report.splits[Split.VALIDATION].labels == {"billing": 10, "login": 10}
    split = SplitRows(train=0.8, validation=0.2, stratify=True, source=Split.TRAIN)
    assert result.automatic_steps == (Deduplicate(), split)
    assert [step["rows_out"] for step in result.report.steps] == [100, 100]
    finding = only_finding(result, "automatic-split")
    assert finding.message == "no file is for validation: 20 of 100 rows held out (seed 0, labels in proportion)"
    assert "validation=FILE" in finding.action
    assert ingest(tmp_path, {"t.csv": csv_rows(TICKETS)}, **DEFAULTS) == result


def test_repeated_and_contradicting_texts_are_in_one_split(tmp_path: Path) -> None:
    """The newcomer's file: repeated rows, texts with two labels, rows without a value."""
    repeated, contradicting = TICKETS[:23], [(text, "login") for text, label in TICKETS if label == "billing"][:20]
    content = csv_rows([*TICKETS, *repeated, *contradicting, ("no label", ""), ("", "billing")])
    result = ingest(tmp_path, {"t.csv": content}, **DEFAULTS)
    assert result.accepted, result.report.errors
    assert result.report.overlap == {"validation": 0}
    assert not texts_of(tmp_path, Split.TRAIN) & texts_of(tmp_path, Split.VALIDATION) - {""}
    assert "23 duplicate rows dropped" in only_finding(result, "automatic-split").message
    assert result.rows[Split.VALIDATION] == pytest.approx(0.2 * 122, abs=2)


def test_groups_stay_together(tmp_path: Path) -> None:
    rows = [{"text": f"sentence {n}", "label": "ab"[n % 2], "group": f"review {n // 5}"} for n in range(100)]
    result = ingest(tmp_path, {"r.jsonl": jsonl(*rows)}, **DEFAULTS)
    assert result.accepted
    groups = [{row["group"] for row in output_rows(tmp_path, split)} for split in (Split.TRAIN, Split.VALIDATION)]
    assert not groups[0] & groups[1]
    assert "groups kept together" in only_finding(result, "automatic-split").message


def test_conversations_are_divided_too(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n % 10}", "completion": f"answer {n % 10}"} for n in range(1000)]
    result = ingest(tmp_path, {"c.jsonl": jsonl(*rows)}, task="chat", **DEFAULTS)
    assert result.rows == {Split.TRAIN: 8, Split.VALIDATION: 2}
    assert result.report.overlap == {"validation": 0}


def test_every_label_is_in_train_also_when_most_labels_have_one_row(tmp_path: Path) -> None:
    rows = [(f"text {n}", f"part {n}") for n in range(30)] + [(f"other {n}", "other") for n in range(10)]
    result = ingest(tmp_path, {"t.csv": csv_rows(rows)}, **DEFAULTS)
    assert result.accepted, result.report.errors
    assert Counter(row["label"] for row in output_rows(tmp_path)).keys() == {label for _, label in rows}
    assert result.rows[Split.VALIDATION] > 0


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"t.csv": csv_rows(TICKETS), "validation.csv": csv_rows([("another", "login")])}, DEFAULTS["options"]),
        ({"t.csv": csv_rows(TICKETS)}, {"validation_fraction": 0}),
    ],
)
def test_nothing_is_held_out_with_a_validation_file_or_on_request(
    tmp_path: Path, files: dict[str, Any], options: dict[str, Any]
) -> None:
    result = ingest(tmp_path, files, options=options)
    assert result.rows[Split.TRAIN] == 100
    assert (result.automatic_steps, result.report.steps) == ((), ())
    assert "automatic-split" not in codes(result)


def test_rows_of_the_test_split_stay_where_they_are(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"t.csv": csv_rows(TICKETS), "test.csv": csv_rows([("another", "login")])}
    result = ingest(tmp_path, files, **DEFAULTS)
    assert result.rows == {Split.TRAIN: 80, Split.VALIDATION: 20, Split.TEST: 1}
    assert texts_of(tmp_path, Split.TEST) == {"another"}
    leaked = ingest(tmp_path, {**files, "test.csv": csv_rows([TICKETS[0]])}, **DEFAULTS)
    assert leaked.rows[Split.TEST] == 1


@pytest.mark.parametrize("rows", [[("x", "a"), ("y", "b")], [("x", "a")]])
def test_too_few_rows_are_kept_in_train_with_a_warning(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    result = ingest(tmp_path, {"t.csv": csv_rows(rows)}, **DEFAULTS)
    assert result.rows == {Split.TRAIN: len(rows)}
    assert only_finding(result, "no-validation-rows").severity == "warning"
    assert result.automatic_steps == ()
