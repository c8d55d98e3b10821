"""JSON Lines and JSON arrays: keys of every row, one object at a time, and errors that name the cause."""

import json
import tracemalloc
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.data.data_requests import error_codes, ingest, jsonl, only_finding, output_rows

from windlass.dataset_files.findings import FileFindings, Findings
from windlass.dataset_files.json_array import array_records
from windlass.dataset_files.streams import UnreadableError
from windlass.domain.datasets import Split
from windlass.domain.ingest import FileFormat

LABELLED = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(4)]


def test_a_key_is_used_wherever_it_first_appears(tmp_path: Path) -> None:
    plain = [{"instruction": f"Question {number}", "output": "Answer"} for number in range(120)]
    late = {"instruction": "Translate", "output": "Chat", "input": "Cat", "system": "Be brief", "group": "g1"}
    result = ingest(tmp_path, {"rows.jsonl": jsonl(*plain, late)}, task="chat")
    assert result.accepted, result.report.errors
    assert output_rows(tmp_path)[-1] == {
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "Translate\n\nCat"},
            {"role": "assistant", "content": "Chat"},
        ],
        "group": "g1",
    }


def test_a_required_key_may_be_missing_in_the_first_rows(tmp_path: Path) -> None:
    rows = [{"text": f"text {number}"} for number in range(2000)]
    result = ingest(tmp_path, {"rows.jsonl": jsonl(*rows, *LABELLED)})
    assert result.accepted, result.report.errors
    assert result.labels == ("a", "b")


def test_a_group_survives_cleaning_wherever_it_first_appears(tmp_path: Path) -> None:
    rows = [*LABELLED, {"text": "grouped", "label": "a", "group": "g1"}]
    ingest(tmp_path, {"rows.jsonl": jsonl(*rows)})
    parent = (tmp_path / "out" / "train.jsonl").rename(tmp_path / "parent.jsonl")
    inputs = [(parent.as_uri(), Split.TRAIN)]
    cleaned = ingest(tmp_path, {}, operation="clean", inputs=inputs, steps=[{"op": "drop-missing"}])
    assert cleaned.accepted, cleaned.report.errors
    assert output_rows(tmp_path)[-1] == rows[-1]
    assert cleaned.report.files == ()


def test_unused_keys_are_reported_with_the_number_of_their_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [*LABELLED, *({**row, "note": 1} for row in LABELLED[:2])]
    result = ingest(tmp_path, {"rows.jsonl": jsonl(*({**row, "id": 1} for row in rows))})
    assert only_finding(result, "columns-ignored").message == "unused columns: id, note (2 rows)"


def test_too_many_different_keys_are_rejected(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "b", f"key {number}": 1} for number in range(1000)]
    assert error_codes(ingest(tmp_path, {"rows.jsonl": jsonl(*rows)})) == {"too-many-columns"}


