"""Rows that training skips: they are counted, and their labels are no classes."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.data.data_requests import codes, ingest, jsonl, only_finding

from windlass.domain.datasets import Split

LABELLED = "".join(f"text {n},{('good', 'bad')[n % 2]}\n" for n in range(20))
USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
BLANK = {"role": "assistant", "content": " "}


def test_rows_without_a_label_are_counted_and_are_no_class(tmp_path: Path) -> None:
    unlabelled = "".join(f"more text {n},\n" for n in range(6))
    result = ingest(tmp_path, {"r.csv": "text,label\n" + LABELLED + unlabelled})
    assert result.accepted
    assert result.labels == ("bad", "good")
    train = result.report.splits[Split.TRAIN]
    assert (train.rows, train.missing, train.labels) == (26, 6, {"bad": 10, "good": 10})
    finding = only_finding(result, "incomplete-rows")
    assert finding.message == "training skips 6 rows of split train: the text, the label or an answer is missing"
    assert finding.count == 6


def test_one_skipped_row_is_singular(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"r.csv": "text,label\n" + LABELLED + "more text,\n"})
    assert only_finding(result, "incomplete-rows").message.startswith("training skips 1 row of split train:")


def test_a_label_of_rows_without_text_only_is_no_class(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"r.csv": "text,label\n" + LABELLED + " ,strange\n"})
    assert result.labels == ("bad", "good")


def test_an_unlabelled_copy_of_a_text_is_no_second_label(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"r.csv": "text,label\n" + LABELLED + "text 0,\n"})
    assert "label-conflict" not in codes(result)


@pytest.mark.parametrize(
    ("messages", "missing"),
    [
        ([USER, ANSWER], 0),
        ([USER, BLANK], 1),
        ([USER, BLANK, USER, ANSWER], 1),
        ([{"role": "user", "content": ""}, ANSWER], 1),
        ([{"role": "system", "content": ""}, USER, ANSWER], 0),
        ([], 1),
    ],
)
def test_conversations_without_something_to_learn_are_counted(
    tmp_path: Path, messages: list[dict[str, Any]], missing: int
) -> None:
    rows = [{"messages": [USER, {**ANSWER, "content": f"answer {n}"}]} for n in range(4)]
    result = ingest(tmp_path, {"c.jsonl": jsonl(*rows, {"messages": messages})}, task="chat")
    assert result.accepted
    assert result.report.splits[Split.TRAIN].missing == missing
    assert ("missing-value" in codes(result)) == bool(missing)
