"""Faults of a run on this machine, with real processes: what is killed, when, and what must hold afterwards."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.runs import RUN_NAME, LocalRun, spec

from windlass.domain.reports import Command
from windlass.orchestration import processes
from windlass.ports import BackendState

pytestmark = pytest.mark.processes
NewRun = Callable[..., LocalRun]


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as plane:
        yield plane


@pytest.fixture
def new_run(plane: FakeControlPlane, tmp_path: Path) -> Iterator[NewRun]:
    runs: list[LocalRun] = []

    def make(*behaviours: str, **options: Any) -> LocalRun:
        runs.append(LocalRun(plane, tmp_path, behaviours, **options))
        return runs[-1]

    yield make
    for run in runs:
        run.end()


def test_the_whole_pipeline_trains_registers_deploys_and_leaves_nothing_behind(
    plane: FakeControlPlane, new_run: NewRun
) -> None:
    run = new_run("ok")
    run.submit()
    assert run.until().state is BackendState.SUCCEEDED
    assert {name: told["state"] for name, told in plane.state.steps.items()} == {
        "train": "succeeded",
        "register": "succeeded",
        "deploy": "succeeded",
    }
    assert plane.state.deployed == {"endpoint": "endpoint"}
    assert "stand-in trainer, life 1" in "".join(chunk["text"] for chunk in plane.state.step_logs["train"])
    assert run.members() == []
    assert not (run.context.workspace / "kfp").exists()
    assert plane.token not in run.log()


def test_folders_with_blanks_quotes_and_the_word_python3_in_their_names_do_no_harm(
    plane: FakeControlPlane, tmp_path: Path
) -> None:
    root = tmp_path / "it's python3 here"
    root.mkdir()
    run = LocalRun(plane, root, ("ok",), spec())
    run.submit()
    assert run.until().state is BackendState.SUCCEEDED, run.log()


def test_a_job_without_an_endpoint_is_not_deployed(plane: FakeControlPlane, new_run: NewRun) -> None:
    run = new_run("ok", job=spec())
    run.submit()
    assert run.until().state is BackendState.SUCCEEDED
    assert set(plane.state.steps) == {"train", "register"}


def test_a_rejected_version_is_registered_and_not_deployed(plane: FakeControlPlane, new_run: NewRun) -> None:
    plane.decision = "rejected"
    run = new_run("ok")
    run.submit()
    assert run.until().state is BackendState.SUCCEEDED
    assert plane.state.registered is not None
    assert plane.state.deployed is None


def test_a_cancelled_run_stops_and_registers_nothing(plane: FakeControlPlane, new_run: NewRun) -> None:
    run = new_run("hang")
    run.submit()
    run.training()
    plane.command = Command.CANCEL
    assert run.until().state is BackendState.STOPPED
    assert set(plane.state.steps) == {"train"}
    assert run.lives() == 1


def test_kill_9_of_the_trainer_gives_it_a_new_life_under_the_next_attempt(
    plane: FakeControlPlane, new_run: NewRun
) -> None:
    run = new_run("hang", "ok")
    run.submit()
    run.training()
    os.kill(run.trainer().pid or 0, signal.SIGKILL)
    assert run.until().state is BackendState.SUCCEEDED
    assert [(attempt.number, attempt.state) for attempt in plane.state.attempts] == [(1, "lost"), (2, "ended")]


def test_a_run_whose_ray_is_gone_is_lost_and_not_failed(plane: FakeControlPlane, new_run: NewRun) -> None:
    run = new_run("hang")
    run.submit()
    run.training()
    plane.lose_ray()
    found = run.until()
    assert (found.state, found.message) == (BackendState.LOST, f"train: Ray at {plane.ray_address} is gone")
    assert run.lives() == 1
    assert run.members() == []


def test_kill_9_of_the_run_loses_it_and_leaves_no_trainer(new_run: NewRun) -> None:
    run = new_run("orphan")
    backend = run.submit()
    run.training()
    assert len(run.members()) > 3
    os.kill(run.record().pid or 0, signal.SIGKILL)
    found = run.until()
    assert found.state is BackendState.LOST
    assert "ended without a result" in found.message
    assert run.members() == []
    backend.submit(run.context)
    assert run.until().state is BackendState.LOST
    assert run.lives() == 1


def test_kill_9_of_the_step_fails_the_run_and_ends_its_trainer(plane: FakeControlPlane, new_run: NewRun) -> None:
    run = new_run("hang")
    run.submit()
    run.training()
    step = int(Path(f"/proc/{run.trainer().pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(step, signal.SIGKILL)
    found = run.until()
    assert (found.state, found.message) == (BackendState.FAILED, "train: its process ended without a word")
    assert run.members() == []
    assert plane.state.steps["train"]["state"] == "failed"


def test_kill_reaches_a_process_that_moved_to_a_session_of_its_own(new_run: NewRun) -> None:
    run = new_run("orphan")
    backend = run.submit()
    run.training()
    members = run.members()
    backend.kill(RUN_NAME)
    assert [pid for pid in members if Path(f"/proc/{pid}/cmdline").exists() and _is_running(pid)] == []
    assert backend.poll(RUN_NAME).state is BackendState.LOST


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.parametrize("behaviour", ["hang", "stubborn"])
def test_sigterm_stops_the_run_and_a_trainer_that_ignores_it(
    plane: FakeControlPlane, new_run: NewRun, behaviour: str
) -> None:
    run = new_run(behaviour, settings={"stop_grace": 0.5})
    run.submit()
    run.training()
    processes.send(run.record(), signal.SIGTERM)
    assert run.until().state is BackendState.STOPPED
    assert run.members() == []
    assert [attempt.state for attempt in plane.state.attempts] == ["lost"]
    assert run.lives() == 1


def test_another_server_adopts_a_run_that_goes_on(plane: FakeControlPlane, new_run: NewRun) -> None:
    run = new_run("told")
    code = (
        "import sys; from pathlib import Path; from windlass.orchestration.local import LocalPipelineBackend\n"
        "from windlass.runtime.context import RunContext\n"
        "LocalPipelineBackend(Path(sys.argv[1]), sys.executable, {'WINDLASS_STEP_SETTINGS': sys.argv[2]})"
        ".submit(RunContext.model_validate_json(sys.argv[3]))\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    settings = run.backend()._environment["WINDLASS_STEP_SETTINGS"]
    server = [sys.executable, "-c", code, str(run.root / "runs"), settings, run.context.model_dump_json()]
    assert subprocess.run(server, check=False).returncode == -signal.SIGKILL
    run.training()
    run.submit()
    assert run.until(BackendState.RUNNING).state is BackendState.RUNNING
    (run.context.workspace / "told").write_text("ok")
    assert run.until().state is BackendState.SUCCEEDED
    assert run.lives() == 1


def test_a_server_that_is_away_when_training_ends_gets_the_result_when_it_is_back(
    plane: FakeControlPlane, new_run: NewRun
) -> None:
    run = new_run("told")
    run.submit()
    run.training()
    plane.outage()
    (run.context.workspace / "told").write_text("spool")
    assert processes.wait(run.trainer(), 30)
    assert run.until(BackendState.RUNNING).state is BackendState.RUNNING
    plane.restore()
    assert run.until().state is BackendState.SUCCEEDED
    assert plane.state.registered is not None
    assert run.lives() == 1


def test_twenty_submits_of_one_name_start_one_process(plane: FakeControlPlane, new_run: NewRun) -> None:
    run = new_run("ok")
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: run.submit(), range(20)))
    assert run.until().state is BackendState.SUCCEEDED
    assert run.lives() == 1
    assert [attempt.number for attempt in plane.state.attempts] == [1]
    assert run.log().count("Running pipeline") == 1