ARRAYS = {
    "one line": ("rows.json", json.dumps(LABELLED).encode()),
    "pretty": ("rows.json", json.dumps(LABELLED, indent=2).encode()),
    "array in .jsonl": ("rows.jsonl", json.dumps(LABELLED).encode()),
    "pretty array in .jsonl": ("rows.jsonl", b"\n\n" + json.dumps(LABELLED, indent=2).encode() + b"\n"),
    "lines in .json": ("rows.json", jsonl(*LABELLED).encode()),
    "UTF-16": ("rows.json", json.dumps(LABELLED, indent=1).encode("utf-16")),
    "UTF-8 with BOM": ("rows.json", json.dumps(LABELLED).encode("utf-8-sig")),
    "CR in .jsonl": ("rows.jsonl", jsonl(*LABELLED).replace("\n", "\r").encode()),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_json_is_read_as_array_or_as_lines(tmp_path: Path, case: str) -> None:
    name, content = ARRAYS[case]
    result = ingest(tmp_path, {name: content})
    assert result.accepted, result.report.errors
    assert output_rows(tmp_path) == LABELLED
    assert result.report.files[0].format is (FileFormat.JSONL if "lines" in case or "CR" in case else FileFormat.JSON)


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        ('[\n{"text": "a", "label": "x"},\n{"text": "b" "label": "x"}\n]', "invalid-json", 3),
        ('[\n{"text": "a", "label": "x"}\n{"text": "b"}]', "invalid-json", 3),
        ('[\n{"text": "a", "label": "x"},\n]', "invalid-json", 3),
        ('[\n{"text": NaN, "label": "x"}]', "invalid-json", 2),
        ('[{"text": "a", "label": "x"}]\n\n{}', "invalid-json", 3),
        ('[{"text": "a",\n "label": "x"},\n{"text": "never', "truncated-file", 3),
        ('[{"text": "a", "label": "x"},\n{"text": "b"', "truncated-file", 2),
        ('[{"text": "a", "label": "x"}', "truncated-file", 1),
        ('[{"text": "a", "label": "x"},\n7]', "not-an-object", 2),
        ('[{"text": ' + "[" * 100_000, "too-deep", 1),
        ("[]", "no-rows", None),
        ('[{"text": "a\xe9", "label": "x"}]', "not-utf-8", 1),
    ],
)
def test_an_error_in_an_array_names_its_cause_and_line(
    tmp_path: Path, content: str, code: str, line: int | None
) -> None:
    result = ingest(tmp_path, {"rows.json": content.encode("latin-1" if code == "not-utf-8" else "utf-8")})
    assert error_codes(result) == {code}
    assert only_finding(result, code).line == line


def test_an_object_over_the_limit_is_rejected(tmp_path: Path) -> None:
    content = json.dumps([{"text": "x" * 3_000_000, "label": "a"}])
    assert error_codes(ingest(tmp_path, {"rows.json": content}, max_line_bytes=1000)) == {"line-too-long"}


def test_an_array_is_read_in_bounded_memory() -> None:
    element = json.dumps({"text": "x" * 1000, "label": "a"})
    count = 8000
    pieces = (f"{element}," * 8 for _ in range(count // 8))
    findings = FileFindings(Findings(), "rows.json")
    tracemalloc.start()
    try:
        records = array_records(chain(["["], pieces, [element, "]"]), 10_000, findings)
        assert sum(1 for _ in records) == count + 1
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_an_export_of_annotations_is_rejected_with_the_supported_export(tmp_path: Path) -> None:
    tasks = [{"id": 0, "annotations": [{"result": []}], "data": {"text": "a"}}]
    finding = only_finding(ingest(tmp_path, {"export.json": json.dumps(tasks)}), "unknown-column")
    assert "export it as JSON-MIN or CSV" in finding.action


def test_an_object_that_spans_lines_outside_of_an_array_is_one_finding(tmp_path: Path) -> None:
    content = "".join(json.dumps(row, indent=2) + "\n" for row in LABELLED)
    result = ingest(tmp_path, {"rows.jsonl": content})
    (finding,) = result.report.findings
    assert (finding.code, finding.line, finding.message) == ("invalid-json", 1, "an object spans several lines")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(
    objects=st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), max_size=6),
    size=st.integers(1, 30),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_an_array_does_not_depend_on_the_boundaries_of_its_pieces(
    objects: list[Any], size: int, indent: int | None, ascii_only: bool
) -> None:
    whole = json.dumps(objects, indent=indent, ensure_ascii=ascii_only)

    def pieces() -> Iterator[str]:
        return (whole[start : start + size] for start in range(0, len(whole), size))

    findings = FileFindings(Findings(), "rows.json")
    assert [record for _, record in array_records(pieces(), 10_000, findings)] == objects
    cut = (piece for piece in [whole[: max(1, len(whole) - 1)]])
    with pytest.raises(UnreadableError, match="truncated-file"):
        list(array_records(cut, 10_000, findings))
