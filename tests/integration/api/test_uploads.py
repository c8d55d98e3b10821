"""Uploads: resumable, verified, and parsed by a child process."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import httpx2
import pytest
from tests.fakes.backends import MemoryProcessor
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.storage_layout import upload_key
from windlass.settings import LimitSettings
from windlass.storage.local import LocalObjectStore

CSV = "text,label\n" + "".join(f"sentence number {n} about thing {n * 7},{'ab'[n % 2]}\n" for n in range(40))


def upload_body(content: bytes, **more: Any) -> dict[str, Any]:
    file = {"name": "rows.csv", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {"dataset": "reviews", "files": [file | more]}


@pytest.fixture
def with_dataset(harness: ControlPlaneHarness) -> ControlPlaneHarness:
    harness.create_project("ours")
    dataset = {"name": "reviews", "task": "text-classification"}
    assert harness.client.post("/v1/projects/ours/datasets", json=dataset).status_code == 201
    return harness


def put(harness: ControlPlaneHarness, url: str, content: bytes, offset: int = 0) -> httpx2.Response:
    return harness.client.put(url, content=content, headers={"Upload-Offset": str(offset)})


def wait_until_processed(harness: ControlPlaneHarness, url: str) -> dict[str, Any]:
    """Run the worker until the version has left ``processing``."""
    while True:
        harness.dispatch_outbox()
        harness.processing.poll()
        version: dict[str, Any] = harness.client.get(url).json()
        if version["state"] != "processing":
            return version


def test_files_of_a_project_and_open_uploads_count_towards_its_storage_limit(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path, limits=LimitSettings(key_cache_seconds=0, project_bytes=1000))
    for name in ("ours", "theirs"):
        uid = harness.create_project(name)
        dataset = {"name": "reviews", "task": "text-classification"}
        harness.client.post(f"/v1/projects/{name}/datasets", json=dataset)
        if name == "ours":
            harness.store.put(f"projects/{uid}/jobs/job_1/logs/1", BytesIO(b"x" * 300))
    opened = harness.client.post("/v1/projects/ours/uploads", json=upload_body(b"y" * 600)).json()
    put(harness, opened["files"][0]["url"], b"y" * 250)
    refused = harness.client.post("/v1/projects/ours/uploads", json=upload_body(b"z" * 101))
    assert (refused.status_code, refused.json()["code"]) == (409, "limit_reached")
    assert refused.json()["context"] == {"stored": 550, "announced": 350, "limit": 1000}
    assert harness.client.post("/v1/projects/ours/uploads", json=upload_body(b"z" * 100)).status_code == 201
    assert harness.client.post("/v1/projects/theirs/uploads", json=upload_body(b"z" * 999)).status_code == 201
    harness.close()


@pytest.mark.parametrize("full_before_training", [True, False])
def test_job_of_a_project_over_its_storage_limit_fails_with_a_reason(
    tmp_path: Path, *, full_before_training: bool
) -> None:
    harness = ControlPlaneHarness(tmp_path, limits=LimitSettings(key_cache_seconds=0, project_bytes=2000))
    uid = harness.create_project("ours")
    harness.create_base_model()
    harness.create_dataset("ours")
    job = harness.submit("ours", key="1")
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    if not full_before_training:
        assert run.acquire_attempt().status_code == 200
        assert run.report_success(1).status_code == 200
    harness.store.put(f"projects/{uid}/jobs/job_1/log", BytesIO(b"x" * 2000))
    if full_before_training:
        assert run.acquire_attempt().json()["code"] == "fenced", "no GPU is used"
    else:
        assert run.post("register").json()["code"] == "limit_reached"
    shown = harness.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()
    assert (shown["state"], shown["reason"]["code"]) == ("failed", "storage_limit_reached")
    assert harness.client.get("/v1/projects/ours/models").json()["items"] == []
    harness.close()


@pytest.mark.processes
def test_upload_in_two_chunks_becomes_a_ready_version(with_dataset: ControlPlaneHarness) -> None:
    content = CSV.encode()
    upload = with_dataset.client.post("/v1/projects/ours/uploads", json=upload_body(content)).json()
    url = upload["files"][0]["url"]
    assert put(with_dataset, url, content[:100]).json()["received"] == 100
    conflict = put(with_dataset, url, content[100:], offset=90)
    assert (conflict.status_code, conflict.json()["context"]) == (409, {"received": 100})
    premature = with_dataset.client.post(f"/v1/projects/ours/uploads/{upload['id']}:commit")
    assert (premature.status_code, premature.json()["errors"][0]["pointer"]) == (409, "/files/0")
    assert put(with_dataset, url, content[100:], offset=100).json()["received"] == len(content)
    committed = with_dataset.client.post(f"/v1/projects/ours/uploads/{upload['id']}:commit")
    assert committed.status_code == 202
    again = with_dataset.client.post(f"/v1/projects/ours/uploads/{upload['id']}:commit")
    assert again.json()["id"] == committed.json()["id"]
    version = wait_until_processed(with_dataset, committed.headers["location"])
    expected = ("ready", {"train": 32, "validation": 8}, ["a", "b"])
    assert (version["state"], version["rows"], version["labels"]) == expected
    assert [step["op"] for step in version["steps"]] == ["deduplicate", "split"]
    rows = with_dataset.client.get(committed.headers["location"] + "/rows?limit=30").json()
    assert rows["items"][0]["text"].startswith("sentence number ")
    rest = with_dataset.client.get(
        committed.headers["location"] + f"/rows?limit=30&cursor={rows['next_cursor']}"
    ).json()
    assert len(rest["items"]) == 2
    assert rest["next_cursor"] is None


@pytest.mark.processes
def test_cleaning_creates_a_version_with_splits(with_dataset: ControlPlaneHarness) -> None:
    content = (CSV + CSV).encode()
    upload = with_dataset.client.post("/v1/projects/ours/uploads", json=upload_body(content)).json()
    put(with_dataset, upload["files"][0]["url"], content)
    first = with_dataset.client.post(f"/v1/projects/ours/uploads/{upload['id']}:commit").headers["location"]
    wait_until_processed(with_dataset, first)
    steps = [{"op": "deduplicate"}, {"op": "split", "train": 0.8, "validation": 0.2, "stratify": True}]
    reply = with_dataset.client.post(f"{first}:clean", json={"steps": steps})
    assert reply.status_code == 202
    second = wait_until_processed(with_dataset, reply.headers["location"])
    assert second["number"] == 2
    assert sum(second["rows"].values()) < 80
    assert set(second["rows"]) == {"train", "validation"}
    page = with_dataset.client.get(f"{reply.headers['location']}/report", headers={"Accept": "text/html"})
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_checksum_mismatch_is_rejected_and_can_be_uploaded_again(with_dataset: ControlPlaneHarness) -> None:
    content = CSV.encode()
    body = upload_body(content, sha256="0" * 64)
    upload = with_dataset.client.post("/v1/projects/ours/uploads", json=body).json()
    put(with_dataset, upload["files"][0]["url"], content)
    reply = with_dataset.client.post(f"/v1/projects/ours/uploads/{upload['id']}:commit")
    assert (reply.status_code, reply.json()["code"]) == (422, "checksum_mismatch")
    assert reply.json()["errors"][0]["pointer"] == "/files/0/sha256"
    state = with_dataset.client.get(f"/v1/projects/ours/uploads/{upload['id']}").json()
    assert state["files"][0]["received"] == 0


@pytest.mark.processes
def test_checksum_mismatch_is_found_when_a_restarted_server_has_not_hashed_the_file(
    with_dataset: ControlPlaneHarness,
) -> None:
    content = CSV.encode()
    body = upload_body(content, sha256="0" * 64)
    upload = with_dataset.client.post("/v1/projects/ours/uploads", json=body).json()
    put(with_dataset, upload["files"][0]["url"], content)
    with_dataset.deps.upload_hashes.discard(staging_keys(with_dataset)[0])
    reply = with_dataset.client.post(f"/v1/projects/ours/uploads/{upload['id']}:commit")
    assert reply.status_code == 202
    version = wait_until_processed(with_dataset, reply.headers["location"])
    report = with_dataset.client.get(reply.headers["location"] + "/report").json()["report"]
    assert (version["state"], [item["code"] for item in report["findings"]]) == ("rejected", ["checksum-mismatch"])


@pytest.mark.processes
def test_empty_file_is_rejected_with_its_name(with_dataset: ControlPlaneHarness) -> None:
    content = CSV.encode()
    body = upload_body(content)
    empty = {"name": "empty.csv", "bytes": 0, "sha256": hashlib.sha256().hexdigest()}
    body["files"].append(empty)
    upload = with_dataset.client.post("/v1/projects/ours/uploads", json=body).json()
    put(with_dataset, upload["files"][0]["url"], content)
    reply = with_dataset.client.post(f"/v1/projects/ours/uploads/{upload['id']}:commit")
    assert reply.status_code == 202
    version = wait_until_processed(with_dataset, reply.headers["location"])
    report = with_dataset.client.get(reply.headers["location"] + "/report").json()["report"]
    found = [(item["code"], item["file"]) for item in report["findings"] if item["severity"] == "error"]
    assert (version["state"], found) == ("rejected", [("empty-file", "empty.csv")])


def staging_keys(harness: ControlPlaneHarness) -> list[str]:
    return [key for key in harness.store.keys("projects") if "/uploads/" in key]


class UnreadableStore(LocalObjectStore):
    """A store whose objects must not be read."""

    def open(self, key: str) -> BinaryIO:
        raise AssertionError(f"{key} is read")


def test_commits_of_large_files_read_nothing_and_repeated_ones_add_no_work(tmp_path: Path) -> None:
    """40 requests that hash gigabytes would occupy every thread, so that no other tenant gets a reply."""
    processor = MemoryProcessor()
    harness = ControlPlaneHarness(tmp_path, processor=processor)
    harness.deps = replace(harness.deps, store=UnreadableStore(tmp_path / "store"))
    harness.app.state.app_context = replace(harness.app_context, deps=harness.deps)
    harness.create_project("ours")
    harness.create_project("theirs")
    dataset = {"name": "reviews", "task": "text-classification"}
    assert harness.client.post("/v1/projects/ours/datasets", json=dataset).status_code == 201
    uploads = []
    for _ in range(40):
        file = {"name": "rows.csv", "bytes": 20 << 30, "sha256": "0" * 64}
        body = {"dataset": "reviews", "files": [file]}
        upload = harness.client.post("/v1/projects/ours/uploads", json=body).json()["id"]
        with harness.database.read() as uow:
            stored = uow.all_projects().uploads.get({"id": upload})
        path = harness.store_folder / upload_key(stored, "rows.csv")
        path.parent.mkdir(parents=True)
        with path.open("wb") as stream:
            stream.truncate(20 << 30)  # a sparse file: it occupies no disk space
        uploads.append(upload)
    # The context gives all threads one event loop, as a server has.
    with harness.client as client, ThreadPoolExecutor(6) as pool:
        commits = [f"/v1/projects/ours/uploads/{upload}:commit" for upload in uploads for _ in range(2)]
        replies = list(pool.map(client.post, commits))
    assert {reply.status_code for reply in replies} == {202}
    assert len({reply.json()["id"] for reply in replies}) == 40
    assert harness.client.get("/v1/projects/theirs/datasets").status_code == 200
    harness.run_worker_once()
    assert len(processor.requests) == 1  # all but one slot, as there are two projects
    harness.close()


def test_more_bytes_than_declared_are_rejected(with_dataset: ControlPlaneHarness) -> None:
    upload = with_dataset.client.post("/v1/projects/ours/uploads", json=upload_body(b"12345")).json()
    url = upload["files"][0]["url"]
    reply = put(with_dataset, url, b"123456")
    assert reply.status_code == 400
    assert "declared length of 5 bytes" in reply.json()["detail"]
    huge = with_dataset.client.put(url, content=b"12345", headers={"Content-Length": "9" * 5000})
    assert huge.status_code == 400
    body = with_dataset.client.post("/v1/projects", content=b"{}", headers={"Content-Length": "9" * 5000})
    assert body.status_code == 413


def test_uncommitted_upload_expires(with_dataset: ControlPlaneHarness) -> None:
    content = CSV.encode()
    upload = with_dataset.client.post("/v1/projects/ours/uploads", json=upload_body(content)).json()
    put(with_dataset, upload["files"][0]["url"], content[:100])
    url = f"/v1/projects/ours/uploads/{upload['id']}"
    with_dataset.clock.advance(71 * 3600)
    with_dataset.run_worker_once(2)
    assert with_dataset.client.get(url).json()["files"][0]["received"] == 100
    with_dataset.clock.advance(2 * 3600)
    with_dataset.run_worker_once(2)
    assert with_dataset.client.get(url).json()["state"] == "aborted"
    assert not [path for path in (with_dataset.home / "store").rglob("uploads/*/*") if path.is_file()]
    late = put(with_dataset, upload["files"][0]["url"], content[100:], offset=100)
    assert (late.status_code, late.json()["hint"]) == (409, "open a new upload")


def test_a_filter_of_rows_has_pages_of_its_own(harness: ControlPlaneHarness) -> None:
    harness.create_project("ours")
    harness.create_dataset("ours")
    url = "/v1/projects/ours/datasets/reviews/versions/1/rows"
    query: dict[str, str | int] = {"label": "b", "text": "TEXT", "limit": 1}
    first = harness.client.get(url, params=query).json()
    assert [row["text"] for row in first["items"]] == ["text 1"]
    second = harness.client.get(url, params={**query, "cursor": first["next_cursor"]}).json()
    assert [row["text"] for row in second["items"]] == ["text 3"]
    assert harness.client.get(url, params={"label": "c"}).json()["items"] == []
    assert harness.client.get(url, params={"text": ""}).status_code == 422
