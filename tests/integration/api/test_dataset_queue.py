"""Datasets between their commit and their end: who is processed when, and what is left of what was deleted."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.backends import MemoryProcessor
from tests.fakes.house import House

from windlass.domain.datasets import DatasetVersion, VersionState
from windlass.domain.errors import UnavailableError
from windlass.settings import LimitSettings

CLEAN = {"steps": [{"op": "deduplicate"}]}


@pytest.fixture
def processor() -> MemoryProcessor:
    return MemoryProcessor()


@pytest.fixture
def busy(tmp_path: Path, processor: MemoryProcessor) -> Iterator[House]:
    """A house with two projects whose datasets are processed when a test says so."""
    built = House(tmp_path, processor=processor)
    with built.client:
        for name in ("ours", "theirs"):
            built.project(name, pool=name)
            built.dataset(name)
        yield built
    built.close()


def url(project: str, number: int) -> str:
    return f"/v1/projects/{project}/datasets/reviews/versions/{number}"


def clean(house: House, project: str, number: int = 1) -> dict[str, Any]:
    time.sleep(0.002)  # ids sort by the millisecond in which they were made
    reply = house.client.post(f"{url(project, number)}:clean", json=CLEAN)
    assert reply.status_code == 202, reply.text
    made: dict[str, Any] = reply.json()
    return made


def staged(house: House) -> list[Path]:
    return [path for path in (house.home / "store").rglob("uploads/*/*") if path.is_file()]


def upload(house: House, project: str, content: bytes = b"text,label\nx,a\n") -> dict[str, Any]:
    """Open an upload and send its only file."""
    file = {"name": "rows.csv", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    made: dict[str, Any] = house.client.post(
        f"/v1/projects/{project}/uploads", json={"dataset": "reviews", "files": [file]}
    ).json()
    assert house.client.put(made["files"][0]["url"], content=content).status_code == 200
    return made


def stored(house: House, key: str) -> DatasetVersion | None:
    with house.database.read() as work:
        return work.everywhere().dataset_versions.find(id=key)


def delete(house: House, path: str) -> int:
    etag = house.client.get(path).headers["etag"]
    return house.client.delete(path, headers={"If-Match": etag}).status_code


def test_few_versions_are_processed_at_once_and_projects_take_turns(busy: House, processor: MemoryProcessor) -> None:
    ours = [clean(busy, "ours")["id"] for _ in range(5)]
    theirs = clean(busy, "theirs")["id"]
    for _ in range(3):
        busy.turn(2)
        busy.processing.watch()
    assert list(processor.requests) == [ours[0], theirs]
    processor.finish(ours[0])
    busy.processing.watch()
    assert list(processor.requests) == [theirs, ours[1]]
    processor.finish(ours[1])
    processor.finish(theirs)
    busy.processing.watch()
    assert list(processor.requests) == ours[2:4]
    assert (found := stored(busy, ours[4])) is not None
    assert found.state is VersionState.PROCESSING


def test_one_version_that_cannot_be_dealt_with_does_not_hold_up_the_others(
    busy: House, processor: MemoryProcessor
) -> None:
    first, second = clean(busy, "ours")["id"], clean(busy, "theirs")["id"]
    busy.processing.watch()
    processor.ends[first] = OSError("the disk is gone")
    processor.finish(second)
    with pytest.raises(OSError, match="disk is gone"):
        busy.processing.watch()
    assert (found := stored(busy, second)) is not None
    assert found.state is VersionState.READY


def test_a_version_that_others_are_made_from_stays_until_they_are(busy: House, processor: MemoryProcessor) -> None:
    made = clean(busy, "ours")
    refused = busy.client.delete(url("ours", 1), headers={"If-Match": '"1"'})
    assert (refused.status_code, refused.json()["detail"]) == (409, "reviews@2 is being made from it")
    busy.processing.watch()
    processor.finish(made["id"])
    busy.processing.watch()
    assert delete(busy, url("ours", 1)) == 204


def test_a_version_whose_source_is_gone_fails_and_says_so(busy: House) -> None:
    made = clean(busy, "ours")
    with busy.database.write() as work:
        work.everywhere().dataset_versions.delete(number=1, dataset=stored(busy, made["id"]).dataset)  # type: ignore[union-attr]  # it is there
    busy.turn()
    shown = busy.client.get(url("ours", 2)).json()
    assert shown["state"] == "failed"
    assert shown["problem"].startswith("its source is gone: no dataset version")


def test_a_process_that_cannot_be_started_is_tried_again_and_says_why(busy: House, processor: MemoryProcessor) -> None:
    processor.broken = OSError("no space left on device")
    made = clean(busy, "ours")
    for _ in range(2):
        with pytest.raises(OSError, match="no space"):
            busy.processing.watch()
    assert busy.client.get(url("ours", 2)).json()["problem"].endswith("no space left on device")
    processor.broken = None
    busy.processing.watch()
    processor.finish(made["id"])
    busy.processing.watch()
    shown = busy.client.get(url("ours", 2)).json()
    assert (shown["state"], shown["problem"]) == ("ready", "")


def test_a_dead_process_fails_its_version_and_nothing_else(busy: House, processor: MemoryProcessor) -> None:
    made = clean(busy, "ours")
    busy.processing.watch()
    processor.ends[made["id"]] = UnavailableError("it died")
    busy.processing.watch()
    assert busy.client.get(url("ours", 2)).json()["problem"] == "it died"


def test_deleting_a_dataset_drops_the_bytes_of_its_uploads(busy: House) -> None:
    upload(busy, "ours")
    assert staged(busy)
    assert delete(busy, "/v1/projects/ours/datasets/reviews") == 204
    busy.turn()
    assert staged(busy) == []


def test_deleting_a_version_in_processing_ends_its_process_and_drops_the_bytes(
    busy: House, processor: MemoryProcessor
) -> None:
    made = upload(busy, "ours")
    version = busy.client.post(f"/v1/projects/ours/uploads/{made['id']}:commit").json()
    busy.turn()
    assert list(processor.requests) == [version["id"]]
    assert delete(busy, url("ours", version["number"])) == 204
    busy.turn()
    assert processor.forgotten == [version["id"]]
    assert staged(busy) == []


def test_deleting_a_project_ends_its_data_processes(busy: House, processor: MemoryProcessor) -> None:
    made = clean(busy, "ours")
    busy.processing.watch()
    assert delete(busy, "/v1/projects/ours") == 204
    busy.turn()
    assert processor.forgotten == [made["id"]]
    left = [path for path in (busy.home / "store" / "projects").rglob("*") if path.is_file()]
    assert all(made["id"] not in str(path) for path in left)


def test_a_piece_that_arrives_after_the_deletion_leaves_nothing(busy: House, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"text,label\nx,a\n"
    made = upload(busy, "ours", content)
    key = next(path for path in staged(busy)).relative_to(busy.store.local_path("projects").parent).as_posix()
    append = type(busy.store).append

    def late(*args: Any) -> int:
        """The dataset is deleted, and purged, while the piece is on its way."""
        assert delete(busy, "/v1/projects/ours/datasets/reviews") == 204
        busy.turn()
        assert busy.store.size(key) == 0
        return append(*args)

    busy.store.delete(key)
    monkeypatch.setattr(type(busy.store), "append", late)
    assert busy.client.put(made["files"][0]["url"], content=content).status_code == 404
    assert staged(busy) == []


def test_an_upload_that_expires_is_audited_as_the_systems_doing(busy: House) -> None:
    made = upload(busy, "ours")
    busy.clock.forward(73 * 3600)
    busy.turn()
    rows = busy.client.get("/v1/audit").json()["items"]
    assert [(row["actor"], row["subject"]) for row in rows if row["action"] == "upload.expire"] == [
        ("system", made["id"])
    ]


def test_a_number_is_never_given_twice(busy: House, processor: MemoryProcessor) -> None:
    second = clean(busy, "ours")
    assert second["number"] == 2
    assert delete(busy, url("ours", 2)) == 204
    assert clean(busy, "ours")["number"] == 3


def test_a_project_may_have_so_many_versions_in_processing(tmp_path: Path) -> None:
    limits = LimitSettings(unfinished_versions=1)
    house = House(tmp_path, processor=MemoryProcessor(), limits=limits)
    house.project("ours")
    house.dataset("ours")
    made = upload(house, "ours")
    clean(house, "ours")
    for path in (f"{url('ours', 1)}:clean", f"/v1/projects/ours/uploads/{made['id']}:commit"):
        refused = house.client.post(path, json=CLEAN)
        assert (refused.status_code, refused.json()["code"]) == (409, "limit_reached")
        assert refused.json()["facts"] == {"unfinished": 1, "limit": 1}
    house.close()
