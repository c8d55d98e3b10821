"""``windlass predict --file``: every record in its place, whatever interrupts it."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from tests.factories.live_endpoints import add_live_endpoint
from tests.fakes.harness import ControlPlaneHarness
from tests.fakes.model_server import StubModelServer, stub_model_server
from tests.unit.cli.conftest import Windlass

from windlass.domain.endpoints import MAX_INPUTS
from windlass.domain.specs import Task
from windlass_api.model_server import model_server_client

ROWS = 2 * MAX_INPUTS + 100
TEXTS = [f'text {number}, "quoted"\nwith ünïcode' for number in range(ROWS)]


def classify(body: dict[str, Any]) -> dict[str, Any]:
    """Return each text in capitals as its label, and a second label."""
    scores = [[{"label": text.upper(), "score": 0.75}, {"label": "other", "score": 0.25}] for text in body["inputs"]]
    return {"predictions": [labels[: body.get("top_k")] for labels in scores], "truncated": [0]}


@pytest.fixture
def model(harness: ControlPlaneHarness) -> Iterator[StubModelServer]:
    with stub_model_server() as stub:
        stub.respond = classify
        with harness.database.read() as uow:
            project = uow.projects.get({"name": "default"}).id
        add_live_endpoint(harness, project, "texts", Task.TEXT_CLASSIFICATION)
        add_live_endpoint(harness, project, "talk", Task.CHAT)
        harness.serving.base_url = stub.url
        harness.app.state.model_server = model_server_client()
        yield stub


def write_csv(path: Path, delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        writer.writerows([("id", "body"), *enumerate(TEXTS)])


def read_csv(path: Path, delimiter: str = ",") -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [*csv.DictReader(stream, delimiter=delimiter)]


def write_json_lines(path: Path) -> None:
    objects = [{"id": number, "body": text, "more": {"a": [1]}} for number, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(value) + "\n" for value in objects))


def write_json(path: Path) -> None:
    path.write_text(json.dumps([{"id": number, "body": text} for number, text in enumerate(TEXTS)]))


FORMATS: dict[str, tuple[Callable[[Path], None], Callable[[Path], list[dict[str, Any]]]]] = {
    "csv": (write_csv, read_csv),
    "tsv": (lambda path: write_csv(path, "\t"), lambda path: read_csv(path, "\t")),
    "jsonl": (write_json_lines, lambda path: [json.loads(line) for line in path.read_text("utf-8").splitlines()]),
    "json": (write_json, lambda path: json.loads(path.read_text("utf-8"))),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_record_keeps_its_fields_and_gets_its_prediction(
    cli: Windlass, model: StubModelServer, tmp_path: Path, suffix: str
) -> None:
    write, read = FORMATS[suffix]
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    write(source)
    result = cli("predict", "texts", "--file", str(source), "--column", "text=body", "--out", str(target))
    assert (result.code, result.out) == (0, ""), result.err
    assert f"scored {ROWS} records; 3 texts exceeded the model's length" in result.err
    rows = read(target)
    assert [row["body"] for row in rows] == TEXTS
    assert [row["prediction_label"] for row in rows] == [text.upper() for text in TEXTS]
    assert [int(row["id"]) for row in rows] == [*range(ROWS)]
    assert {str(row["prediction_model"]) for row in rows} == {"m@1"}
    assert [float(row["prediction_score"]) for row in rows] == [0.75] * ROWS
    assert [str(row["prediction_truncated"]).lower() for row in rows].count("true") == 3
    assert len(model.requests) == 3
    assert [*tmp_path.glob("*.partial")] == []
    if suffix == "jsonl":
        assert rows[0]["more"] == {"a": [1]}
    # to standard output
    result = cli("predict", "texts", "--file", str(source), "--column", "body")
    assert result.out == target.read_text("utf-8")


def test_parquet_is_read_and_json_lines_are_written(
    cli: Windlass, model: StubModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.jsonl"
    times = [datetime(2026, 1, 1, tzinfo=UTC)] * ROWS
    table = pyarrow.table({"id": range(ROWS), "text": [None, *TEXTS[1:]], "at": times})
    pyarrow.parquet.write_table(table, source)
    refused = cli("predict", "texts", "--file", str(source), "--out", str(tmp_path / "out.parquet"))
    assert (refused.code, model.requests) == (2, [])
    assert "end its name with .jsonl" in refused.err
    assert cli("predict", "texts", "--file", str(source), "--out", str(target)).code == 0
    rows = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == [*range(ROWS)]
    assert [row["prediction_label"] for row in rows] == [None, *(text.upper() for text in TEXTS[1:])]
    assert rows[0]["at"] == "2026-01-01 00:00:00+00:00"
    source.write_bytes(b"PAR1 no")
    assert "is not a valid Parquet file" in cli("predict", "texts", "--file", str(source)).err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install pyarrow" in cli("predict", "texts", "--file", str(source)).err


def test_the_same_command_continues_after_an_error(cli: Windlass, model: StubModelServer, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    write_csv(source)
    command = ("predict", "texts", "--file", str(source), "--column", "text=body", "--out", str(target))
    model.failures = [0, 500]
    assert cli(*command).code == 1
    assert not target.exists()
    model.requests.clear()
    result = cli(*command)
    assert result.code == 0, result.err
    assert f"continuing after {MAX_INPUTS} of {ROWS} records" in result.err
    assert len(model.requests) == 2
    assert [row["prediction_label"] for row in read_csv(target)] == [text.upper() for text in TEXTS]


@pytest.mark.parametrize(("number", "code", "message"), [(signal.SIGKILL, -9, ""), (signal.SIGINT, 130, "continues")])
def test_a_stopped_command_continues_without_a_lost_or_doubled_record(
    cli: Windlass, url: str, model: StubModelServer, tmp_path: Path, *, number: int, code: int, message: str
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    partial = tmp_path / "out.jsonl.partial"
    write_json_lines(source)
    command = ("predict", "texts", "--file", str(source), "--column", "text=body", "--out", str(target))
    model.failures = [0, *[503] * 1000]  # it waits for the endpoint after the first request
    main = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from windlass.cli.main import main; main()"
    )
    environment = {**os.environ, "WINDLASS_URL": url}
    with subprocess.Popen(
        [sys.executable, "-c", main, *command], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not partial.exists() or partial.read_bytes().count(b"\n") < MAX_INPUTS:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        result = cli(*command)
        assert result.code == 5
        assert "another process writes" in result.err
        process.send_signal(number)
        assert message in process.communicate(timeout=60)[1]
        assert process.returncode == code
    with partial.open("ab") as stream:
        stream.write(b'{"id": 256, "bo')  # as if it had been killed while it wrote
    model.failures.clear()
    model.requests.clear()
    assert cli(*command).code == 0
    rows = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == [*range(ROWS)]
    assert [row["prediction_label"] for row in rows] == [text.upper() for text in TEXTS]
    assert len(model.requests) == 2


def test_a_busy_endpoint_is_waited_for(cli: Windlass, model: StubModelServer, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\none\n")
    model.failures = [429, 503]
    result = cli("predict", "texts", "--file", str(source))
    assert result.code == 0, result.err
    assert "ONE" in result.out


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        ("in.csv", (), "line 3 differs"),
        ("", ("--top-k", "2"), "its header differs"),
        ("", ("--prefix", "other"), "its header differs"),
        ("", ("--no-escape-formulas",), "line 3 differs"),
    ],
)
def test_the_output_of_another_file_or_command_is_not_continued(
    cli: Windlass, model: StubModelServer, tmp_path: Path, changed: str, options: tuple[str, ...], message: str
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\none\n=two\n")
    partial = tmp_path / "out.csv.partial"
    model.failures = [500]
    command = ("predict", "texts", "--file", str(source), "--out", str(target))
    assert cli(*command).code == 1
    partial.write_text(partial.read_text() + "one,ONE,0.75,false,m@1\n'=two,=TWO,0.75,false,m@1\n")
    if changed:
        source.write_text("text\none\nthree\n")
    model.requests.clear()
    result = cli(*command, *options)
    assert (result.code, model.requests) == (5, [])
    assert message in result.err
    assert "--restart" in result.err
    assert cli(*command, *options, "--restart").code == 0
    assert target.read_text().count("\n") == 3


def test_the_output_of_another_model_is_not_continued(cli: Windlass, model: StubModelServer, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\none\ntwo\n")
    header = "text,prediction_label,prediction_score,prediction_truncated,prediction_model\n"
    (tmp_path / "out.csv.partial").write_text(f"{header}one,ONE,0.75,false,other@7\n")
    result = cli("predict", "texts", "--file", str(source), "--out", str(target))
    assert result.code == 5
    assert "scored by model other, this endpoint serves m" in result.err


def test_formulas_are_escaped_in_csv_and_numbers_are_not(cli: Windlass, model: StubModelServer, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    cells = ["=cmd|' /C calc'!A0", "+1+cmd", "-2.5", "@SUM(A1)", "\tx", "plain"]
    source.write_text("text,n\n" + "".join(f'"{cell}",-1\n' for cell in cells))
    escaped = [*csv.reader(io.StringIO(cli("predict", "texts", "--file", str(source)).out))][1:]
    assert [row[0] for row in escaped] == ["'=cmd|' /C calc'!A0", "'+1+cmd", "-2.5", "'@SUM(A1)", "'\tx", "plain"]
    assert [row[1] for row in escaped] == ["-1"] * 6
    assert escaped[0][2] == "'=CMD|' /C CALC'!A0"
    plain = cli("predict", "texts", "--file", str(source), "--no-escape-formulas").out
    assert [row[0] for row in csv.reader(io.StringIO(plain))][1:] == cells


def test_records_without_a_text_keep_their_place_and_get_no_prediction(
    cli: Windlass, model: StubModelServer, tmp_path: Path
) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(b"\xef\xbb\xbfid,text\r\n1,a\r\n\r\n3,  \r\n4,b\r\n")
    target = tmp_path / "out.csv"
    result = cli("predict", "texts", "--file", str(source), "--out", str(target))
    assert "2 records without a text got no prediction" in result.err
    assert target.read_bytes() == (
        b"\xef\xbb\xbfid,text,prediction_label,prediction_score,prediction_truncated,prediction_model\r\n"
        b"1,a,A,0.75,true,m@1\r\n,,,,,\r\n3,  ,,,,\r\n4,b,B,0.75,false,m@1\r\n"
    )
    lines = tmp_path / "in.jsonl"
    lines.write_text('{"text": "a"}\n\n{"text": null}\n{}\n')
    out = cli("predict", "texts", "--file", str(lines), "--top-k", "2").out.split("\n")
    assert json.loads(out[0])["prediction_label_2"] == "other"
    assert out[1] == ""
    assert json.loads(out[2])["prediction_label"] is None
    assert json.loads(out[3])["prediction_model"] is None


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", b"id,body\n1,x\n", (), "has no column text; it has: id, body"),
        ("a.tsv", b"id;text\n1;x\n", (), "--delimiter ';'"),
        ("a.csv", b"", (), "is empty"),
        ("a.csv", b"id,text\n1,x,y\n", (), "line 2 of"),
        ("a.csv", b"text,text\nx,y\n", (), "several columns text"),
        ("a.csv", b"text,prediction_label\nx,y\n", (), "already has a column prediction_label"),
        ("a.csv", b"text\n" + b"x" * 100_001, (), "line 2: text has 100,001 characters"),
        ("a.csv", b"text\nok\ncaf\xe9\n", (), "line 3: byte 4 of the line is not valid UTF-8"),
        ("a.csv", b"text\nok\n", ("--encoding", "klingon"), "unknown encoding"),
        ("a.csv", b'text\n"open\n', (), "line 2: the file ends inside a quoted field"),
        ("a.jsonl", b'{"text": 1}\n', (), "line 1: text is 1, not a string"),
        ("a.jsonl", b'{"body": "x"}\n', (), "has no field text; its first object has: body"),
        ("a.jsonl", b'{"text": "x"}\nnull\n', (), "line 2 of"),
        ("a.jsonl", b'{"text": "x"\n', (), "is not valid JSON"),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', (), "half of a surrogate pair"),
        ("a.json", b'{"body": "x"}', (), "has no field text"),
        ("a.json", b'[{"text": "x"}] 1', (), "text follows the end of the array"),
        ("a.json", b'[{"text": "x"}', (), "the file ends inside the array"),
        ("a.jsonl", b'[{"text": "x"}, 1]', (), "an element of the array is not an object"),
        ("a.xlsx", b"PK", (), "has an unknown format"),
        ("a.csv", b"text\nx\n", ("--out", "out.jsonl"), "the output has another format"),
        ("a.csv", b"text\nx\n", ("--out", "missing/out.csv"), "there is no folder"),
        ("a.csv", b"text\nx\n", ("--out", "a.csv"), "is the input"),
        ("a.csv", b"text\nx\n", ("--json",), "-o and --json do not apply"),
        ("a.csv", b"text\nx\n", ("another text",), "not both"),
    ],
)
def test_a_wrong_file_or_option_is_refused_before_any_request(
    *,
    windlass: Windlass,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: bytes,
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    result = windlass("predict", "texts", *options, "--file", name)
    assert result.code == 2, "without a server, any request has another exit code"
    assert message in result.err
    assert [*tmp_path.glob("*.partial")] == []


def test_an_existing_output_a_missing_file_and_a_chat_endpoint_are_refused(
    cli: Windlass, model: StubModelServer, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\nx\n")
    target.write_text("mine")
    result = cli("predict", "texts", "--file", str(source), "--out", str(target))
    assert result.code == 5
    assert target.read_text() == "mine"
    assert "does not exist" in cli("predict", "texts", "--file", str(tmp_path / "no.csv")).err
    assert "has task chat" in cli("predict", "talk", "--file", str(source)).err
    assert model.requests == []
    assert cli("predict", "texts", "--file", str(source), "--out", str(target), "--overwrite").code == 0


def test_a_file_is_read_like_the_file_of_a_dataset(cli: Windlass, model: StubModelServer, tmp_path: Path) -> None:
    contents = {
        "semicolon.csv": ("id;text\r\n1;a, b\r\n".encode("utf-16"), b"\xef\xbb\xbfid;text;", b"1;a, b;A, B;"),
        "sep.csv": (b"sep=;\nid;text\n1;a\n", b"sep=;\nid;text;", b"1;a;A;"),
        "plain.tsv": (b'text\tid\n"open\t1\n40"\t2\n', b"text\tid\t", b'"open\t1\t"OPEN\t'),
        "quoted.tsv": (b'text\tid\n"a ""b"""\t1\n', b"text\tid\t", b'"a ""b"""\t1\t"A ""B"""\t'),
        "mac.csv": (b"text,id\ra,1\r", b"text,id,", b"a,1,A,"),
        "array.jsonl": (b'[{"text": "a"}]', b"[\n", b'{"text": "a", "prediction_label": "A", '),
        "lines.json": (b'{"text": "a"}\n', b"", b'{"text": "a", "prediction_label": "A", '),
    }
    for name, (content, begin, record) in contents.items():
        source, target = tmp_path / name, tmp_path / f"out-{name}"
        source.write_bytes(content)
        result = cli("predict", "texts", "--file", str(source), "--out", str(target))
        assert result.code == 0, result.err
        assert target.read_bytes().startswith(begin), name
        assert record in target.read_bytes(), name


def test_rows_that_an_open_quote_merges_are_a_warning(cli: Windlass, model: StubModelServer, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text('text,stars\nfine,5\n"Cheap and nasty,1\nonly 40",5\n')
    result = cli("predict", "texts", "--file", str(source))
    assert f"warning: {source}, line 3: " not in result.err, "1 is no known value of the last column"
    source.write_text('text,stars\nfine,1\n"Cheap and nasty,1\nonly 40",5\n')
    result = cli("predict", "texts", "--file", str(source))
    assert f"warning: {source}, line 3: 2 lines were read as one row" in result.err


def test_an_encoding_is_read_and_utf_8_is_written(cli: Windlass, model: StubModelServer, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes("text;n\ncafé;1\n".encode("latin-1"))
    target = tmp_path / "out.csv"
    options = ("--encoding", "latin-1", "--delimiter", ";", "--out", str(target))
    assert cli("predict", "texts", "--file", str(source), *options).code == 0
    assert "café;1;CAFÉ;" in target.read_text("utf-8")
