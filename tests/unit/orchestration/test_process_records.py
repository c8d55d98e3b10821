"""Process records and child environments, without starting processes."""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.domain.errors import ConflictError, UnavailableError
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.orchestration.ray_head import LocalRay
from windlass.orchestration.run_result import RunResult


def current_process() -> ProcessRecord:
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return processes.new_record().model_copy(update={"pid": os.getpid(), "started": started})


def test_a_record_round_trips_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    current_process().save(tmp_path / "process.json")
    record = current_process()
    record.save(tmp_path / "process.json")
    assert ProcessRecord.load(tmp_path / "process.json") == record
    assert [path.name for path in tmp_path.iterdir()] == ["process.json"]


def test_a_missing_record_is_none(tmp_path: Path) -> None:
    assert ProcessRecord.load(tmp_path / "process.json") is None


def test_a_reused_pid_is_not_alive() -> None:
    record = current_process()
    assert processes.is_alive(record)
    assert not processes.is_alive(record.model_copy(update={"started": (record.started or 0) + 1}))
    assert not processes.is_alive(record.model_copy(update={"boot": "before the last reboot"}))
    assert not processes.is_alive(processes.new_record())


def test_a_pending_record_without_a_process_stays_pending() -> None:
    pending = processes.new_record()
    assert processes.locate(pending) == pending
    assert processes.pids(pending) == []


def test_a_reused_pid_is_not_killed() -> None:
    record = current_process()
    processes.kill(record.model_copy(update={"started": (record.started or 0) + 1}))


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=5)))
def test_a_child_inherits_only_allowed_variables(source: dict[str, str]) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "s", "HTTPS_PROXY": "p", "WINDLASS_PEPPER": "x", "LD_PRELOAD": "l"}
    inherited = processes.clean_environment({"GIVEN": "1"}, {**source, **secrets, "PATH": "/bin", "LC_ALL": "C"})
    assert inherited.keys().isdisjoint(secrets.keys() - source.keys())
    assert inherited["PATH"] == "/bin"
    assert inherited["LC_ALL"] == "C"
    assert inherited["GIVEN"] == "1"
    assert inherited["PYTHONSAFEPATH"] == "1"


def test_a_folder_is_locked_by_one_process(tmp_path: Path) -> None:
    with processes.lock_folder(tmp_path), pytest.raises(ConflictError, match="in use"), processes.lock_folder(tmp_path):
        pass
    with processes.lock_folder(tmp_path):
        pass


def test_a_lock_is_held_on_the_folder_that_exists(tmp_path: Path) -> None:
    """The holder may delete the folder, so that a waiting process gets the lock of a file that nobody else opens."""
    folder, order = tmp_path / "run", []

    def wait() -> None:
        with processes.lock_folder(folder, blocking=True):
            order.append("waiter")
            with pytest.raises(ConflictError), processes.lock_folder(folder):
                pass

    waiter = threading.Thread(target=wait)
    with processes.lock_folder(folder):
        waiter.start()
        waiter.join(0.2)
        shutil.rmtree(folder)
        order.append("holder")
    waiter.join(30)
    assert order == ["holder", "waiter"]
    assert (folder / "lock").exists()
    with pytest.raises(FileNotFoundError), processes.lock_folder(tmp_path / "missing", create=False):
        pass


def test_a_run_result_round_trips(tmp_path: Path) -> None:
    assert RunResult.load(tmp_path) is None
    RunResult(state="failed", message="train: why").save(tmp_path)
    assert RunResult.load(tmp_path) == RunResult(state="failed", message="train: why")
    assert json.loads((tmp_path / "run.json").read_text()) == {"state": "failed", "message": "train: why"}


@pytest.mark.parametrize("kind", ["link", "open", "file"])
def test_ray_rejects_a_temp_folder_that_is_not_private(tmp_path: Path, kind: str) -> None:
    shared = tmp_path / "t"
    shared.mkdir()
    ray = LocalRay(tmp_path / "ray", "/nonexistent/python", temp_root=shared)
    temp_folder = ray._temp
    if len(os.fsencode(shared)) > 22:
        temp_folder = tmp_path / temp_folder.name
        ray._temp = temp_folder
    if kind == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        temp_folder.symlink_to(tmp_path / "elsewhere")
    elif kind == "open":
        temp_folder.mkdir()
        temp_folder.chmod(0o777)
    else:
        temp_folder.touch()
    with pytest.raises(UnavailableError, match="not a private folder"):
        ray.ensure()


def test_two_data_folders_have_two_rays_with_short_paths(tmp_path: Path) -> None:
    first, second = (LocalRay(tmp_path / name, "python", temp_root=tmp_path / ("x" * 60)) for name in ("a", "b"))
    assert first._temp != second._temp
    assert LocalRay(tmp_path / "a", "python", temp_root=tmp_path / ("x" * 60))._temp == first._temp
    assert len(str(first._temp)) < 25
