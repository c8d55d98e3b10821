from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.data.data_requests import codes, csv_rows, error_codes, ingest, jsonl, only_finding, output_rows
from tokenizers import Tokenizer, models, pre_tokenizers

from windlass.domain.datasets import Split
from windlass_pipelines.data import hashing, near_duplicates
from windlass_pipelines.data.token_lengths import histogram

ROWS = [(f"text number {n} of many", "ab"[n % 2]) for n in range(20)]


def test_a_report_counts_rows_labels_duplicates_and_groups(tmp_path: Path) -> None:
    lines = [
        "text,label,group",
        *(f"{text},{label},{n % 4}" for n, (text, label) in enumerate(ROWS)),
        f"{ROWS[0][0]},a,9",
    ]
    report = ingest(tmp_path, {"r.csv": "\n".join(lines) + "\n"}).report
    train = report.splits[Split.TRAIN]
    assert (train.rows, train.labels, train.exact_duplicates, train.groups) == (21, {"a": 11, "b": 10}, 1, 5)
    assert train.tokens_mean == 5
    assert train.tokens_max == 5
    assert report.tokenizer == "whitespace"


def test_overlap_with_train_rejects_unless_it_is_allowed(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "train.csv": csv_rows(ROWS),
        "validation.csv": csv_rows([*ROWS[:2], ("new text", "a")]),
    }
    refused = ingest(tmp_path, files)
    assert error_codes(refused) == {"train-overlap"}
    assert only_finding(refused, "train-overlap").message == "2 of the 3 rows of split validation also in train"
    assert refused.report.overlap == {"validation": 2}
    assert refused.digest
    assert output_rows(tmp_path, Split.VALIDATION)[2] == {
        "text": "new text",
        "label": "a",
    }  # so that cleaning steps can be applied
    allowed = ingest(tmp_path, files, options={"allow_overlap": True})
    assert allowed.accepted
    assert allowed.rows == {Split.TRAIN: 20, Split.VALIDATION: 3}


def test_the_same_text_with_another_label_is_an_overlap_and_a_conflict(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"t.csv": csv_rows(ROWS), "validation.csv": csv_rows([(ROWS[0][0], "b"), ("new", "a")])})
    assert only_finding(result, "train-overlap").count == 1
    assert only_finding(result, "label-conflict").count == 1


def test_too_few_or_unseen_labels_are_rejected(tmp_path: Path) -> None:
    one = ingest(tmp_path, {"r.csv": csv_rows([("x", "a"), ("y", "a")])})
    assert error_codes(one) == {"too-few-labels"}
    files: dict[str, bytes | str] = {"t.csv": csv_rows(ROWS), "validation.csv": csv_rows([("p", "new"), ("q", "a")])}
    lacking = ingest(tmp_path, files)
    assert error_codes(lacking) == {"label-missing-in-train"}
    assert "new" in only_finding(lacking, "label-missing-in-train").message
    assert "label-missing-in-validation" in codes(lacking)


def test_a_text_column_used_as_label_is_rejected_without_its_content(tmp_path: Path) -> None:
    rows = [("x", f"this is a sentence {n}") for n in range(110)]
    result = ingest(tmp_path, {"r.csv": csv_rows(rows)}, max_labels=100)
    assert error_codes(result) == {"too-many-labels"}
    assert only_finding(result, "too-many-labels").message == (
        "the dataset has more distinct labels than the limit of 100"
    )
    assert "this is a sentence" not in result.model_dump_json()


def test_a_thousand_and_a_half_labels_are_accepted(tmp_path: Path) -> None:
    rows = [(f"text {n}", f"part {n % 1500}") for n in range(3000)]
    result = ingest(tmp_path, {"r.csv": csv_rows(rows)})
    assert result.accepted, result.report.errors
    assert len(result.labels) == 1500


