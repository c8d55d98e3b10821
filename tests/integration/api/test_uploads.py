"""Bytes on their way in: resumable, checked, and parsed by a real child process."""

import hashlib
from typing import Any

import httpx2
import pytest
from tests.fakes.house import House

CSV = "text,label\n" + "".join(f"sentence number {n} about thing {n * 7},{'ab'[n % 2]}\n" for n in range(40))


def announce(content: bytes, **more: Any) -> dict[str, Any]:
    file = {"name": "rows.csv", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {"dataset": "reviews", "files": [file | more]}


@pytest.fixture
def opened(house: House) -> House:
    house.project("ours")
    made = {"name": "reviews", "task": "text-classification"}
    assert house.client.post("/v1/projects/ours/datasets", json=made).status_code == 201
    return house


def put(house: House, url: str, content: bytes, offset: int = 0) -> httpx2.Response:
    return house.client.put(url, content=content, headers={"Upload-Offset": str(offset)})


def settle(house: House, url: str) -> dict[str, Any]:
    """Let the worker process until the version has left ``processing``; the test's timeout bounds the wait."""
    while True:
        house.intents()
        house.processing.watch()
        version: dict[str, Any] = house.client.get(url).json()
        if version["state"] != "processing":
            return version


@pytest.mark.processes
def test_an_upload_in_two_pieces_becomes_a_ready_version(opened: House) -> None:
    content = CSV.encode()
    upload = opened.client.post("/v1/projects/ours/uploads", json=announce(content)).json()
    url = upload["files"][0]["url"]
    assert put(opened, url, content[:100]).json()["received"] == 100
    wrong = put(opened, url, content[100:], offset=90)
    assert (wrong.status_code, wrong.json()["facts"]) == (409, {"received": 100})
    early = opened.client.post(f"/v1/projects/ours/uploads/{upload['id']}:commit")
    assert (early.status_code, early.json()["errors"][0]["pointer"]) == (409, "/files/0")
    assert put(opened, url, content[100:], offset=100).json()["received"] == len(content)
    committed = opened.client.post(f"/v1/projects/ours/uploads/{upload['id']}:commit")
    assert committed.status_code == 202
    again = opened.client.post(f"/v1/projects/ours/uploads/{upload['id']}:commit")
    assert again.json()["id"] == committed.json()["id"]
    version = settle(opened, committed.headers["location"])
    assert (version["state"], version["rows"], version["labels"]) == ("ready", {"train": 40}, ["a", "b"])
    rows = opened.client.get(committed.headers["location"] + "/rows?limit=30").json()
    assert rows["items"][0]["text"] == "sentence number 0 about thing 0"
    rest = opened.client.get(committed.headers["location"] + f"/rows?limit=30&cursor={rows['next_cursor']}").json()
    assert len(rest["items"]) == 10
    assert rest["next_cursor"] is None


@pytest.mark.processes
def test_cleaning_makes_a_new_version_with_splits(opened: House) -> None:
    content = (CSV + CSV).encode()
    upload = opened.client.post("/v1/projects/ours/uploads", json=announce(content)).json()
    put(opened, upload["files"][0]["url"], content)
    first = opened.client.post(f"/v1/projects/ours/uploads/{upload['id']}:commit").headers["location"]
    settle(opened, first)
    steps = [{"op": "deduplicate"}, {"op": "split", "train": 0.8, "validation": 0.2, "stratify": True}]
    reply = opened.client.post(f"{first}:clean", json={"steps": steps})
    assert reply.status_code == 202
    second = settle(opened, reply.headers["location"])
    assert second["number"] == 2
    assert sum(second["rows"].values()) < 80
    assert set(second["rows"]) == {"train", "validation"}
    page = opened.client.get(f"{reply.headers['location']}/report", headers={"Accept": "text/html"})
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_bytes_that_are_not_the_announced_ones_are_refused_and_can_be_sent_again(opened: House) -> None:
    content = CSV.encode()
    body = announce(content, sha256="0" * 64)
    upload = opened.client.post("/v1/projects/ours/uploads", json=body).json()
    put(opened, upload["files"][0]["url"], content)
    reply = opened.client.post(f"/v1/projects/ours/uploads/{upload['id']}:commit")
    assert (reply.status_code, reply.json()["code"]) == (422, "checksum_mismatch")
    assert reply.json()["errors"][0]["pointer"] == "/files/0/sha256"
    shown = opened.client.get(f"/v1/projects/ours/uploads/{upload['id']}").json()
    assert shown["files"][0]["received"] == 0


def test_more_bytes_than_announced_are_refused(opened: House) -> None:
    upload = opened.client.post("/v1/projects/ours/uploads", json=announce(b"12345")).json()
    reply = put(opened, upload["files"][0]["url"], b"123456")
    assert reply.status_code == 400
    assert "5 that were announced" in reply.json()["detail"]


def test_an_upload_that_nobody_commits_is_closed_and_its_bytes_go(opened: House) -> None:
    content = CSV.encode()
    upload = opened.client.post("/v1/projects/ours/uploads", json=announce(content)).json()
    put(opened, upload["files"][0]["url"], content[:100])
    url = f"/v1/projects/ours/uploads/{upload['id']}"
    opened.clock.forward(71 * 3600)
    opened.turn(2)
    assert opened.client.get(url).json()["files"][0]["received"] == 100
    opened.clock.forward(2 * 3600)
    opened.turn(2)
    assert opened.client.get(url).json()["state"] == "aborted"
    assert not [path for path in (opened.home / "store").rglob("uploads/*/*") if path.is_file()]
    late = put(opened, upload["files"][0]["url"], content[100:], offset=100)
    assert (late.status_code, late.json()["hint"]) == (409, "open a new upload")
