"""Uploads of base models: declared, sent in pieces, imported, expired, deleted."""

import hashlib
from typing import Any

import httpx2
import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.errors import InvalidError
from windlass.domain.models import ImportedModel

WEIGHTS, CONFIG = b"w" * 3000, b"{}"
FILES = {"model.safetensors": WEIGHTS, "1_Pooling/config.json": CONFIG}


def body(files: dict[str, bytes] = FILES) -> dict[str, Any]:
    declared = [
        {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in files.items()
    ]
    return {"name": "tiny", "files": declared, "licence": "MIT"}


def put(harness: ControlPlaneHarness, path: str, content: bytes, offset: int = 0) -> httpx2.Response:
    url = f"/v1/base-models/tiny/files/{path}"
    return harness.client.put(url, content=content, headers={"Upload-Offset": str(offset)})


def received(harness: ControlPlaneHarness) -> dict[str, int]:
    files = harness.client.get("/v1/base-models/tiny").json()["files"]
    return {file["path"]: file["received"] for file in files}


@pytest.fixture
def declared(harness: ControlPlaneHarness) -> ControlPlaneHarness:
    """A platform with a declared model of which nothing has arrived."""
    created = harness.client.post("/v1/base-models", json=body())
    assert (created.status_code, created.json()["state"]) == (202, "uploading"), created.text
    assert [file["url"] for file in created.json()["files"]] == [f"/v1/base-models/tiny/files/{path}" for path in FILES]
    return harness


def send_all(harness: ControlPlaneHarness) -> None:
    for path, content in FILES.items():
        assert put(harness, path, content).status_code == 200


def test_files_arrive_in_pieces_and_are_imported_from_the_store(declared: ControlPlaneHarness) -> None:
    assert put(declared, "model.safetensors", WEIGHTS[:1000]).status_code == 200
    assert received(declared) == {"model.safetensors": 1000, "1_Pooling/config.json": 0}
    early = declared.client.post("/v1/base-models/tiny:import")
    assert (early.status_code, early.json()["context"]) == (409, {"received": 1000})
    assert put(declared, "model.safetensors", WEIGHTS[:1000]).status_code == 409, "the offset is taken"
    assert put(declared, "model.safetensors", WEIGHTS[1000:], 1000).status_code == 200
    assert put(declared, "1_Pooling/config.json", CONFIG).status_code == 200
    for _ in range(2):
        assert declared.client.post("/v1/base-models/tiny:import").json()["state"] == "importing"
    declared.run_worker_once()
    [(key, request)] = declared.importer.requests.items()
    assert (request.path, [file.path for file in request.files]) == ("", [*FILES])
    staged = [declared.store_folder / declared.key(file.uri) for file in request.files]
    assert [path.read_bytes() for path in staged] == [*FILES.values()]
    declared.importer.results[key] = ImportedModel(tasks=(), parameters=1, bytes=1, digest="0" * 64)
    declared.processing.poll()
    declared.dispatch_outbox()
    assert declared.client.get("/v1/base-models/tiny").json()["state"] == "ready"
    assert not any(path.exists() for path in staged), "what was uploaded is not needed any more"


def test_a_refused_model_can_be_added_again(declared: ControlPlaneHarness) -> None:
    send_all(declared)
    declared.client.post("/v1/base-models/tiny:import")
    declared.run_worker_once()
    [key] = declared.importer.requests
    declared.importer.problems[key] = "Node n cannot pull image i"
    declared.processing.poll()
    shown = declared.client.get("/v1/base-models/tiny").json()
    assert (shown["state"], shown["problem"]) == ("importing", "Node n cannot pull image i")
    declared.importer.results[key] = InvalidError("weights.bin can contain code")
    declared.processing.poll()
    failed = declared.client.get("/v1/base-models/tiny").json()
    assert (failed["state"], failed["problem"]) == ("failed", "weights.bin can contain code")
    assert declared.client.post("/v1/base-models", json=body()).json()["state"] == "uploading"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"files": [{"path": "../x", "bytes": 1, "sha256": "0" * 64}]}, "/files/0/path"),
        ({"files": [{"path": "a", "bytes": 1, "sha256": "0" * 64}] * 2}, "/files/1/path"),
        ({"files": [{"path": "a", "bytes": 0, "sha256": "0" * 64}]}, "/files/0/bytes"),
        ({"files": []}, ""),
        ({"path": "/srv/model"}, ""),
    ],
)
def test_an_invalid_declaration_is_refused(harness: ControlPlaneHarness, change: dict[str, Any], pointer: str) -> None:
    reply = harness.client.post("/v1/base-models", json=body() | change)
    assert reply.status_code == 422, reply.text
    assert reply.json()["errors"][0]["pointer"] == pointer
    assert harness.client.get("/v1/base-models").json()["items"] == []


def test_more_bytes_than_the_limit_are_refused(harness: ControlPlaneHarness) -> None:
    huge = {"path": "model.safetensors", "bytes": 1 << 40, "sha256": "0" * 64}
    reply = harness.client.post("/v1/base-models", json={"name": "tiny", "files": [huge]})
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


def test_only_declared_files_and_bytes_are_taken(declared: ControlPlaneHarness) -> None:
    assert put(declared, "other.safetensors", b"x").status_code == 404
    assert put(declared, "model.safetensors", WEIGHTS + b"x").status_code == 400


def test_an_upload_that_is_not_finished_expires(declared: ControlPlaneHarness) -> None:
    put(declared, "model.safetensors", WEIGHTS)
    declared.clock.advance(73 * 3600)
    declared.run_worker_once(2)
    assert declared.client.get("/v1/base-models/tiny").status_code == 404
    assert not [path for path in declared.store_folder.rglob("*") if path.is_file()]


def test_a_finished_upload_does_not_expire(declared: ControlPlaneHarness) -> None:
    send_all(declared)
    declared.client.post("/v1/base-models/tiny:import")
    declared.clock.advance(73 * 3600)
    declared.run_worker_once(2)
    assert declared.client.get("/v1/base-models/tiny").json()["state"] == "importing"


def test_a_deleted_model_leaves_no_files(declared: ControlPlaneHarness) -> None:
    put(declared, "model.safetensors", WEIGHTS)
    assert declared.client.delete("/v1/base-models/tiny").status_code == 200
    declared.dispatch_outbox()
    assert not [path for path in declared.store_folder.rglob("*") if path.is_file()]
    assert put(declared, "model.safetensors", WEIGHTS).status_code == 404
