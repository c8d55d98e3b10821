import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tests.unit.data.data_requests import csv_rows, error_codes, ingest, jsonl, only_finding, output_rows

from windlass.dataset_files.findings import Findings
from windlass.domain.datasets import CleaningStep, Split
from windlass_pipelines.data.cleaning import apply_step, normalize
from windlass_pipelines.data.row_store import RowStore, RowWriter

PLACED = tuple[Split, dict[str, Any]]
STEP: TypeAdapter[CleaningStep] = TypeAdapter(CleaningStep)

words = st.sampled_from(["alpha", "beta", "gamma", "mail a@b.example", "call +49 30 1234567", "  ", "é", "e\u0301"])
texts = st.lists(words, max_size=5).map(" ".join)
labels = st.sampled_from(["x", "y", "z", None])
groups = st.sampled_from(["g1", "g2", "g3", "g4", "g5", None])


@st.composite
def placed_rows(draw: st.DrawFn) -> list[PLACED]:
    rows = []
    for split in Split:
        for _ in range(draw(st.integers(0, 12))):
            row: dict[str, Any] = {"text": draw(texts), "label": draw(labels)}
            if (group := draw(groups)) is not None:
                row["group"] = group
            rows.append((split, row))
    return rows


def clean(folder: Path, rows: list[PLACED], *steps: dict[str, Any]) -> tuple[list[PLACED], Findings]:
    with RowWriter(folder / "0") as writer:
        for split, row in rows:
            writer.add(split, row)
    current: RowStore = writer.rows
    findings = Findings()
    for number, step in enumerate(steps, start=1):
        current, record = apply_step(STEP.validate_python(step), current, folder / str(number), findings)
        assert record["rows_out"] == current.total
    return list(current.read_all()), findings


def bag(rows: list[PLACED]) -> Counter[str]:
    return Counter(json.dumps(row, sort_keys=True) for _, row in rows)


properties = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@properties
@given(
    rows=placed_rows(),
    by_group=st.booleans(),
    stratify=st.booleans(),
    seed=st.integers(0, 5),
    test=st.sampled_from([0, 0.1]),
)
def test_splitting_keeps_every_row_once_and_groups_together(
    tmp_path_factory: pytest.TempPathFactory, rows: list[PLACED], by_group: bool, stratify: bool, seed: int, test: float
) -> None:
    step = {"op": "split", "train": 0.7, "validation": 0.3 - test, "test": test}
    step |= {"by_group": by_group, "stratify": stratify, "seed": seed}
    after, findings = clean(tmp_path_factory.mktemp("split"), rows, step)
    assert bag(after) == bag(rows)
    if by_group and not findings.rejected:
        homes: dict[str, set[Split]] = {}
        for split, row in after:
            if "group" in row:
                homes.setdefault(row["group"], set()).add(split)
        assert all(len(splits) == 1 for splits in homes.values())
    if not findings.rejected:
        places: dict[str, set[Split]] = {}
        for split, row in after:
            if row["text"].strip() and row["label"]:
                places.setdefault(row["text"], set()).add(split)
        assert all(len(splits) == 1 for splits in places.values())
        if stratify:
            assert {row["label"] for _, row in after} == {row["label"] for split, row in after if split is Split.TRAIN}
        wanted = {Split.TRAIN, Split.VALIDATION, *([Split.TEST] if test else [])}
        assert {split for split, _ in after} == (wanted if rows else set())
    again, _ = clean(tmp_path_factory.mktemp("again"), rows, step)
    assert again == after


@properties
@given(rows=placed_rows())
@pytest.mark.parametrize(
    "step",
    [
        {"op": "deduplicate"},
        {"op": "deduplicate", "near": True, "threshold": 0.7},
        {"op": "normalize-text", "lowercase": True},
        {"op": "mask-personal-data"},
        {"op": "drop-missing"},
        {"op": "fill-missing", "field": "text", "value": "nothing"},
        {"op": "copy-split"},
    ],
    ids=lambda step: "-".join(map(str, step.values())),
)
def test_cleaning_steps_are_idempotent(
    tmp_path_factory: pytest.TempPathFactory, rows: list[PLACED], step: dict[str, Any]
) -> None:
    once, _ = clean(tmp_path_factory.mktemp("once"), rows, step)
    twice, _ = clean(tmp_path_factory.mktemp("twice"), rows, step, step)
    assert twice == once


def test_deduplicate_keeps_the_first_of_equal_rows_across_splits(tmp_path: Path) -> None:
    one, other = {"text": "same", "label": "a", "group": "1"}, {"text": "same", "label": "b"}
    rows = [(Split.TRAIN, one), (Split.TRAIN, {**one, "group": "2"}), (Split.TRAIN, other), (Split.VALIDATION, one)]
    after, _ = clean(tmp_path, rows, {"op": "deduplicate"})
    assert after == [(Split.TRAIN, one), (Split.TRAIN, other)]


LONG = (
    "the quick brown fox jumps over the lazy dog while seven wizards quietly brew a potion of invisibility in the barn"
)


def test_near_duplicates_are_removed_only_with_near_and_an_equal_label(tmp_path: Path) -> None:
    rows = [{"text": LONG, "label": "a"}, {"text": LONG + "!", "label": "a"}, {"text": LONG + "?", "label": "b"}]
    placed = [(Split.TRAIN, row) for row in rows]
    assert len(clean(tmp_path / "exact", placed, {"op": "deduplicate"})[0]) == 3
    near, _ = clean(tmp_path / "near", placed, {"op": "deduplicate", "near": True})
    assert [row for _, row in near] == [rows[0], rows[2]]


