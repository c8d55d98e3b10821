"""What is written down of processes, and what a child may inherit: no process is started here."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.domain.errors import ConflictError, UnavailableError
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.orchestration.ray_head import LocalRay
from windlass.orchestration.run_end import RunEnd


def myself() -> ProcessRecord:
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return processes.claim().model_copy(update={"pid": os.getpid(), "started": started})


def test_a_saved_record_comes_back_equal_and_leaves_no_draft(tmp_path: Path) -> None:
    myself().save(tmp_path / "process.json")
    record = myself()
    record.save(tmp_path / "process.json")
    assert ProcessRecord.load(tmp_path / "process.json") == record
    assert [path.name for path in tmp_path.iterdir()] == ["process.json"]


def test_no_record_is_none(tmp_path: Path) -> None:
    assert ProcessRecord.load(tmp_path / "process.json") is None


def test_of_twenty_exclusive_records_one_is_kept_whole(tmp_path: Path) -> None:
    claims = [processes.claim() for _ in range(20)]

    def save(claim: ProcessRecord) -> bool:
        try:
            claim.save(tmp_path / "process.json", exclusive=True)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        won = list(pool.map(save, claims))
    assert won.count(True) == 1
    assert ProcessRecord.load(tmp_path / "process.json") == claims[won.index(True)]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_pid_that_another_process_got_is_not_alive() -> None:
    record = myself()
    assert processes.alive(record)
    assert not processes.alive(record.model_copy(update={"started": (record.started or 0) + 1}))
    assert not processes.alive(record.model_copy(update={"boot": "before the last reboot"}))
    assert not processes.alive(processes.claim())


def test_a_claim_that_led_to_nothing_stays_a_claim() -> None:
    claim = processes.claim()
    assert processes.find(claim) == claim
    assert processes.members(claim) == []


def test_a_stranger_with_the_pid_of_a_record_is_never_killed() -> None:
    record = myself()
    processes.kill(record.model_copy(update={"started": (record.started or 0) + 1}))


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=5)))
def test_a_child_inherits_no_variable_that_is_not_allowed(source: dict[str, str]) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "s", "HTTPS_PROXY": "p", "WINDLASS_PEPPER": "x", "LD_PRELOAD": "l"}
    kept = processes.clean_environment({"GIVEN": "1"}, {**source, **secrets, "PATH": "/bin", "LC_ALL": "C"})
    assert kept.keys().isdisjoint(secrets.keys() - source.keys())
    assert kept["PATH"] == "/bin"
    assert kept["LC_ALL"] == "C"
    assert kept["GIVEN"] == "1"
    assert kept["PYTHONSAFEPATH"] == "1"


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    with processes.exclusive(tmp_path), pytest.raises(ConflictError, match="in use"), processes.exclusive(tmp_path):
        pass
    with processes.exclusive(tmp_path):
        pass


def test_the_end_of_a_run_is_read_as_written(tmp_path: Path) -> None:
    assert RunEnd.load(tmp_path) is None
    RunEnd(state="failed", message="train: why").save(tmp_path)
    assert RunEnd.load(tmp_path) == RunEnd(state="failed", message="train: why")
    assert json.loads((tmp_path / "run.json").read_text()) == {"state": "failed", "message": "train: why"}


@pytest.mark.parametrize("kind", ["link", "open", "file"])
def test_ray_is_not_started_in_a_folder_that_others_may_have_made(tmp_path: Path, kind: str) -> None:
    shared = tmp_path / "t"
    shared.mkdir()
    ray = LocalRay(tmp_path / "ray", "/nonexistent/python", temp_root=shared)
    place = ray._temp
    if len(os.fsencode(shared)) > 22:
        place = tmp_path / place.name
        ray._temp = place
    if kind == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    elif kind == "open":
        place.mkdir()
        place.chmod(0o777)
    else:
        place.touch()
    with pytest.raises(UnavailableError, match="not a private folder"):
        ray.ensure()


def test_two_data_folders_have_two_rays_below_a_short_path(tmp_path: Path) -> None:
    one, other = (LocalRay(tmp_path / name, "python", temp_root=tmp_path / ("x" * 60)) for name in ("a", "b"))
    assert one._temp != other._temp
    assert LocalRay(tmp_path / "a", "python", temp_root=tmp_path / ("x" * 60))._temp == one._temp
    assert len(str(one._temp)) < 25
