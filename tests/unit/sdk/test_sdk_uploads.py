"""Uploads resume after interruptions; downloads are complete or absent."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.sdk.stub_server import NOW, RecordedRequest, StubResponse, StubServer, connection_reset, ok, problem

from windlass.domain.artifacts import FileEntry, Manifest
from windlass.domain.errors import (
    ChecksumMismatchError,
    ConflictError,
    InvalidError,
    StorageFullError,
    UnavailableError,
    WindlassError,
)
from windlass.sdk import Client, SourceFile
from windlass.wire.datasets import UploadOut

PROJECT = "/v1/projects/team-a"
DATASET = {
    "id": "ds_1",
    "name": "reviews",
    "task": "text-classification",
    "description": "",
    "latest": None,
    "created_at": NOW,
    "version": 1,
}
VERSION = {
    "id": "dsv_1",
    "ref": "reviews@1",
    "dataset": "reviews",
    "number": 1,
    "state": "processing",
    "task": "text-classification",
    "origin": "upload",
    "parent": None,
    "steps": [],
    "converter_version": 1,
    "digest": None,
    "rows": {},
    "labels": [],
    "errors": 0,
    "warnings": 0,
    "problem": "",
    "created_at": NOW,
}


class UploadServer:
    """One upload; ``failures`` are the bytes that are stored before each connection reset."""

    def __init__(self, server: StubServer, failures: list[int], names: list[str]) -> None:
        self.failures = [*failures]
        self.files: dict[str, dict[str, Any]] = {}
        self.stored: dict[str, bytes] = {}
        server.on("GET", f"{PROJECT}/datasets/reviews", ok(DATASET))
        server.on("POST", f"{PROJECT}/uploads", self._create)
        server.on("GET", f"{PROJECT}/uploads/up_1", lambda _: ok(self._upload()))
        server.on("POST", f"{PROJECT}/uploads/up_1:commit", ok(VERSION, 202))
        for name in names:
            server.on("PUT", f"{PROJECT}/uploads/up_1/files/{name}", self._put_file)

    def _create(self, request: RecordedRequest) -> StubResponse:
        for file in json.loads(request.body)["files"]:
            self.files[file["name"]] = {**file, "received": 0, "url": "/"}
            self.stored[file["name"]] = b""
        return ok(self._upload(), 201)

    def _put_file(self, request: RecordedRequest) -> StubResponse:
        name = request.path.rsplit("/", 1)[1]
        if int(request.headers["upload-offset"]) != len(self.stored[name]):
            return problem(409, "conflict")
        accepted = min(self.failures.pop(0), len(request.body)) if self.failures else len(request.body)
        self.stored[name] += request.body[:accepted]
        self.files[name]["received"] = len(self.stored[name])
        return connection_reset() if accepted < len(request.body) else ok(self.files[name])

    def _upload(self) -> dict[str, Any]:
        return {
            "id": "up_1",
            "dataset": "reviews",
            "state": "open",
            "files": [*self.files.values()],
            "dataset_version": None,
            "created_at": NOW,
        }


@pytest.fixture(scope="module", autouse=True)
def no_delays() -> Iterator[None]:
    """Retry without delays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("windlass.sdk._sync.file_sender.sleep", lambda _: None)
        yield


@settings(deadline=None)  # tests must pass on a slow machine
@given(
    row_counts=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    failures=st.lists(st.integers(1, 80), max_size=6),
)
def test_upload_is_complete_after_any_interruptions(row_counts: list[int], failures: list[int]) -> None:
    contents = [b"text,label\n" + b"".join(b"%d,a\n" % row for row in range(count)) for count in row_counts]
    with tempfile.TemporaryDirectory() as folder, StubServer() as server, Client(server.url, "key", "team-a") as client:
        files = [Path(folder) / f"part{index}.csv" for index in range(len(contents))]
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        upload_server = UploadServer(server, failures, [file.name for file in files])
        positions: list[int] = []
        version = client.datasets.upload(
            "reviews",
            files,
            task="text-classification",
            progress=lambda _, position, __: positions.append(position),
        )
        assert version.ref == "reviews@1"
        assert len(server.requests("POST", f"{PROJECT}/uploads/up_1:commit")) == 1
        assert [upload_server.stored[file.name] for file in files] == contents
        announced = [upload_server.files[file.name]["sha256"] for file in files]
        assert announced == [hashlib.sha256(content).hexdigest() for content in contents]
        assert positions[-1] == len(contents[-1])