def test_missing_values_are_dropped_or_filled(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "x", "label": None},
        {"text": " ", "label": "a"},
        {"text": "y", "label": "b"},
    ]
    placed = [(Split.TRAIN, row) for row in rows]
    assert [row for _, row in clean(tmp_path / "1", placed, {"op": "drop-missing"})[0]] == [rows[2]]
    filled, _ = clean(
        tmp_path / "2",
        placed,
        {"op": "fill-missing", "field": "label", "value": "none"},
        {"op": "fill-missing", "field": "text", "value": "-"},
    )
    assert [(row["text"], row["label"]) for _, row in filled] == [("x", "none"), ("-", "a"), ("y", "b")]


def test_fill_missing_fills_blank_messages_and_rejects_labels_of_conversations(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "a"}]}
    fill = {"op": "fill-missing", "field": "text", "value": "?"}
    assert ingest(tmp_path, {"c.jsonl": jsonl(row)}, task="chat", steps=[fill]).accepted
    assert [turn["content"] for turn in output_rows(tmp_path)[0]["messages"]] == ["?", "a"]
    refused = ingest(tmp_path, {"c.jsonl": jsonl(row)}, task="chat", steps=[{**fill, "field": "label"}])
    assert error_codes(refused) == {"no-labels"}


@given(st.text())
def test_normalized_text_is_nfc_with_single_spaces_and_stable(text: str) -> None:
    for lowercase in (False, True):
        once = normalize(text, lowercase=lowercase)
        assert normalize(once, lowercase=lowercase) == once
        assert once == " ".join(once.split())
    assert normalize("A\u0000 e\u0301\t\n b", lowercase=True) == "a é b"


def test_stratified_splits_keep_label_proportions(tmp_path: Path) -> None:
    placed = [(Split.TRAIN, {"text": f"t{n}", "label": "rare" if n % 10 == 0 else "common"}) for n in range(1000)]
    step = {"op": "split", "train": 0.6, "validation": 0.3, "test": 0.1, "stratify": True}
    counts = Counter((split.value, row["label"]) for split, row in clean(tmp_path, placed, step)[0])
    assert counts == {
        ("train", "rare"): 60,
        ("validation", "rare"): 30,
        ("test", "rare"): 10,
        ("train", "common"): 540,
        ("validation", "common"): 270,
        ("test", "common"): 90,
    }


def test_grouped_stratified_splits_approximate_sizes_and_labels(tmp_path: Path) -> None:
    placed = [
        (Split.TRAIN, {"text": f"{g}-{n}", "label": "ab"[(g + n) % 7 == 0], "group": str(g)})
        for g in range(200)
        for n in range(1 + g % 13)
    ]
    step = {"op": "split", "by_group": True, "stratify": True, "seed": 3}
    after, _ = clean(tmp_path, placed, step)
    for label in "ab":
        rows = [split for split, row in after if row["label"] == label]
        assert rows.count(Split.VALIDATION) / len(rows) == pytest.approx(0.2, abs=0.02)


def test_another_seed_gives_another_split(tmp_path: Path) -> None:
    placed = [(Split.TRAIN, {"text": str(n), "label": "a"}) for n in range(100)]
    first, _ = clean(tmp_path / "1", placed, {"op": "split", "seed": 1})
    second, _ = clean(tmp_path / "2", placed, {"op": "split", "seed": 2})
    assert first != second


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ({"op": "split"}, "too-small-to-split"),
        ({"op": "split", "by_group": True}, "no-groups"),
    ],
)
def test_impossible_splits_are_rejected(tmp_path: Path, step: dict[str, Any], code: str) -> None:
    assert code in error_codes(ingest(tmp_path, {"r.csv": csv_rows([("x", "a")])}, steps=[step]))


def test_conversations_cannot_be_stratified(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": "a"} for n in range(9)]
    result = ingest(tmp_path, {"c.jsonl": jsonl(*rows)}, task="chat", steps=[{"op": "split", "stratify": True}])
    assert error_codes(result) == {"no-labels"}


def test_the_steps_are_recorded_with_their_settings(tmp_path: Path) -> None:
    rows = csv_rows([("x", "a"), ("x", "a"), ("y", "b")])
    result = ingest(tmp_path, {"r.csv": rows}, steps=[{"op": "deduplicate"}, {"op": "normalize-text"}])
    assert result.report.steps == (
        {"op": "deduplicate", "near": False, "threshold": 0.9, "rows_in": 3, "rows_out": 2},
        {"op": "normalize-text", "lowercase": False, "rows_in": 2, "rows_out": 2},
    )


def test_a_copied_split_may_overlap_train_and_a_later_split_removes_the_overlap(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(10)]
    copied = ingest(tmp_path, {"c.jsonl": jsonl(*rows)}, task="chat", steps=[{"op": "copy-split"}])
    assert copied.accepted
    assert output_rows(tmp_path, Split.VALIDATION) == output_rows(tmp_path)
    assert copied.report.overlap == {"validation": 10}
    assert only_finding(copied, "train-overlap").severity == "info"
    steps = [{"op": "copy-split"}, {"op": "split"}]
    divided = ingest(tmp_path, {"c.jsonl": jsonl(*rows)}, task="chat", steps=steps)
    assert divided.report.overlap == {"validation": 0}
