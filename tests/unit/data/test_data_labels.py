"""Labels that look alike, and the steps that change labels."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.unit.data.data_requests import codes, csv_rows, error_codes, ingest, jsonl, only_finding, output_rows

from windlass.domain.datasets import Split
from windlass_pipelines.data.labels import label_key, similar_labels

ROWS = [(f"text {n}", label) for label in ("login", "Billing") for n in range(10)]


@pytest.mark.parametrize(
    "labels",
    [
        ("Billing", "billing"),
        ("new order", "new  order"),
        ("1", "1.0"),
        ("-2.50", "-2.5"),
        ("caf\u00e9", "cafe\u0301"),
        ("\uff21", "a"),
        ("True", "true"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_labels_that_look_alike_have_one_key(labels: tuple[str, str]) -> None:
    assert similar_labels(labels) == [tuple(sorted(labels))]


@pytest.mark.parametrize(
    "labels", [("01", "1"), ("1", "1.5"), ("a", "b"), ("1.0.0", "1.0"), ("c", "c++"), ("yes", "1")]
)
def test_other_labels_have_different_keys(labels: tuple[str, str]) -> None:
    assert label_key(labels[0]) != label_key(labels[1])


def test_look_alikes_are_a_finding_that_names_them(tmp_path: Path) -> None:
    content = csv_rows([*ROWS, ("more", "billing"), ("less", "1.0"), ("least", "1")])
    finding = only_finding(ingest(tmp_path, {"r.csv": content}), "similar-labels")
    assert (finding.severity, finding.count, finding.action) == ("warning", 2, "clean with merge-labels")
    assert finding.message.endswith(": 1 = 1.0, Billing = billing")


def test_look_alikes_are_merged_as_the_most_frequent_one(tmp_path: Path) -> None:
    content = csv_rows([*ROWS, ("more", "billing"), ("other", "LOGIN"), ("none", "")])
    result = ingest(tmp_path, {"r.csv": content}, steps=[{"op": "merge-labels"}])
    assert result.labels == ("Billing", "login")
    assert "similar-labels" not in codes(result)
    assert Counter(row["label"] for row in output_rows(tmp_path)) == {"login": 11, "Billing": 11, None: 1}


def test_a_held_out_label_that_looks_like_one_of_train_can_be_merged(tmp_path: Path) -> None:
    train = csv_rows([(f"text {n}", f"{n % 2}.0") for n in range(10)])
    files: dict[str, bytes | str] = {"t.csv": train, "validation.csv": csv_rows([("x", "0"), ("y", "1")])}
    finding = only_finding(ingest(tmp_path, files), "label-missing-in-train")
    assert finding.action == "clean with merge-labels"
    assert ingest(tmp_path, files, steps=[{"op": "merge-labels"}]).accepted


def test_labels_are_mapped_and_an_unknown_one_is_an_error(tmp_path: Path) -> None:
    step: dict[str, Any] = {"op": "map-labels", "labels": {"login": "access", "Billing": "login"}}
    result = ingest(tmp_path, {"r.csv": csv_rows(ROWS)}, steps=[step])
    assert result.report.splits[Split.TRAIN].labels == {"access": 10, "login": 10}
    unknown = ingest(tmp_path, {"r.csv": csv_rows(ROWS)}, steps=[step | {"labels": {"bilink": "billing"}}])
    assert error_codes(unknown) == {"unknown-label"}
    assert "no row has the label bilink; the labels are Billing, login" in unknown.report.errors[0].message


@pytest.mark.parametrize("step", [{"op": "merge-labels"}, {"op": "map-labels", "labels": {"a": "b"}}])
def test_conversations_have_no_labels_to_change(tmp_path: Path, step: dict[str, Any]) -> None:
    content = jsonl({"prompt": "question", "completion": "answer"})
    assert error_codes(ingest(tmp_path, {"c.jsonl": content}, task="chat", steps=[step])) == {"no-labels"}