def test_the_action_for_an_uncovered_label_fits_how_the_splits_were_made(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"t.csv": csv_rows(ROWS), "validation.csv": csv_rows([("p", "new"), ("q", "a")])}
    uploaded = only_finding(ingest(tmp_path, files), "label-missing-in-train")
    assert uploaded.action == "add rows with these labels, or upload all rows as train and split them with stratify"
    rows = [*((f"t{n}", "ab"[n % 2]) for n in range(20)), ("single", "rare")]
    step = {"op": "split", "train": 0.5, "validation": 0.5, "seed": 1}
    random = ingest(tmp_path, {"t.csv": csv_rows(rows)}, steps=[step])
    uncovered = [finding for finding in random.report.findings if finding.code.startswith("label-missing")]
    assert [finding.action for finding in uncovered] == ["split with stratify"]
    stratified = ingest(tmp_path, {"t.csv": csv_rows(rows)}, steps=[{**step, "stratify": True}])
    assert only_finding(stratified, "label-missing-in-validation").action == "add rows with these labels"


def test_a_dataset_without_train_rows_is_rejected(tmp_path: Path) -> None:
    assert error_codes(ingest(tmp_path, {"test.csv": csv_rows(ROWS)})) == {"no-train-rows"}


def test_imbalance_rare_labels_and_shared_groups_give_warnings(tmp_path: Path) -> None:
    train = "text,label,group\n" + "".join(f"t{n},{'a' if n else 'b'},{n}\n" for n in range(30))
    result = ingest(tmp_path, {"t.csv": train, "validation.csv": "text,label,group\nv1,a,3\nv2,b,77\n"})
    assert result.accepted
    assert {"label-imbalance", "rare-label", "group-overlap"} <= codes(result)
    assert only_finding(result, "group-overlap").count == 1


def test_near_duplicates_and_near_overlap_are_counted(tmp_path: Path) -> None:
    long = " ".join(f"word{n}" for n in range(60))
    files: dict[str, bytes | str] = {
        "t.csv": csv_rows([*ROWS, (long, "a"), (long + " end", "a")]),
        "validation.csv": csv_rows([("x y", "b"), ("start " + long, "a")]),
    }
    report = ingest(tmp_path, files).report
    assert report.splits[Split.TRAIN].near_duplicates == 1
    assert [finding.count for finding in report.findings if finding.code == "near-overlap"] == [1]


def test_a_partial_near_duplicate_search_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windlass_pipelines.data.statistics.MAX_REPORT_ROWS", 5)
    result = ingest(tmp_path, {"r.csv": csv_rows(ROWS)})
    assert only_finding(result, "near-duplicates-partial").message == (
        "near duplicates were searched in the first 5 of 20 distinct rows"
    )
    monkeypatch.setattr("windlass_pipelines.data.cleaning.MAX_CLEANING_ROWS", 5)
    cleaned = ingest(tmp_path, {"r.csv": csv_rows(ROWS)}, steps=[{"op": "deduplicate", "near": True, "threshold": 1}])
    assert "15 later rows" in next(f.message for f in cleaned.report.findings if f.severity == "warning")
    assert len(output_rows(tmp_path)) == 20


def test_personal_data_is_counted(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"r.csv": csv_rows([*ROWS, ("mail x@y.example or z@y.example", "a")])})
    assert result.report.personal_data == {"email": 2}
    assert only_finding(result, "personal-data").count == 2
    masked = ingest(
        tmp_path, {"r.csv": csv_rows([*ROWS, ("mail x@y.example", "a")])}, steps=[{"op": "mask-personal-data"}]
    )
    assert masked.report.personal_data == {}


def test_tokens_are_counted_with_the_given_tokenizer_without_truncation(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("e", "isolated")
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    report = ingest(tmp_path, {"r.csv": csv_rows([("e" * 30, "a"), ("e", "b")])}, tokenizer=path.as_uri()).report
    assert report.splits[Split.TRAIN].tokens_max == 30
    assert report.splits[Split.TRAIN].tokens_mean == 15.5
    assert report.tokenizer.startswith("tokenizer.json sha256:")
    path.write_text("{}")
    unusable = ingest(tmp_path, {"r.csv": csv_rows(ROWS)}, tokenizer=path.as_uri())
    assert unusable.accepted
    assert (unusable.report.tokenizer, "tokenizer-unreadable" in codes(unusable)) == ("whitespace", True)


def test_words_are_counted_when_the_base_model_of_the_tokenizer_was_deleted_meanwhile(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"r.csv": csv_rows(ROWS)}, tokenizer=(tmp_path / "tokenizer.json").as_uri())
    assert (result.accepted, result.report.tokenizer) == (True, "whitespace")
    assert "tokenizer-unreadable" not in codes(result)


