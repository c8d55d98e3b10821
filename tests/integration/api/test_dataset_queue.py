"""Processing order of dataset versions, and cleanup after deletion."""

import hashlib
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.backends import MemoryImporter, MemoryProcessor
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.datasets import DatasetVersion, VersionState
from windlass.domain.errors import UnavailableError
from windlass.settings import LimitSettings

CLEAN = {"steps": [{"op": "deduplicate"}]}


@pytest.fixture
def processor() -> MemoryProcessor:
    return MemoryProcessor()


@pytest.fixture
def busy(tmp_path: Path, processor: MemoryProcessor) -> Iterator[ControlPlaneHarness]:
    """A platform with two projects whose datasets are processed when the test finishes them."""
    built = ControlPlaneHarness(tmp_path, processor=processor)
    with built.client:
        for name in ("ours", "theirs"):
            built.create_project(name, pool=name)
            built.create_dataset(name)
        yield built
    built.close()


def url(project: str, number: int) -> str:
    return f"/v1/projects/{project}/datasets/reviews/versions/{number}"


def clean(harness: ControlPlaneHarness, project: str, number: int = 1) -> dict[str, Any]:
    time.sleep(0.002)  # ids sort by their creation time in milliseconds
    reply = harness.client.post(f"{url(project, number)}:clean", json=CLEAN)
    assert reply.status_code == 202, reply.text
    created: dict[str, Any] = reply.json()
    return created


def staged_files(harness: ControlPlaneHarness) -> list[Path]:
    return [path for path in (harness.home / "store").rglob("uploads/*/*") if path.is_file()]


