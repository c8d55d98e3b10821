"""The check of the object store: clean after a restore, else it names each missing, changed or orphaned file."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.artifacts import manifest_of
from windlass.ports import BackendState
from windlass.services.consistency import StoreCheck
from windlass.storage.local import LocalObjectStore
from windlass_api import store_check

OURS = "/v1/projects/ours"


@pytest.fixture
def filled(ready: ControlPlaneHarness) -> ControlPlaneHarness:
    """A platform whose dataset, base model, checkpoint and model have files with manifests."""
    job = ready.submit("ours", key="1")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    run.finish(1)
    ready.pipelines.end(run.name, BackendState.SUCCEEDED)
    ready.run_worker_once()
    with ready.database.write() as uow:
        data = uow.all_projects().dataset_versions.all()[0]
        digest = publish(ready.store_folder / data.prefix)
        uow.project(data.project).dataset_versions.save(data.model_copy(update={"digest": digest}))
        base = uow.base_models.all()[0]
        digest = publish(ready.store_folder / base.prefix, "tokenizer.json")
        uow.base_models.save(base.model_copy(update={"digest": digest}))
    return ready


def publish(folder: Path, *names: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("{}")
    manifest = manifest_of(folder)
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return manifest.digest()


def check(harness: ControlPlaneHarness, *, hashes: bool = False) -> list[tuple[str, str]]:
    report = StoreCheck(harness.database, harness.deps.store).run(hashes=hashes)
    return [(problem.kind, problem.key) for problem in report.problems]


def files(harness: ControlPlaneHarness) -> list[str]:
    root = harness.store_folder
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_a_consistent_store_has_no_problem(filled: ControlPlaneHarness) -> None:
    report = StoreCheck(filled.database, filled.deps.store).run(hashes=True)
    assert report.problems == ()
    assert (report.folders, report.hashed) == (3, True)
    assert report.files == len([name for name in files(filled) if not name.endswith("manifest.json")])


def test_every_removed_file_is_named(filled: ControlPlaneHarness) -> None:
    for name in files(filled):
        path = filled.store_folder / name
        content = path.read_bytes()
        path.unlink()
        assert check(filled) == [("missing", name)]
        path.write_bytes(content)


def test_every_changed_file_is_named(filled: ControlPlaneHarness) -> None:
    for name in files(filled):
        path = filled.store_folder / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # of the same length
        assert check(filled, hashes=True) == [("changed", name)]
        path.write_bytes(content + b" ")
        if not name.endswith("manifest.json"):  # white space changes no manifest
            assert check(filled) == [("changed", name)]
        path.write_bytes(content)


def test_what_no_row_names_is_an_orphan_unless_its_deletion_is_due(filled: ControlPlaneHarness) -> None:
    for name in ("projects/prj_gone/datasets/dsv_x/train.jsonl", "base-models/bm_gone/config.json"):
        path = filled.store_folder / name
        path.parent.mkdir(parents=True)
        path.write_text("x")
    expected = [
        ("orphan", "base-models/bm_gone/config.json"),
        ("orphan", "projects/prj_gone/datasets/dsv_x/train.jsonl"),
    ]
    assert check(filled) == expected
    etag = filled.client.get(f"{OURS}/datasets/reviews").headers["ETag"]
    assert filled.client.delete(f"{OURS}/datasets/reviews", headers={"If-Match": etag}).status_code == 200
    assert check(filled) == expected, "its files are about to be purged"
    filled.dispatch_outbox()
    assert check(filled) == expected


def test_a_deleted_project_is_no_problem_until_its_files_are_gone(filled: ControlPlaneHarness) -> None:
    etag = filled.client.get(OURS).headers["ETag"]
    assert filled.client.delete(OURS, headers={"If-Match": etag}).status_code == 200
    assert check(filled) == []
    with filled.database.write() as uow:
        [deleted] = [each for each in uow.tombstones.all(10) if each.job is None]
        while uow.tombstones.delete_rows(deleted, 100):
            pass
    assert check(filled) == [], "its rows are deleted before its files"
    filled.delete_expired()
    assert check(filled) == []
    assert [name for name in files(filled) if name.startswith("projects/")] == []


def test_a_folder_that_is_deleted_during_the_check_is_no_problem(filled: ControlPlaneHarness) -> None:
    def delete_data(done: int, _: int) -> None:
        if done == 1:
            with filled.database.write() as uow:
                for version in uow.all_projects().model_versions.all():
                    filled.deps.store.delete(version.prefix)
                    uow.project(version.project).model_versions.delete({"id": version.id})

    report = StoreCheck(filled.database, filled.deps.store).run(progress=delete_data)
    assert report.problems == ()


@pytest.fixture
def home(filled: ControlPlaneHarness, tmp_path: Path) -> Path:
    """A data directory restored from a backup, database before files; the original is destroyed."""
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    backup.mkdir()
    database = next(filled.home.glob("*.db"))
    source, target = sqlite3.connect(database), sqlite3.connect(backup / "windlass.db")
    source.backup(target)
    source.close()
    target.close()
    shutil.copytree(filled.store_folder, backup / "store")
    filled.database.close()
    for path in (database, Path(f"{database}-wal"), Path(f"{database}-shm")):
        path.unlink(missing_ok=True)
    shutil.rmtree(filled.store_folder)
    shutil.copytree(backup, restored)
    return restored


def test_a_restored_backup_is_clean_and_a_lost_file_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store_check.main(["--home", str(home), "--hashes"]) == 0
    assert "0 problems" in capsys.readouterr().out
    lost = next(name for name in LocalObjectStore(home / "store", 0).keys("projects") if name.endswith("report.json"))
    (home / "store" / lost).unlink()
    assert store_check.main(["--home", str(home), "--json"]) == 1
    [problem] = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["kind"], problem["key"]) == ("missing", lost)
    assert problem["owner"].startswith("model version mv_")


def test_a_check_that_cannot_run_is_no_clean_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store_check.main(["--home", str(tmp_path)]) == 2
    assert "there is no database" in capsys.readouterr().err