def test_upload_without_progress_fails_with_a_hint_to_resume(
    server: StubServer, client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\nhi,a\n")
    UploadServer(server, [0] * 50, ["a.csv"])
    with pytest.raises(UnavailableError, match=r"upload of a\.csv failed") as raised:
        client.datasets.upload("reviews", [file], task="text-classification")
    assert "up_1" in raised.value.hint
    assert not server.requests("POST", f"{PROJECT}/uploads/up_1:commit")


def _serve_upload(server: StubServer, put: StubResponse | Callable[[RecordedRequest], StubResponse]) -> None:
    digest = hashlib.sha256(b"text,label\nhi,a\n").hexdigest()
    file: dict[str, Any] = {"name": "a.csv", "bytes": 16, "sha256": digest, "split": None, "received": 0, "url": "/"}
    upload = {
        "id": "up_1",
        "dataset": "reviews",
        "state": "open",
        "files": [file],
        "dataset_version": None,
        "created_at": NOW,
    }
    server.on("GET", f"{PROJECT}/datasets/reviews", ok(DATASET))
    server.on("POST", f"{PROJECT}/uploads", ok(upload, 201))
    server.on("GET", f"{PROJECT}/uploads/up_1", ok({**upload, "files": [{**file, "received": 16}]}))
    server.on("PUT", f"{PROJECT}/uploads/up_1/files/a.csv", put)
    server.on("POST", f"{PROJECT}/uploads/up_1:commit", ok(VERSION, 202))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_text("text,label\nhi,a\n")
    return path


def test_upload_sends_content_length_and_offset(server: StubServer, client: Client, file: Path) -> None:
    _serve_upload(server, ok({}))
    opened: list[UploadOut] = []
    version = client.datasets.upload(
        "reviews", [SourceFile(file)], task="text-classification", on_created=opened.append
    )
    assert version.ref == "reviews@1"
    assert opened[0].id == "up_1"
    (sent,) = server.requests("PUT", f"{PROJECT}/uploads/up_1/files/a.csv")
    assert sent.body == file.read_bytes()
    assert (sent.headers["content-length"], sent.headers["upload-offset"]) == ("16", "0")
    assert len(server.requests("POST", f"{PROJECT}/uploads/up_1:commit")) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"), [(507, "storage_full", StorageFullError), (413, "too_large", WindlassError)]
)
def test_permanent_errors_are_not_retried(
    server: StubServer, client: Client, file: Path, status: int, code: str, kind: type[WindlassError]
) -> None:
    _serve_upload(server, problem(status, code))
    with pytest.raises(kind):
        client.datasets.upload("reviews", [file], task="text-classification")
    assert len(server.requests("PUT", f"{PROJECT}/uploads/up_1/files/a.csv")) == 1


def test_upload_resumes_after_a_connection_reset(server: StubServer, client: Client, file: Path) -> None:
    _serve_upload(server, connection_reset())
    assert client.datasets.upload("reviews", [file], task="text-classification").ref == "reviews@1"


def test_resume_rejects_different_files(server: StubServer, client: Client, file: Path) -> None:
    _serve_upload(server, ok({}))
    assert client.datasets.upload("reviews", [file], task="text-classification", resume="up_1").ref == "reviews@1"
    assert not server.requests("POST", f"{PROJECT}/uploads")
    file.write_text("text,label\nbye,b\n")
    with pytest.raises(InvalidError, match="differ from those"):
        client.datasets.upload("reviews", [file], task="text-classification", resume="up_1")


def test_upload_to_a_dataset_of_another_task_is_rejected(server: StubServer, client: Client, file: Path) -> None:
    _serve_upload(server, ok({}))
    with pytest.raises(InvalidError, match="text-classification"):
        client.datasets.upload("reviews", [file], task="chat")


@pytest.mark.parametrize("names", [[], ["missing.csv"], ["x/a.csv", "y/a.csv"]])
def test_invalid_files_are_rejected_before_any_request(
    server: StubServer, client: Client, tmp_path: Path, names: list[str]
) -> None:
    for name in names[:2] if len(names) > 1 else []:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("text,label\n")
    with pytest.raises(InvalidError):
        client.datasets.upload("reviews", [tmp_path / name for name in names], task="text-classification")
    assert not server.recorded


CONTENTS = {"config.json": b"{}", "weights/model.safetensors": bytes(range(256))}


