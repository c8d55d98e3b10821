import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.data.data_requests import codes, csv_rows, error_codes, ingest, jsonl, only_finding, output_rows

from windlass.dataset_files.findings import MAX_PER_CODE, FileFindings, Findings
from windlass.dataset_files.lines import text_lines
from windlass.domain.artifacts import Manifest
from windlass.domain.datasets import Split
from windlass.domain.ingest import Encoding
from windlass.runtime.artifacts import verify

GOOD = csv_rows([("first sentence", "a"), ("second thing", "b"), ("third one", "a")])


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


LINES = [line.split(",") for line in GOOD.splitlines()[1:]]
SAME = {
    "rows.csv": GOOD.encode(),
    "windows.csv": b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(),
    "rows.tsv": GOOD.replace(",", "\t").encode(),
    "rows.csv.gz": gzip.compress(GOOD.encode()),
    "joined.csv.gz": gzip.compress(GOOD.encode()[:20]) + gzip.compress(GOOD.encode()[20:]),
    "ROWS.JSONL": jsonl(*({"text": text, "label": label} for text, label in LINES)).encode(),
    "rows.parquet": parquet({"text": [text for text, _ in LINES], "label": [label for _, label in LINES]}),
}


@pytest.mark.parametrize("name", SAME)
def test_all_formats_produce_the_same_internal_form(tmp_path: Path, name: str) -> None:
    result = ingest(tmp_path, {name: SAME[name]})
    assert result.accepted, result.report.errors
    assert output_rows(tmp_path) == [
        {"text": "first sentence", "label": "a"},
        {"text": "second thing", "label": "b"},
        {"text": "third one", "label": "a"},
    ]
    assert result.rows == {Split.TRAIN: 3}
    assert result.labels == ("a", "b")


def test_the_digest_identifies_the_rows_and_not_the_report(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"rows.csv": GOOD, "validation.csv": csv_rows([("new text", "a"), ("newer text", "b")])})
    manifest = Manifest.model_validate_json((tmp_path / "out" / "manifest.json").read_bytes())
    assert set(manifest.files) == {"train.jsonl", "validation.jsonl", "report.html"}
    assert verify(tmp_path / "out") == manifest
    rows = {name: entry for name, entry in manifest.files.items() if name != "report.html"}
    assert result.digest == Manifest(files=rows).digest()
    assert json.loads((tmp_path / "result.json").read_bytes()) == result.model_dump(mode="json")


