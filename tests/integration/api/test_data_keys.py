"""Data keys are created and deleted with their project, and a command lists which master keys are needed."""

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.cluster import MemoryView, make_pool, make_project, make_quota
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.domain.encryption import DataKey
from windlass.domain.storage_layout import project_prefix
from windlass.services.projects import Projects
from windlass.storage.master_keys import FileMasterKeys
from windlass_api import data_keys


def key_file(folder: Path, *names: str) -> Path:
    path = folder / "master-keys"
    path.write_text("\n".join(f"{name}:{base64.b64encode(name.encode() * 16).decode()}" for name in names))
    return path


def stored_keys(harness: ControlPlaneHarness) -> list[DataKey]:
    with harness.database.read() as uow:
        return uow.all_projects().data_keys.all()


@pytest.mark.database("sqlite", "postgresql")
def test_a_project_of_the_cluster_has_a_key_until_it_is_deleted(tmp_path: Path) -> None:
    view = MemoryView()
    masters = FileMasterKeys.read(key_file(tmp_path, "k1"))
    harness = ControlPlaneHarness(tmp_path, cluster=view, masters=masters)
    state = [make_project("ours", 1, make_quota(1, "gpu"))]
    view.set_state(state, pools=[make_pool("gpu")])
    harness.cluster_sync.step()
    [created] = stored_keys(harness)
    uid = state[0].project.id
    assert (created.project, created.master_key) == (uid, "k1")
    assert harness.data_keys is not None
    assert harness.data_keys.data_key(f"{project_prefix(uid)}/x") == masters.unwrap("k1", created.wrapped, uid)
    assert harness.data_keys.data_key("base-models/bm_1/x") is None
    harness.cluster_sync.step()
    assert stored_keys(harness) == [created], "the key of a project does not change"
    view.set_state([], pools=[make_pool("gpu")])
    harness.cluster_sync.step()
    assert stored_keys(harness) == []
    harness.close()


def test_a_key_is_read_again_after_a_minute(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path, masters=FileMasterKeys.read(key_file(tmp_path, "k1")))
    uid = harness.create_project("ours")
    keys = harness.data_keys
    assert keys is not None
    first = keys.data_key(f"{project_prefix(uid)}/x")
    with harness.database.write() as uow:
        uow.project(uid).data_keys.delete({})
    assert keys.data_key(f"{project_prefix(uid)}/x") == first
    harness.clock.advance(61)
    assert keys.data_key(f"{project_prefix(uid)}/x") is None
    harness.close()


def test_the_command_lists_the_needed_master_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    harness = ControlPlaneHarness(tmp_path, masters=FileMasterKeys.read(key_file(tmp_path, "k1")))
    harness.create_project("ours")
    harness.create_project("theirs")
    Projects(replace(harness.deps, data_keys=None), ADMIN).create("clear", "", None)
    harness.close()
    database = next(tmp_path.glob("*.db"))
    database.rename(tmp_path / "windlass.db")
    for names, status, role in ((("k1",), 0, "the current one"), (("k2", "k1"), 1, "still needed"), ((), 1, "still")):
        if names:
            monkeypatch.setenv("WINDLASS_ENCRYPTION_MASTER_KEYS_FILE", str(key_file(tmp_path, *names)))
        else:
            monkeypatch.delenv("WINDLASS_ENCRYPTION_MASTER_KEYS_FILE")
        assert data_keys.main(["--home", str(tmp_path)]) == status
        first, second = capsys.readouterr().out.splitlines()
        assert first.startswith(f"master key k1 ({role}")
        assert first.endswith("2 data keys")
        assert second == "not encrypted: 1 project"
    assert data_keys.main(["--home", str(tmp_path / "none")]) == 2