def _serve_model(server: StubServer, contents: dict[str, bytes], sent: dict[str, bytes] | None = None) -> None:
    entries = {
        path: FileEntry(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for path, content in contents.items()
    }
    version = {
        "id": "mv_1",
        "model": "sentiment",
        "number": 3,
        "decision": "candidate",
        "reason": None,
        "evaluation": {},
        "job": "job_1",
        "attempt": 1,
        "dataset": "reviews@1",
        "base_model": "minilm-l6",
        "digest": Manifest(files=entries).digest(),
        "bytes": sum(map(len, contents.values())),
        "files": [{"path": path, **entry.model_dump()} for path, entry in entries.items()],
        "lineage": [],
        "created_at": NOW,
    }
    model = {
        "id": "mod_1",
        "name": "sentiment",
        "task": "text-classification",
        "description": "",
        "aliases": {"champion": 3},
        "latest": 3,
        "created_at": NOW,
        "version": 1,
    }
    server.on("GET", f"{PROJECT}/models/sentiment", ok(model))
    server.on("GET", f"{PROJECT}/models/sentiment/versions/3", ok(version))
    for path, content in (sent or contents).items():
        server.on("GET", f"{PROJECT}/models/sentiment/versions/3/files/{path}", StubResponse(200, content))


def _files(folder: Path) -> dict[str, bytes]:
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: content for path, content in contents.items() if path != "manifest.json"}


@pytest.mark.parametrize("reference", ["sentiment@3", "sentiment@champion", "sentiment"])
def test_download_contains_the_manifest_and_its_files(
    server: StubServer, client: Client, tmp_path: Path, reference: str
) -> None:
    _serve_model(server, CONTENTS)
    folder = client.models.download(reference, tmp_path / "model")
    assert _files(folder) == CONTENTS
    assert set(Manifest.model_validate_json((folder / "manifest.json").read_bytes()).files) == set(CONTENTS)


def test_checksum_mismatch_leaves_no_folder(server: StubServer, client: Client, tmp_path: Path) -> None:
    _serve_model(server, CONTENTS, {**CONTENTS, "config.json": b"[]"})
    with pytest.raises(ChecksumMismatchError, match=r"config\.json"):
        client.models.download("sentiment@3", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_interrupted_download_fetches_only_missing_files(server: StubServer, client: Client, tmp_path: Path) -> None:
    first = {path: content for path, content in CONTENTS.items() if path == "config.json"}
    _serve_model(server, CONTENTS, first)
    with pytest.raises(WindlassError):
        client.models.download("sentiment@3", tmp_path / "model")
    _serve_model(server, CONTENTS)
    assert _files(client.models.download("sentiment@3", tmp_path / "model")) == CONTENTS
    assert len(server.requests("GET", f"{PROJECT}/models/sentiment/versions/3/files/config.json")) == 1


@pytest.mark.parametrize("path", ["../evil", "/etc/cron.d/evil", "a/../../evil", "a\\b"])
def test_path_outside_of_the_folder_is_rejected(server: StubServer, client: Client, tmp_path: Path, path: str) -> None:
    _serve_model(server, CONTENTS)
    url = f"{PROJECT}/models/sentiment/versions/3"
    version = client.models.version("sentiment@3").model_dump(mode="json")
    version["files"][0]["path"] = path
    server._scripts["GET", url].clear()
    server.on("GET", url, ok(version))
    with pytest.raises(InvalidError):
        client.models.download("sentiment@3", tmp_path / "deep" / "model")
    assert not list(tmp_path.rglob("*evil*"))


def test_download_does_not_overwrite_an_existing_folder(server: StubServer, client: Client, tmp_path: Path) -> None:
    _serve_model(server, CONTENTS)
    with pytest.raises(ConflictError):
        client.models.download("sentiment@3", tmp_path)


def test_manifest_that_does_not_match_the_digest_is_rejected(
    server: StubServer, client: Client, tmp_path: Path
) -> None:
    _serve_model(server, CONTENTS)
    url = f"{PROJECT}/models/sentiment/versions/3"
    version = client.models.version("sentiment@3").model_dump(mode="json")
    version["files"].pop()
    server._scripts["GET", url].clear()
    server.on("GET", url, ok(version))
    with pytest.raises(ChecksumMismatchError, match="digest"):
        client.models.download("sentiment@3", tmp_path / "model")
