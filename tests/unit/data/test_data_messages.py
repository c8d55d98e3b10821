"""Layouts of conversations: ShareGPT, developer messages, weights, tool calls."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.data.data_requests import codes, error_codes, ingest, jsonl, only_finding, output_rows

from windlass.domain.datasets import Split

USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
SYSTEM = {"role": "system", "content": "be brief"}
TOOL_CALL = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "stock"}}]}
SHAREGPT = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]


def chat(folder: Path, *rows: dict[str, Any], **options: Any) -> Any:
    return ingest(folder, {"c.jsonl": jsonl(*rows)}, task="chat", options=options)


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"conversations": SHAREGPT}, [USER, ANSWER]),
        ({"conversations": [USER, ANSWER]}, [USER, ANSWER]),
        ({"conversations": SHAREGPT, "system": "be brief"}, [SYSTEM, USER, ANSWER]),
        ({"conversations": [{"from": "system", "value": "be brief"}, *SHAREGPT]}, [SYSTEM, USER, ANSWER]),
        (
            {"conversations": [SHAREGPT[0], {"from": "observation", "value": "4"}, SHAREGPT[1]]},
            [USER, {"role": "tool", "content": "4"}, ANSWER],
        ),
        ({"messages": [{"role": "developer", "content": "be brief"}, USER, ANSWER]}, [SYSTEM, USER, ANSWER]),
        ({"messages": [USER, ANSWER | {"weight": 0}, USER, ANSWER]}, [USER, ANSWER | {"weight": 0}, USER, ANSWER]),
        ({"messages": [USER, ANSWER | {"train": False}, USER, ANSWER]}, [USER, ANSWER | {"weight": 0}, USER, ANSWER]),
        ({"messages": [USER | {"weight": 0}, ANSWER | {"weight": 1, "train": True}]}, [USER, ANSWER]),
    ],
)
def test_every_layout_becomes_messages(tmp_path: Path, row: dict[str, Any], messages: list[Any]) -> None:
    result = chat(tmp_path, row)
    assert result.accepted, result.report.errors
    assert output_rows(tmp_path) == [{"messages": messages}]
    assert result.report.splits[Split.TRAIN].missing == 0


def test_another_column_may_have_the_sharegpt_layout(tmp_path: Path) -> None:
    assert chat(tmp_path, {"dialog": SHAREGPT}, columns={"messages": "dialog"}).accepted
    assert output_rows(tmp_path) == [{"messages": [USER, ANSWER]}]


@pytest.mark.parametrize(
    ("message", "code", "pointer"),
    [
        ({"from": "robot", "value": "x"}, "wrong-role", "/conversations/1/from"),
        ({"from": 3, "value": "x"}, "wrong-role", "/conversations/1/from"),
        ({"from": "gpt", "value": 3}, "wrong-type", "/conversations/1/value"),
        ({"from": "function_call", "value": "{}"}, "unsupported-message", "/conversations/1"),
        ({"from": "gpt", "value": "x", "weight": 0.5}, "wrong-weight", "/conversations/1/weight"),
        ({"from": "gpt", "value": "x", "weight": [0]}, "wrong-weight", "/conversations/1/weight"),
        ({"from": "gpt", "value": "x", "train": "no"}, "wrong-type", "/conversations/1/train"),
    ],
)
def test_a_bad_message_is_reported_with_the_key_of_its_layout(
    tmp_path: Path, message: dict[str, Any], code: str, pointer: str
) -> None:
    finding = only_finding(chat(tmp_path, {"conversations": [SHAREGPT[0], message]}), code)
    assert (finding.severity, finding.line, finding.pointer) == ("error", 1, pointer)


def test_a_conversation_of_which_nothing_is_learned_is_counted(tmp_path: Path) -> None:
    result = chat(tmp_path, {"messages": [USER, ANSWER]}, {"messages": [USER, ANSWER | {"weight": 0}]})
    assert result.accepted
    assert result.report.splits[Split.TRAIN].missing == 1
    assert only_finding(result, "no-target").line == 2


def test_rows_that_differ_in_weight_are_no_duplicates_but_overlap(tmp_path: Path) -> None:
    masked = ANSWER | {"weight": 0}
    rows: list[dict[str, Any]] = [{"messages": [USER, first, USER, ANSWER]} for first in (ANSWER, masked)]
    assert "duplicates" not in codes(chat(tmp_path, *rows))
    files: dict[str, bytes | str] = {"c.jsonl": jsonl(rows[0]), "validation.jsonl": jsonl(rows[1])}
    assert "train-overlap" in error_codes(ingest(tmp_path, files, task="chat"))


@pytest.mark.parametrize(
    "message", [TOOL_CALL, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
)
def test_unsupported_rows_reject_the_file_or_are_left_out_and_counted(tmp_path: Path, message: dict[str, Any]) -> None:
    rows: list[dict[str, Any]] = [{"messages": [USER, {**ANSWER, "content": f"answer {n}"}]} for n in range(20)]
    rows[3:3] = [{"messages": [USER, message, ANSWER]}, {"messages": [USER, message, ANSWER]}]
    rejected = chat(tmp_path, *rows)
    assert error_codes(rejected) == {"unsupported-message"}
    assert "skip_unsupported" in rejected.report.errors[0].action
    result = chat(tmp_path, *rows, skip_unsupported=True)
    assert result.accepted
    assert result.rows == {Split.TRAIN: 20}
    skipped = [finding for finding in result.report.findings if finding.code == "row-skipped"]
    assert [(finding.severity, finding.line) for finding in skipped] == [("warning", 4), ("warning", 5)]
    assert result.report.files[0].rows == 22


@pytest.mark.parametrize("label", [["good", "cheap"], {"choices": ["good", "cheap"]}, '{"choices":["good","cheap"]}'])
def test_several_labels_are_refused_with_the_reason(tmp_path: Path, label: Any) -> None:
    result = ingest(tmp_path, {"r.jsonl": jsonl({"text": "x", "label": "a"}, {"text": "y", "label": label})})
    finding = only_finding(result, "multi-label")
    assert (finding.severity, finding.line) == ("error", 2)
    assert finding.message == "multi-label classification is not supported: a row has one label"


def test_labels_that_only_look_like_json_are_labels(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate(["[bug]", "{x", "[]", 2**70])]
    assert ingest(tmp_path, {"r.jsonl": jsonl(*rows)}).labels == (str(2**70), "[]", "[bug]", "{x")