def test_a_clean_request_reads_the_internal_form_of_its_parent(tmp_path: Path) -> None:
    chat = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}]} for n in range(5)
    ]
    result = ingest(
        tmp_path, {"train.jsonl": jsonl(*chat, chat[0])}, task="chat", operation="clean", steps=[{"op": "deduplicate"}]
    )
    assert result.rows == {Split.TRAIN: 5}
    assert output_rows(tmp_path) == chat


def test_a_clean_report_covers_the_rows_after_cleaning(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in [*ROWS, ("no label", None)]]
    dropped: dict[str, Any] = {"operation": "clean", "steps": [{"op": "drop-missing"}]}
    result = ingest(tmp_path, {"train.jsonl": jsonl(*rows)}, **dropped)
    assert result.rows == {Split.TRAIN: 20}
    assert not {"missing-value", "incomplete-rows"} & codes(result)


def test_the_same_request_gives_the_same_digest(tmp_path: Path) -> None:
    steps = [{"op": "deduplicate", "near": True}, {"op": "split", "stratify": True, "seed": 4}]
    first = ingest(tmp_path, {"r.csv": csv_rows(ROWS)}, steps=steps)
    assert first.digest
    assert ingest(tmp_path, {"r.csv": csv_rows(ROWS)}, steps=steps) == first


@given(
    st.lists(st.sampled_from([b"%016d" % n for n in range(6)]), max_size=30),
    st.lists(st.sampled_from([b"%016d" % n for n in range(9)]), max_size=30),
)
def test_hash_arrays_find_first_occurrences_codes_and_members(these: list[bytes], others: list[bytes]) -> None:
    gathered = hashing.hash_array(these)
    assert hashing.first_occurrences(gathered).tolist() == [key not in these[:n] for n, key in enumerate(these)]
    order = list(dict.fromkeys(these))
    numbers, count = hashing.factorize(gathered)
    assert (numbers.tolist(), count) == ([order.index(key) for key in these], len(order))
    assert hashing.isin(gathered, hashing.hash_array(others)).tolist() == [key in others for key in these]


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=200))
def test_a_histogram_counts_every_length_in_few_ascending_bins(lengths: list[int]) -> None:
    bins = histogram(np.array(lengths, np.uint32))
    assert bins is not None
    assert sum(bins.counts) == len(lengths)
    assert len(bins.edges) == len(bins.counts) + 1 <= 23
    assert list(bins.edges) == sorted(set(bins.edges))
    assert bins.edges[-1] > max(lengths)


def jaccard(one: str, other: str) -> float:
    shingles = [{text[n : n + 5] for n in range(len(text) - 4)} for text in (one, other)]
    return len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])


def test_the_similarity_approximates_the_jaccard_index_of_shingles() -> None:
    random = np.random.default_rng(5)
    similarities: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(200):
        letters = list(random.choice(list("abcdefghijklmnopqrstuvwxyz "), 400))
        changed = letters.copy()
        for place in random.integers(0, 400, random.integers(0, 20)):
            changed[place] = "#"
        one, other = (" ".join("".join(text).split()) for text in (letters, changed))
        index = near_duplicates.NearDuplicateIndex(0.8)
        index.add(0, {"text": one, "label": "a"})
        similarities[index.add(1, {"text": other, "label": "a"}) == 0].append(jaccard(one, other))
    assert min(similarities[True]) > 0.68
    assert max(similarities[False]) < 0.9
    assert min(map(len, similarities.values())) > 20
