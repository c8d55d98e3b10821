import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.data.data_requests import codes, error_codes, ingest, jsonl, only_finding, output_rows

from windlass.domain.datasets import Split

USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"messages": [USER, ANSWER]}, [USER, ANSWER]),
        ({"messages": [USER, {**ANSWER, "weight": 1, "name": "x"}], "tools": []}, [USER, ANSWER]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, ANSWER]}, [USER, ANSWER]),
        ({"prompt": "hi", "completion": "hello"}, [USER, ANSWER]),
        ({"prompt": [USER], "completion": [ANSWER]}, [USER, ANSWER]),
        (
            {"prompt": "hi", "completion": "hello", "system": "be kind"},
            [{"role": "system", "content": "be kind"}, USER, ANSWER],
        ),
        ({"instruction": "hi", "output": "hello"}, [USER, ANSWER]),
        ({"instruction": "hi", "input": "", "output": "hello"}, [USER, ANSWER]),
        (
            {"instruction": "add", "input": "1 2", "output": "3"},
            [{"role": "user", "content": "add\n\n1 2"}, {"role": "assistant", "content": "3"}],
        ),
        (
            {"instruction": "again", "output": "bye", "history": [["hi", "hello"]]},
            [USER, ANSWER, {"role": "user", "content": "again"}, {"role": "assistant", "content": "bye"}],
        ),
    ],
)
def test_every_chat_format_becomes_messages(tmp_path: Path, row: dict[str, Any], messages: list[Any]) -> None:
    result = ingest(tmp_path, {"chat.jsonl": jsonl(row)}, task="chat")
    assert result.accepted, result.report.errors
    assert output_rows(tmp_path) == [{"messages": messages}]


@pytest.mark.parametrize(
    ("row", "code", "pointer"),
    [
        ({"messages": "hi"}, "invalid-json", "/messages"),
        ({"messages": {"role": "user"}}, "wrong-type", "/messages"),
        ({"messages": [USER, "hello"]}, "wrong-type", "/messages/1"),
        ({"messages": [USER, {"role": "bot", "content": "x"}]}, "wrong-role", "/messages/1/role"),
        ({"messages": [USER, {"role": "assistant", "content": 3}]}, "wrong-type", "/messages/1/content"),
        ({"messages": [USER]}, "no-assistant-message", "/messages"),
        ({"messages": [USER, {**ANSWER, "tool_calls": [{}]}]}, "unsupported-message", "/messages/1"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]},
            "unsupported-message",
            "/messages/0/content",
        ),
        ({"prompt": 1, "completion": "x"}, "wrong-type", "/prompt"),
        ({"instruction": "a", "output": "b", "history": [["only one"]]}, "wrong-type", "/history/0"),
    ],
)
def test_an_invalid_conversation_is_reported_with_its_pointer(
    tmp_path: Path, row: dict[str, Any], code: str, pointer: str
) -> None:
    finding = only_finding(ingest(tmp_path, {"chat.jsonl": jsonl({**row})}, task="chat"), code)
    assert (finding.line, finding.pointer) == (1, pointer)


def test_a_row_format_of_another_task_is_rejected(tmp_path: Path) -> None:
    rows = jsonl({"messages": [USER, ANSWER]})
    assert error_codes(ingest(tmp_path, {"r.jsonl": rows}, options={"row_format": "messages"})) == {"wrong-row-format"}
    unknown = ingest(tmp_path, {"r.jsonl": jsonl({"question": "hi", "answer": "x"})}, task="chat")
    assert "it has" not in only_finding(unknown, "unknown-column").message
    assert "question, answer" in only_finding(unknown, "unknown-column").message


def test_mapped_columns_determine_the_row_format(tmp_path: Path) -> None:
    mapping = {"prompt": "question", "completion": "answer", "group": "thread"}
    rows = jsonl({"question": "hi", "answer": "hello", "thread": 7})
    assert ingest(tmp_path, {"r.jsonl": rows}, task="chat", options={"columns": mapping}).accepted
    assert output_rows(tmp_path) == [{"messages": [USER, ANSWER], "group": "7"}]


@pytest.mark.parametrize(
    ("label", "text"), [("a", "a"), (" a ", "a"), (3, "3"), (3.0, "3"), (True, "true"), (None, None), ("  ", None)]
)
def test_labels_become_text_or_null(tmp_path: Path, label: object, text: str | None) -> None:
    rows = jsonl({"text": "x", "label": label}, {"text": "y", "label": "p"}, {"text": "z", "label": "q"})
    result = ingest(tmp_path, {"r.jsonl": rows})
    assert result.accepted
    assert output_rows(tmp_path)[0] == {"text": "x", "label": text}
    assert ("missing-value" in codes(result)) == (text is None)


def test_missing_values_are_kept_counted_and_reported(tmp_path: Path) -> None:
    rows = jsonl({"text": "x", "label": "a"}, {"text": None, "label": "b"}, {"label": "b"}, {"text": "w", "label": ""})
    rows += jsonl({"text": "y", "label": "b"})
    result = ingest(tmp_path, {"r.jsonl": rows})
    assert result.accepted
    places = [(f.line, f.pointer) for f in result.report.findings if f.code == "missing-value"]
    assert places == [(2, "/text"), (3, "/text"), (4, "/label")]
    assert result.report.splits[Split.TRAIN].missing == 3
    assert output_rows(tmp_path)[2] == {"text": "", "label": "b"}


plain = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(
    lambda t: t.strip() != ""
)
key = plain.map(str.strip)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(plain | st.just('say "a, b"\nand c'), key, key), min_size=1, max_size=10))
def test_csv_round_trips_through_the_internal_form(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    rows = [*rows, ("other", "label one", "g"), ("another", "label two", "g")]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([("text", "label", "group"), *rows])
    result = ingest(folder, {"rows.csv": buffer.getvalue()})
    assert result.accepted, result.report.errors
    assert [(row["text"], row["label"], row["group"]) for row in output_rows(folder)] == rows