@pytest.mark.parametrize(
    ("name", "content", "code", "line"),
    [
        ("rows.csv", b"", "empty-file", None),
        ("rows.csv", b"text,label\n", "no-rows", None),
        ("rows.jsonl", b"\n\n", "no-rows", None),
        ("rows.csv", GOOD.encode() + b"caf\xe9,a\n", "not-utf-8", 5),
        ("rows.csv", GOOD.encode() + b"a\0b,a\n", "nul-byte", 5),
        ("rows.jsonl", b'{"text": "a\\u0000b", "label": "x"}\n', "nul-byte", 1),
        ("rows.jsonl", b'{"text": "\\ud83d", "label": "x"}\n', "not-utf-8", 1),
        ("rows.csv", GOOD.encode() + b'"open "quote",a\nx,a\n', "broken-quotes", 5),
        ("rows.csv", GOOD.encode() + b'"never closed,a\nx,a', "truncated-file", 5),
        ("rows.csv", GOOD.encode() + b"only text", "truncated-file", 5),
        ("rows.csv", GOOD.encode() + b"one,two,three\n", "ragged-row", 5),
        ("rows.csv", b"text,label,text\n", "duplicate-column", 1),
        ("rows.csv", ("c," * 2000).encode() + b"\n", "too-many-columns", None),
        ("rows.tsv", b"text;label\nx;a\n", "unknown-column", 1),
        ("rows.jsonl", b'{"text": "a", "label": "x"}\n{"text": "b", "lab', "truncated-file", 2),
        ("rows.jsonl", b'{"text": "a", "label": "x"}\nnonsense\n', "invalid-json", 2),
        ("rows.jsonl", b'{"text": "a", "label": NaN}\n', "invalid-json", 1),
        ("rows.jsonl", b'{"text": "a", "label": "x"}\n[1]\n', "not-an-object", 2),
        ("rows.jsonl", b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "too-deep", 1),
        ("rows.jsonl", b'{"text": 1' + b"0" * 5000 + b', "label": "x"}\n', "invalid-json", 1),
        ("rows.jsonl", b'{"text": ["a"], "label": "x"}\n', "wrong-type", 1),
        ("rows.jsonl", b'{"text": "a", "label": 1.5}\n', "wrong-type", 1),
        ("rows.csv.gz", gzip.compress(GOOD.encode() * 100)[:-12], "truncated-file", None),
        ("rows.csv.gz", b"\x1f\x8bnonsense all along", "broken-gzip", None),
        ("rows.csv", gzip.compress(GOOD.encode()), "wrong-format", None),
        ("rows.jsonl", b"PK\x03\x04....", "wrong-format", None),
        ("rows.parquet", GOOD.encode(), "wrong-format", None),
        ("rows.parquet", parquet({"text": ["a"] * 99, "label": ["b"] * 99})[:-40], "truncated-file", None),
        ("rows.parquet", parquet({"text": [b"a"], "label": ["b"]}), "wrong-type", None),
        ("rows.xlsx", b"PK\x03\x04....", "unknown-format", None),
        ("rows", b"text", "unknown-format", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_input_is_rejected_with_its_location(
    tmp_path: Path, name: str, content: bytes, code: str, line: int | None
) -> None:
    result = ingest(tmp_path, {name: content})
    assert not result.accepted
    assert result.digest is None
    finding = only_finding(result, code)
    assert (finding.severity, finding.file, finding.line) == ("error", name, line)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "manifest.json"}


def test_an_unknown_column_error_lists_the_columns(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"rows.csv": "sentence,stars\nx,1\n"}, options={"columns": {"text": "sentence"}})
    finding = only_finding(result, "unknown-column")
    assert finding.message == "the file has no column label (for label); it has: sentence, stars"


def test_an_unknown_field_error_lists_the_fields(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"rows.csv": GOOD}, options={"columns": {"txet": "text"}})
    assert only_finding(result, "unknown-field").action == "use the fields text, label, group"


def test_unused_columns_are_reported(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"rows.csv": "text,label,stars\nx,a,1\ny,b,2\n"})
    assert only_finding(result, "columns-ignored").message == "unused columns: stars"


def test_a_line_over_the_limit_is_rejected_and_the_next_one_read(tmp_path: Path) -> None:
    content = jsonl({"text": "x" * 3000, "label": "a"}, {"text": "short", "label": "b"})
    result = ingest(tmp_path, {"rows.jsonl": content}, max_line_bytes=1000)
    assert only_finding(result, "line-too-long").line == 1
    assert result.report.splits[Split.TRAIN].rows == 1
    assert (result.rows, result.digest) == ({}, None)


def test_a_quoted_record_over_the_limit_is_rejected(tmp_path: Path) -> None:
    content = GOOD + '"' + "many lines\n" * 500
    result = ingest(tmp_path, {"rows.csv": content}, max_line_bytes=1000)
    assert only_finding(result, "broken-quotes").line == 5


@pytest.mark.parametrize(("limit", "code"), [({"max_bytes": 200}, "too-large"), ({"max_rows": 5}, "too-many-rows")])
@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.jsonl", "rows.parquet"])
def test_limits_apply_to_every_format(tmp_path: Path, limit: dict[str, Any], code: str, name: str) -> None:
    rows = [(f"a text of some length {number}", "ab"[number % 2]) for number in range(50)]
    content = {
        "rows.csv": csv_rows(rows).encode(),
        "rows.csv.gz": gzip.compress(csv_rows(rows).encode()),
        "rows.jsonl": jsonl(*({"text": t, "label": v} for t, v in rows)).encode(),
        "rows.parquet": parquet({"text": [t for t, _ in rows], "label": [v for _, v in rows]}),
    }[name]
    assert error_codes(ingest(tmp_path, {name: content}, **limit)) == {code}


