"""Uploads arrive whole through any cuts; downloads appear whole or not at all."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.sdk.stand_in import NOW, Answer, Seen, StandIn, dropped, ok, problem

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
from windlass.sdk._core import Failure, FileBody, Pause, Reply, Request, Scope, Work
from windlass.sdk.resources.uploads import upload_files
from windlass.wire.datasets import DatasetVersionOut, UploadOut

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


class Staging:
    """What a server keeps of an upload; ``cuts`` are the bytes that get through before each break."""

    def __init__(self, cuts: list[int]) -> None:
        self.cuts = [*cuts]
        self.files: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, bytes] = {}
        self.committed = False

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply | Failure:
        if method == "GET" and path == f"{PROJECT}/datasets/reviews":
            return self._reply(DATASET)
        if method == "POST" and path == f"{PROJECT}/uploads":
            for file in json.loads(body)["files"]:
                self.files[file["name"]] = {**file, "received": 0, "url": "/"}
                self.kept[file["name"]] = b""
            return self._reply(self._upload())
        if method == "GET" and path == f"{PROJECT}/uploads/up_1":
            return self._reply(self._upload())
        if method == "PUT":
            return self._take(path.rsplit("/", 1)[1], int(headers["upload-offset"]), body)
        assert (method, path) == ("POST", f"{PROJECT}/uploads/up_1:commit")
        self.committed = True
        return self._reply(VERSION)

    def _take(self, name: str, offset: int, body: bytes) -> Reply | Failure:
        if offset != len(self.kept[name]):
            return Reply(409, {}, b'{"type":"","title":"","status":409,"code":"conflict","detail":"offset"}')
        through = min(self.cuts.pop(0), len(body)) if self.cuts else len(body)
        self.kept[name] += body[:through]
        self.files[name]["received"] = len(self.kept[name])
        return Failure("cut", sent=True) if through < len(body) else self._reply(self.files[name])

    def _upload(self) -> dict[str, Any]:
        return {
            "id": "up_1",
            "dataset": "reviews",
            "state": "open",
            "files": [*self.files.values()],
            "dataset_version": None,
            "created_at": NOW,
        }

    @staticmethod
    def _reply(data: dict[str, Any]) -> Reply:
        return Reply(200, {}, json.dumps(data).encode())


def _drive(
    staging: Staging, files: list[Path], heard: Callable[[str, int, int], None] | None = None
) -> DatasetVersionOut:
    flow = upload_files(Scope("team-a"), "reviews", files, task="text-classification", progress=heard)
    answer: object = None
    while True:
        try:
            step = flow.send(answer)
        except StopIteration as end:
            version: DatasetVersionOut = end.value
            return version
        if isinstance(step, Request):
            body = b"".join(step.body.chunks()) if isinstance(step.body, FileBody) else step.body or b""
            headers = {name.lower(): value for name, value in step.headers.items()}
            answer = staging.answer(step.method, step.path, headers, body)
        else:
            answer = step.function() if isinstance(step, Work) else None
            assert isinstance(step, Work | Pause)


@settings(deadline=None)  # a busy machine is no failure
@given(
    contents=st.lists(st.binary(max_size=300), min_size=1, max_size=3), cuts=st.lists(st.integers(1, 80), max_size=6)
)
def test_every_byte_arrives_once_through_any_cuts(contents: list[bytes], cuts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"part{index}.csv" for index in range(len(contents))]
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        staging = Staging(cuts)
        positions: list[int] = []
        assert _drive(staging, files, lambda _, position, __: positions.append(position)).ref == "reviews@1"
        assert staging.committed
        assert [staging.kept[file.name] for file in files] == contents
        announced = [staging.files[file.name]["sha256"] for file in files]
        assert announced == [hashlib.sha256(content).hexdigest() for content in contents]
        assert positions[-1] == len(contents[-1])


def test_a_line_that_lets_nothing_through_is_given_up_with_the_way_back(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\n")
    staging = Staging([0] * 50)
    with pytest.raises(UnavailableError, match="does not get through") as raised:
        _drive(staging, [file])
    assert "up_1" in raised.value.hint
    assert not staging.committed


def _uploading(server: StandIn, put: Answer | Callable[[Seen], Answer]) -> None:
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
    made = tmp_path / "a.csv"
    made.write_text("text,label\nhi,a\n")
    return made


def test_an_upload_goes_over_the_wire_with_its_length(server: StandIn, client: Client, file: Path) -> None:
    _uploading(server, ok({}))
    opened: list[UploadOut] = []
    version = client.datasets.upload("reviews", [SourceFile(file)], task="text-classification", opened=opened.append)
    assert version.ref == "reviews@1"
    assert opened[0].id == "up_1"
    (sent,) = server.requests("PUT", f"{PROJECT}/uploads/up_1/files/a.csv")
    assert sent.body == file.read_bytes()
    assert (sent.headers["content-length"], sent.headers["upload-offset"]) == ("16", "0")
    assert len(server.requests("POST", f"{PROJECT}/uploads/up_1:commit")) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"), [(507, "storage_full", StorageFullError), (413, "too_large", WindlassError)]
)
def test_what_asking_again_would_not_mend_is_final(
    server: StandIn, client: Client, file: Path, status: int, code: str, kind: type[WindlassError]
) -> None:
    _uploading(server, problem(status, code))
    with pytest.raises(kind):
        client.datasets.upload("reviews", [file], task="text-classification")
    assert len(server.requests("PUT", f"{PROJECT}/uploads/up_1/files/a.csv")) == 1


def test_a_dropped_transfer_asks_where_to_go_on(server: StandIn, client: Client, file: Path) -> None:
    _uploading(server, dropped())
    assert client.datasets.upload("reviews", [file], task="text-classification").ref == "reviews@1"


def test_resuming_takes_only_the_same_files(server: StandIn, client: Client, file: Path) -> None:
    _uploading(server, ok({}))
    assert client.datasets.upload("reviews", [file], task="text-classification", resume="up_1").ref == "reviews@1"
    assert not server.requests("POST", f"{PROJECT}/uploads")
    file.write_text("text,label\nbye,b\n")
    with pytest.raises(InvalidError, match="other files"):
        client.datasets.upload("reviews", [file], task="text-classification", resume="up_1")


def test_a_dataset_of_another_task_is_not_uploaded_to(server: StandIn, client: Client, file: Path) -> None:
    _uploading(server, ok({}))
    with pytest.raises(InvalidError, match="text-classification"):
        client.datasets.upload("reviews", [file], task="chat")


@pytest.mark.parametrize("names", [[], ["missing.csv"], ["x/a.csv", "y/a.csv"]])
def test_files_that_cannot_be_sent_are_refused_before_anything_is_asked(
    server: StandIn, client: Client, tmp_path: Path, names: list[str]
) -> None:
    for name in names[:2] if len(names) > 1 else []:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("text,label\n")
    with pytest.raises(InvalidError):
        client.datasets.upload("reviews", [tmp_path / name for name in names], task="text-classification")
    assert not server.seen


CONTENTS = {"config.json": b"{}", "weights/model.safetensors": bytes(range(256))}


def _published(server: StandIn, contents: dict[str, bytes], sent: dict[str, bytes] | None = None) -> None:
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
        server.on("GET", f"{PROJECT}/models/sentiment/versions/3/files/{path}", Answer(200, content))


def _files(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: content for path, content in found.items() if path != "manifest.json"}


@pytest.mark.parametrize("reference", ["sentiment@3", "sentiment@champion", "sentiment"])
def test_a_download_is_the_manifest_and_its_files(
    server: StandIn, client: Client, tmp_path: Path, reference: str
) -> None:
    _published(server, CONTENTS)
    folder = client.models.download(reference, tmp_path / "model")
    assert _files(folder) == CONTENTS
    assert set(Manifest.model_validate_json((folder / "manifest.json").read_bytes()).files) == set(CONTENTS)


def test_a_file_with_another_hash_leaves_no_folder(server: StandIn, client: Client, tmp_path: Path) -> None:
    _published(server, CONTENTS, {**CONTENTS, "config.json": b"[]"})
    with pytest.raises(ChecksumMismatchError, match=r"config\.json"):
        client.models.download("sentiment@3", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_cut_download_fetches_only_what_is_missing(server: StandIn, client: Client, tmp_path: Path) -> None:
    first = {path: content for path, content in CONTENTS.items() if path == "config.json"}
    _published(server, CONTENTS, first)
    with pytest.raises(WindlassError):
        client.models.download("sentiment@3", tmp_path / "model")
    _published(server, CONTENTS)
    assert _files(client.models.download("sentiment@3", tmp_path / "model")) == CONTENTS
    assert len(server.requests("GET", f"{PROJECT}/models/sentiment/versions/3/files/config.json")) == 1


@pytest.mark.parametrize("path", ["../evil", "/etc/cron.d/evil", "a/../../evil", "a\\b"])
def test_a_path_that_leaves_the_folder_is_refused(server: StandIn, client: Client, tmp_path: Path, path: str) -> None:
    _published(server, CONTENTS)
    where = f"{PROJECT}/models/sentiment/versions/3"
    version = client.models.version("sentiment@3").model_dump(mode="json")
    version["files"][0]["path"] = path
    server._scripts["GET", where].clear()
    server.on("GET", where, ok(version))
    with pytest.raises(InvalidError):
        client.models.download("sentiment@3", tmp_path / "deep" / "model")
    assert not list(tmp_path.rglob("*evil*"))


def test_nothing_that_exists_is_written_over(server: StandIn, client: Client, tmp_path: Path) -> None:
    _published(server, CONTENTS)
    with pytest.raises(ConflictError):
        client.models.download("sentiment@3", tmp_path)


def test_a_file_list_that_does_not_match_the_digest_is_refused(server: StandIn, client: Client, tmp_path: Path) -> None:
    _published(server, CONTENTS)
    where = f"{PROJECT}/models/sentiment/versions/3"
    version = client.models.version("sentiment@3").model_dump(mode="json")
    version["files"].pop()
    server._scripts["GET", where].clear()
    server.on("GET", where, ok(version))
    with pytest.raises(ChecksumMismatchError, match="digest"):
        client.models.download("sentiment@3", tmp_path / "model")