def upload(harness: ControlPlaneHarness, project: str, content: bytes = b"text,label\nx,a\n") -> dict[str, Any]:
    """Create an upload and send its only file."""
    file = {"name": "rows.csv", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    created: dict[str, Any] = harness.client.post(
        f"/v1/projects/{project}/uploads", json={"dataset": "reviews", "files": [file]}
    ).json()
    assert harness.client.put(created["files"][0]["url"], content=content).status_code == 200
    return created


def find_version(harness: ControlPlaneHarness, key: str) -> DatasetVersion | None:
    with harness.database.read() as uow:
        return uow.all_projects().dataset_versions.find({"id": key})


def delete(harness: ControlPlaneHarness, path: str) -> int:
    etag = harness.client.get(path).headers["etag"]
    return harness.client.delete(path, headers={"If-Match": etag}).status_code


def test_versions_are_processed_round_robin_by_project_with_a_limit(
    busy: ControlPlaneHarness, processor: MemoryProcessor
) -> None:
    ours = [clean(busy, "ours")["id"] for _ in range(5)]
    theirs = clean(busy, "theirs")["id"]
    for _ in range(3):
        busy.run_worker_once(2)
        busy.processing.poll()
    assert list(processor.requests) == [ours[0], theirs]
    processor.finish(ours[0])
    busy.processing.poll()
    assert list(processor.requests) == [theirs, ours[1]]
    processor.finish(ours[1])
    processor.finish(theirs)
    busy.processing.poll()
    assert list(processor.requests) == ours[2:3]  # the other slot is free for a version of another project
    later = clean(busy, "theirs")["id"]
    busy.processing.poll()
    assert list(processor.requests) == [ours[2], later]
    assert (version := find_version(busy, ours[4])) is not None
    assert version.state is VersionState.PROCESSING


def test_the_only_project_gets_all_slots(busy: ControlPlaneHarness, processor: MemoryProcessor) -> None:
    assert delete(busy, "/v1/projects/theirs") == 200
    ours = [clean(busy, "ours")["id"] for _ in range(3)]
    busy.processing.poll()
    assert list(processor.requests) == ours[:2]


def test_failing_version_does_not_block_others(busy: ControlPlaneHarness, processor: MemoryProcessor) -> None:
    first, second = clean(busy, "ours")["id"], clean(busy, "theirs")["id"]
    busy.processing.poll()
    processor.results[first] = OSError("the disk is gone")
    processor.finish(second)
    with pytest.raises(OSError, match="disk is gone"):
        busy.processing.poll()
    assert (version := find_version(busy, second)) is not None
    assert version.state is VersionState.READY


def test_a_version_shows_why_its_pod_does_not_run_until_it_does(
    busy: ControlPlaneHarness, processor: MemoryProcessor
) -> None:
    version = clean(busy, "ours")["id"]
    busy.processing.poll()
    processor.problems[version] = "Node n cannot pull image i"
    busy.processing.poll()
    shown = busy.client.get(url("ours", 2)).json()
    assert (shown["state"], shown["problem"]) == ("processing", "Node n cannot pull image i")
    del processor.problems[version]
    busy.processing.poll()
    assert busy.client.get(url("ours", 2)).json()["problem"] == ""


def test_source_version_cannot_be_deleted_during_cleaning(
    busy: ControlPlaneHarness, processor: MemoryProcessor
) -> None:
    created = clean(busy, "ours")
    rejected = busy.client.delete(url("ours", 1), headers={"If-Match": '"1"'})
    assert (rejected.status_code, rejected.json()["detail"]) == (409, "reviews@2 is being created from reviews@1")
    busy.processing.poll()
    processor.finish(created["id"])
    busy.processing.poll()
    assert delete(busy, url("ours", 1)) == 200


def test_version_fails_if_its_source_is_deleted(busy: ControlPlaneHarness) -> None:
    created = clean(busy, "ours")
    with busy.database.write() as uow:
        uow.all_projects().dataset_versions.delete({"number": 1, "dataset": find_version(busy, created["id"]).dataset})  # type: ignore[union-attr]  # it exists
    busy.run_worker_once()
    shown = busy.client.get(url("ours", 2)).json()
    assert shown["state"] == "failed"
    assert shown["problem"].startswith("its source is gone: no dataset version")


def test_process_start_is_retried_and_the_error_is_shown(busy: ControlPlaneHarness, processor: MemoryProcessor) -> None:
    processor.start_error = OSError("no space left on device")
    created = clean(busy, "ours")
    for _ in range(2):
        with pytest.raises(OSError, match="no space"):
            busy.processing.poll()
    assert busy.client.get(url("ours", 2)).json()["problem"].endswith("no space left on device")
    processor.start_error = None
    busy.processing.poll()
    processor.finish(created["id"])
    busy.processing.poll()
    shown = busy.client.get(url("ours", 2)).json()
    assert (shown["state"], shown["problem"]) == ("ready", "")


def test_upload_is_kept_and_its_process_repeated_until_it_has_died_three_times(
    busy: ControlPlaneHarness, processor: MemoryProcessor
) -> None:
    created = upload(busy, "ours")
    version = busy.client.post(f"/v1/projects/ours/uploads/{created['id']}:commit").json()
    for death in (1, 2):
        busy.run_worker_once()
        processor.crash(version["id"])
        busy.processing.poll()
        busy.processing.poll()
        assert processor.starts[version["id"]] == death  # it waits before the next start
        shown = busy.client.get(url("ours", 2)).json()
        assert shown["state"] == "processing"
        assert shown["problem"] == f"attempt {death} of 3 failed and is repeated: the process was killed by signal 9"
        assert staged_files(busy)
        busy.clock.advance(120)
        busy.processing.poll()
        assert processor.starts[version["id"]] == death + 1
    processor.crash(version["id"])
    busy.processing.poll()
    shown = busy.client.get(url("ours", 2)).json()
    assert (shown["state"], shown["problem"]) == ("failed", "the process was killed by signal 9")
    busy.run_worker_once()
    assert staged_files(busy) == []


def test_an_outage_of_what_runs_processes_is_no_death(busy: ControlPlaneHarness, processor: MemoryProcessor) -> None:
    created = upload(busy, "ours")
    version = busy.client.post(f"/v1/projects/ours/uploads/{created['id']}:commit").json()
    busy.run_worker_once()
    processor.results[version["id"]] = UnavailableError("the object store is unreachable")
    for _ in range(4):
        with pytest.raises(UnavailableError):
            busy.processing.poll()
        busy.clock.advance(120)
    shown = busy.client.get(url("ours", 2)).json()
    assert (shown["state"], shown["problem"]) == ("processing", "")
    processor.finish(version["id"])
    busy.processing.poll()
    assert busy.client.get(url("ours", 2)).json()["state"] == "ready"
    assert processor.starts[version["id"]] == 1


def test_upload_of_an_interrupted_process_is_kept_and_processed(
    busy: ControlPlaneHarness, processor: MemoryProcessor
) -> None:
    created = upload(busy, "ours")
    version = busy.client.post(f"/v1/projects/ours/uploads/{created['id']}:commit").json()
    busy.run_worker_once()
    processor.interrupt(version["id"])
    busy.run_worker_once()
    assert staged_files(busy)
    busy.processing.poll()
    assert processor.starts[version["id"]] == 2
    processor.finish(version["id"])
    busy.processing.poll()
    busy.run_worker_once()
    assert busy.client.get(url("ours", 2)).json()["state"] == "ready"
    assert staged_files(busy) == []


def test_interrupted_import_is_started_again(tmp_path: Path) -> None:
    importer = MemoryImporter()
    harness = ControlPlaneHarness(tmp_path, importer=importer)
    body = {"name": "tiny", "path": str(tmp_path), "licence": "MIT"}
    reply = harness.client.post("/v1/base-models", json=body)
    assert reply.status_code == 202, reply.text
    harness.run_worker_once()
    (model,) = importer.requests
    assert importer.starts[model] == 1
    importer.interrupt(model)
    harness.processing.poll()
    assert importer.starts[model] == 2
    assert harness.client.get("/v1/base-models/tiny").json()["state"] == "importing"
    harness.close()


def test_an_outage_fails_no_import_and_a_deleted_model_ends_it(tmp_path: Path) -> None:
    importer = MemoryImporter()
    harness = ControlPlaneHarness(tmp_path, importer=importer)
    body = {"name": "tiny", "path": str(tmp_path), "licence": "MIT"}
    assert harness.client.post("/v1/base-models", json=body).status_code == 202
    harness.run_worker_once()
    (model,) = importer.requests
    importer.results[model] = UnavailableError("the object store is unreachable")
    with pytest.raises(UnavailableError):
        harness.processing.poll()
    assert harness.client.get("/v1/base-models/tiny").json()["state"] == "importing"
    harness.store.put(f"base-models/{model}/config.json", BytesIO(b"{}"))
    assert harness.client.delete("/v1/base-models/tiny").status_code == 200
    harness.run_worker_once()
    assert importer.requests == {}, "the import of a deleted model is ended"
    assert list(harness.store.keys("base-models")) == []
    harness.close()


def test_tokens_of_a_version_are_counted_by_the_tokenizer_of_a_base_model(
    busy: ControlPlaneHarness, processor: MemoryProcessor
) -> None:
    busy.create_base_model()
    with busy.database.read() as uow:
        (base,) = uow.base_models.all()
    created = clean(busy, "ours")
    busy.run_worker_once()
    assert processor.requests[created["id"]].tokenizer == busy.store.uri(f"{base.prefix}/tokenizer.json")


def test_deleting_a_dataset_deletes_its_uploaded_files(busy: ControlPlaneHarness) -> None:
    upload(busy, "ours")
    assert staged_files(busy)
    assert delete(busy, "/v1/projects/ours/datasets/reviews") == 200
    busy.run_worker_once()
    assert staged_files(busy) == []


def test_deleting_a_version_in_processing_stops_its_process_and_deletes_the_files(
    busy: ControlPlaneHarness, processor: MemoryProcessor
) -> None:
    created = upload(busy, "ours")
    version = busy.client.post(f"/v1/projects/ours/uploads/{created['id']}:commit").json()
    busy.run_worker_once()
    assert list(processor.requests) == [version["id"]]
    assert delete(busy, url("ours", version["number"])) == 200
    busy.run_worker_once()
    assert processor.deleted == [version["id"]]
    assert staged_files(busy) == []


def test_deleting_a_project_stops_its_data_processes(busy: ControlPlaneHarness, processor: MemoryProcessor) -> None:
    created = clean(busy, "ours")
    busy.processing.poll()
    assert delete(busy, "/v1/projects/ours") == 200
    busy.run_worker_once()
    assert processor.deleted == [created["id"]]
    remaining = [path for path in (busy.home / "store" / "projects").rglob("*") if path.is_file()]
    assert all(created["id"] not in str(path) for path in remaining)


def test_upload_chunk_after_the_deletion_leaves_no_file(
    busy: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"text,label\nx,a\n"
    created = upload(busy, "ours", content)
    key = next(path for path in staged_files(busy)).relative_to(busy.store_folder).as_posix()
    append = type(busy.store).append

    def delete_then_append(*args: Any) -> int:
        """Delete and purge the dataset while the chunk is in transit."""
        assert delete(busy, "/v1/projects/ours/datasets/reviews") == 200
        busy.run_worker_once()
        assert busy.store.size(key) == 0
        return append(*args)

    busy.store.delete(key)
    monkeypatch.setattr(type(busy.store), "append", delete_then_append)
    assert busy.client.put(created["files"][0]["url"], content=content).status_code == 404
    assert staged_files(busy) == []


def test_system_is_the_audit_actor_of_an_expired_upload(busy: ControlPlaneHarness) -> None:
    created = upload(busy, "ours")
    busy.clock.advance(73 * 3600)
    busy.run_worker_once()
    rows = busy.client.get("/v1/audit").json()["items"]
    assert [(row["actor"], row["subject"]) for row in rows if row["action"] == "upload.expire"] == [
        ("system", created["id"])
    ]


def test_version_numbers_are_not_reused(busy: ControlPlaneHarness, processor: MemoryProcessor) -> None:
    second = clean(busy, "ours")
    assert second["number"] == 2
    assert delete(busy, url("ours", 2)) == 200
    assert clean(busy, "ours")["number"] == 3


def test_pending_dataset_versions_are_limited(tmp_path: Path) -> None:
    limits = LimitSettings(max_pending_dataset_versions=1)
    harness = ControlPlaneHarness(tmp_path, processor=MemoryProcessor(), limits=limits)
    harness.create_project("ours")
    harness.create_dataset("ours")
    created = upload(harness, "ours")
    clean(harness, "ours")
    for path in (f"{url('ours', 1)}:clean", f"/v1/projects/ours/uploads/{created['id']}:commit"):
        rejected = harness.client.post(path, json=CLEAN)
        assert (rejected.status_code, rejected.json()["code"]) == (409, "limit_reached")
        assert rejected.json()["context"] == {"pending": 1, "limit": 1}
    harness.close()


def test_the_limit_of_labels_and_the_options_reach_the_process(tmp_path: Path, processor: MemoryProcessor) -> None:
    built = ControlPlaneHarness(tmp_path, processor=processor, limits=LimitSettings(max_labels=7))
    with built.client:
        built.create_project("ours")
        built.create_dataset("ours")
        content = b"x;a\n"
        file = {"name": "rows.csv", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        options = {"encoding": "latin-1", "delimiter": ";", "header": False, "columns": {"text": "1", "label": "2"}}
        uploads = "/v1/projects/ours/uploads"
        created = built.client.post(uploads, json={"dataset": "reviews", "files": [file], "options": options}).json()
        assert built.client.put(created["files"][0]["url"], content=content).status_code == 200
        version = built.client.post(f"{uploads}/{created['id']}:commit").json()
        built.run_worker_once(2)
        built.processing.poll()
    request = processor.requests[version["id"]]
    assert request.max_labels == 7
    assert request.options.model_dump(mode="json", exclude_defaults=True) == {**options, "encoding": "iso-8859-1"}
    assert version["options"] == request.options.model_dump(mode="json")
    built.close()
