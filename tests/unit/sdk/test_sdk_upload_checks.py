"""Files are checked before a dataset is created or a byte is sent."""

import os
from pathlib import Path

import pytest
from tests.unit.sdk.stub_server import NOW, StubServer, ok, problem

from windlass.domain.errors import ConflictError, InvalidError
from windlass.domain.ingest import IngestOptions
from windlass.sdk import Client

PROJECT = "/v1/projects/team-a"
ROWS = "".join(f"{number},body {number},queue {number % 2}\n" for number in range(20))
TICKETS = f"id,body,queue\n{ROWS}".encode()


@pytest.fixture
def empty_server(server: StubServer) -> StubServer:
    """A server without datasets; a request that creates one is not answered."""
    server.on("GET", f"{PROJECT}/datasets/tickets", problem(404, "not_found"))
    return server


REJECTED: dict[str, tuple[str, bytes, str]] = {
    "columns": ("tickets.csv", TICKETS, "it has: id, body, queue"),
    "columns of JSON": ("tickets.jsonl", b'{"body": "x", "queue": "y"}\n' * 2000, "it has: body, queue"),
    "no header": ("tickets.csv", b"great phone,good\nawful,bad\nfine,good\n", "looks like data: great phone, good"),
    "no keys": ("tickets.jsonl", b"{}\n{}\n", "it has: none"),
    "empty": ("tickets.csv", b"", "the file is empty"),
    "empty Parquet": ("tickets.parquet", b"", "the file is empty"),
    "no rows": ("tickets.csv", b"text,label\n", "the file has no rows"),
    "spreadsheet": ("tickets.xlsx", b"PK\x03\x04", "spreadsheets are not supported"),
    "text file": ("tickets.txt", TICKETS, "unknown file extension"),
    "spreadsheet named .csv": ("tickets.csv", b"PK\x03\x04", "a spreadsheet, not text"),
    "encoding": (
        "tickets.csv",
        b"text,label\nok,a\ncaf\xe9,b\n",
        "tickets.csv, line 3: byte 4 of the line",
    ),
    "quotes": ("tickets.csv", b'text,label\n"a"b,c\n', "tickets.csv, line 2: a quoted field is followed"),
    "JSON": ("tickets.jsonl", b'{"text": "a", "label": "b"}\nnonsense\n', "tickets.jsonl, line 2: invalid JSON"),
    "cut gzip": ("tickets.csv.gz", b"\x1f\x8b\x08", "the gzip stream ends before its end marker"),
    "cut Parquet": ("tickets.parquet", b"PAR1....", "the Parquet file has no valid footer"),
    "text as Parquet": ("tickets.parquet", TICKETS, "the file is not Parquet"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_a_file_that_would_be_rejected_is_not_sent(
    empty_server: StubServer, client: Client, tmp_path: Path, case: str
) -> None:
    name, content, message = REJECTED[case]
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InvalidError) as raised:
        client.datasets.upload("tickets", [file], task="text-classification")
    assert message in raised.value.message
    assert raised.value.message.startswith(str(file))
    assert {request.method for request in empty_server.recorded} <= {"GET"}


def test_the_error_has_the_columns_and_the_missing_fields(
    empty_server: StubServer, client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "tickets.csv"
    file.write_bytes(TICKETS)
    options = IngestOptions(columns={"text": "body"})
    with pytest.raises(InvalidError) as raised:
        client.datasets.upload("tickets", [file], task="text-classification", options=options)
    assert raised.value.context == {"columns": ["id", "body", "queue"], "missing": ["label"], "has_header": True}


def test_a_pipe_is_rejected(server: StubServer, client: Client, tmp_path: Path) -> None:
    pipe = tmp_path / "tickets.csv"
    os.mkfifo(pipe)
    with pytest.raises(InvalidError, match="is not a regular file"):
        client.datasets.upload("tickets", [pipe], task="text-classification")
    assert not server.recorded


def test_a_new_dataset_needs_a_task(empty_server: StubServer, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "tickets.csv"
    file.write_bytes(TICKETS)
    with pytest.raises(InvalidError, match="dataset tickets does not exist") as raised:
        client.datasets.upload("tickets", [file])
    assert raised.value.hint == "set its task to create it: text-classification or chat"


def test_the_task_of_an_existing_dataset_is_used(server: StubServer, client: Client, tmp_path: Path) -> None:
    dataset = {
        "id": "ds_1",
        "name": "tickets",
        "task": "chat",
        "description": "",
        "latest": None,
        "created_at": NOW,
        "version": 1,
    }
    server.on("GET", f"{PROJECT}/datasets/tickets", ok(dataset))
    file = tmp_path / "tickets.csv"
    file.write_bytes(TICKETS)
    with pytest.raises(InvalidError, match="no row format of task chat"):
        client.datasets.upload("tickets", [file])


def test_a_key_of_a_late_row_is_no_error(empty_server: StubServer, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "tickets.jsonl"
    file.write_text('{"text": "x"}\n' * 3000 + '{"text": "x", "label": "y"}\n')
    empty_server.on("POST", f"{PROJECT}/datasets", problem(409, "conflict"))
    with pytest.raises(ConflictError):
        client.datasets.upload("tickets", [file], task="text-classification")
    assert len(empty_server.requests("POST", f"{PROJECT}/datasets")) == 1