def test_limits_apply_to_the_total_of_all_files(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {f"{number}.csv": GOOD for number in range(4)}
    result = ingest(tmp_path, files, max_rows=10)
    assert only_finding(result, "too-many-rows").file == "3.csv"


def test_findings_are_capped_per_code_and_counted(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"rows.jsonl": GOOD + "x\n" * 5000 + "[]\n" * 3})
    invalid = [finding for finding in result.report.findings if finding.code == "invalid-json"]
    assert len(invalid) == MAX_PER_CODE + 1
    assert sum(finding.count for finding in invalid) == 5000 + len(GOOD.splitlines())
    assert invalid[-1].line is None
    assert sum(finding.count for finding in result.report.findings if finding.code == "not-an-object") == 3


def test_reports_contain_no_row_content(tmp_path: Path) -> None:
    secret = "hunter2-secret"
    rows: list[Any] = [
        {"text": secret, "label": "a"},
        {"text": {secret: 1}, "label": "b"},
        {"text": secret, "label": [secret]},
        {"text": f"{secret}\0", "label": "a"},
    ]
    result = ingest(tmp_path, {"rows.jsonl": jsonl(*rows) + f'{{"text": "{secret}" "x"}}\n"{secret}'})
    assert {"wrong-type", "nul-byte", "invalid-json", "truncated-file"} <= codes(result)
    assert secret not in result.model_dump_json()


def test_names_in_a_report_are_short_and_printable(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"\x1b[31mrows" + "x" * 500 + ".csv": "te\x1bxt" + "y" * 50 + ",b\nx,a\n"})
    finding = only_finding(result, "unknown-column")
    assert finding.file is not None
    assert len(finding.file) == 80
    assert "\x1b" not in result.model_dump_json()


def test_parquet_reads_nested_messages_and_dictionaries(tmp_path: Path) -> None:
    turns = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]] * 40
    result = ingest(tmp_path, {"chat.parquet": parquet({"messages": turns})}, task="chat")
    assert result.accepted
    assert output_rows(tmp_path)[39] == {"messages": turns[0]}
    coded = pa.array(["a", "b"] * 20).dictionary_encode()
    result = ingest(tmp_path, {"rows.parquet": parquet({"text": [f"t{n}" for n in range(40)], "label": coded})})
    assert result.labels == ("a", "b")


def test_a_long_parquet_value_is_rejected_in_every_column_type(tmp_path: Path) -> None:
    long = "x" * 5000
    flat = parquet({"text": [long, "b"], "label": ["a", "b"]})
    nested = parquet({"messages": [[{"role": "assistant", "content": long}]]})
    assert error_codes(ingest(tmp_path, {"rows.parquet": flat}, max_line_bytes=1000)) == {"line-too-long"}
    chat = ingest(tmp_path, {"rows.parquet": nested}, max_line_bytes=1000, task="chat")
    assert error_codes(chat) == {"line-too-long"}


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    content=st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"-")), max_size=12),
    ended=st.booleans(),
    size=st.integers(1, 20),
    limit=st.integers(1, 15),
)
def test_lines_do_not_depend_on_chunk_boundaries(content: list[bytes], ended: bool, size: int, limit: int) -> None:
    whole = b"\n".join(content) + (b"\n" if ended else b"")
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]

    def lines(chunks: list[bytes]) -> tuple[list[Any], list[Any]]:
        findings = Findings()
        file_findings = FileFindings(findings, "f")
        read = [
            (line.number, line.text, line.ended)
            for line in text_lines(chunks, Encoding.UTF_8, "\n", limit, file_findings)
        ]
        return read, [(finding.code, finding.line, finding.count) for finding in findings.collect()]

    assert lines(pieces) == lines([whole])
