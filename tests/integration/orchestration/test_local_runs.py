"""Fault injection in local runs with real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.factories.local_runs import LocalRun, spec
from tests.factories.served_control_plane import ServedControlPlane

from windlass.domain.specs import DeploySpec
from windlass.orchestration import processes
from windlass.ports import BackendState

pytestmark = pytest.mark.processes
NewRun = Callable[..., LocalRun]


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[ServedControlPlane]:
    with ServedControlPlane(tmp_path) as control_plane:
        yield control_plane


@pytest.fixture
def new_run(control_plane: ServedControlPlane, tmp_path: Path) -> Iterator[NewRun]:
    runs: list[LocalRun] = []

    def make(*behaviours: str, **options: Any) -> LocalRun:
        runs.append(LocalRun(control_plane, tmp_path, behaviours, **options))
        return runs[-1]

    yield make
    for run in runs:
        run.end()


def test_the_pipeline_trains_registers_deploys_and_cleans_up(
    control_plane: ServedControlPlane, new_run: NewRun
) -> None:
    run = new_run("ok")
    run.submit()
    assert run.until().state is BackendState.SUCCEEDED
    assert control_plane.steps == {"train": "succeeded", "register": "succeeded", "deploy": "succeeded"}
    assert control_plane.event_codes().count("deploy_requested") == 1
    assert "stub trainer, start 1" in control_plane.log("train")
    assert run.pids() == []
    assert not (run.folder / "kfp").exists()
    assert run.context.run_token not in run.log()


def test_folder_names_may_contain_blanks_quotes_and_python3(control_plane: ServedControlPlane, tmp_path: Path) -> None:
    root = tmp_path / "it's python3 here"
    root.mkdir()
    run = LocalRun(control_plane, root, ("ok",), spec())
    run.submit()
    assert run.until().state is BackendState.SUCCEEDED, run.log()


def test_a_job_without_an_endpoint_is_not_deployed(control_plane: ServedControlPlane, new_run: NewRun) -> None:
    run = new_run("ok", job=spec())
    run.submit()
    assert run.until().state is BackendState.SUCCEEDED
    assert set(control_plane.steps) == {"train", "register"}


def test_a_rejected_version_is_registered_and_not_deployed(control_plane: ServedControlPlane, new_run: NewRun) -> None:
    job = spec(deploy=DeploySpec(endpoint="endpoint"), evaluation={"gates": ["perplexity <= 1"]})
    run = new_run("ok", job=job)
    run.submit()
    assert run.until().state is BackendState.SUCCEEDED
    assert [version.decision.value for version in control_plane.versions] == ["rejected"]
    assert "deploy_requested" not in control_plane.event_codes()


def test_a_cancelled_run_stops_and_registers_nothing(control_plane: ServedControlPlane, new_run: NewRun) -> None:
    run = new_run("hang")
    run.submit()
    run.wait_training()
    control_plane.cancel()
    assert run.until().state is BackendState.STOPPED
    assert set(control_plane.steps) == {"train"}
    assert run.trainer_starts() == 1


def test_kill_9_of_the_trainer_starts_the_next_attempt(control_plane: ServedControlPlane, new_run: NewRun) -> None:
    run = new_run("hang", "ok")
    run.submit()
    run.wait_training()
    os.kill(run.trainer().pid or 0, signal.SIGKILL)
    assert run.until().state is BackendState.SUCCEEDED
    assert control_plane.attempt_states == ["lost", "finished"]


def test_a_run_without_its_ray_is_lost_and_not_failed(control_plane: ServedControlPlane, new_run: NewRun) -> None:
    run = new_run("hang")
    run.submit()
    run.wait_training()
    control_plane.stop_ray()
    result = run.until()
    assert (result.state, result.message) == (BackendState.LOST, f"train: Ray at {control_plane.ray_address} is lost")
    assert run.trainer_starts() == 1
    assert run.pids() == []


def test_kill_9_of_the_run_makes_it_lost_and_leaves_no_trainer(new_run: NewRun) -> None:
    run = new_run("orphan")
    backend = run.submit()
    run.wait_training()
    assert len(run.pids()) > 3
    os.kill(run.record().pid or 0, signal.SIGKILL)
    result = run.until()
    assert result.state is BackendState.LOST
    assert "was killed by signal 9" in result.message
    assert run.pids() == []
    backend.submit(run.context)
    assert run.until().state is BackendState.LOST
    assert run.trainer_starts() == 1


def test_a_run_with_an_unreadable_result_is_killed_and_lost(new_run: NewRun) -> None:
    run = new_run("hang")
    backend = run.submit()
    run.wait_training()
    (run.folder / "run.json").write_text('{"state": "perhaps"}')
    backend.kill(run.name)
    assert run.pids() == []
    result = backend.poll(run.name)
    assert result.state is BackendState.LOST
    assert "cannot be read" in result.message


def test_kill_9_of_the_step_fails_the_run_and_kills_its_trainer(
    control_plane: ServedControlPlane, new_run: NewRun
) -> None:
    run = new_run("hang")
    run.submit()
    run.wait_training()
    step = int(Path(f"/proc/{run.trainer().pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(step, signal.SIGKILL)
    result = run.until()
    assert (result.state, result.message) == (
        BackendState.FAILED,
        "train: its process ended without reporting a status",
    )
    assert run.pids() == []
    assert control_plane.steps["train"] == "failed"


def test_kill_ends_a_process_in_another_session(new_run: NewRun) -> None:
    run = new_run("orphan")
    backend = run.submit()
    run.wait_training()
    members = run.pids()
    backend.kill(run.name)
    assert [pid for pid in members if Path(f"/proc/{pid}/cmdline").exists() and _is_running(pid)] == []
    assert backend.poll(run.name).state is BackendState.LOST


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.parametrize("behaviour", ["hang", "stubborn"])
def test_sigterm_stops_the_run_and_a_trainer_that_ignores_it(
    control_plane: ServedControlPlane, new_run: NewRun, behaviour: str
) -> None:
    run = new_run(behaviour, settings={"termination_grace_seconds": 0.5})
    run.submit()
    run.wait_training()
    processes.send_signal(run.record(), signal.SIGTERM)
    assert run.until().state is BackendState.STOPPED
    assert run.pids() == []
    assert control_plane.attempt_states == ["lost"]
    assert run.trainer_starts() == 1


def test_another_server_adopts_a_running_run(control_plane: ServedControlPlane, new_run: NewRun) -> None:
    run = new_run("from-file")
    code = (
        "import json, sys; from pathlib import Path; from windlass.orchestration.local import LocalPipelineBackend\n"
        "from windlass.runtime.context import RunContext\n"
        "LocalPipelineBackend(Path(sys.argv[1]), sys.executable, lambda: json.loads(sys.argv[2]))"
        ".submit(RunContext.model_validate_json(sys.argv[3]))\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    arguments = [str(run.root / "runs"), json.dumps(run.variables()), run.context.model_dump_json()]
    server = [sys.executable, "-c", code, *arguments]
    assert subprocess.run(server, check=False).returncode == -signal.SIGKILL
    run.wait_training()
    run.submit()
    assert run.until(BackendState.RUNNING).state is BackendState.RUNNING
    (run.folder / "result").write_text("ok")
    assert run.until().state is BackendState.SUCCEEDED
    assert run.trainer_starts() == 1


def test_a_result_during_an_outage_is_delivered_after_it(control_plane: ServedControlPlane, new_run: NewRun) -> None:
    run = new_run("from-file")
    run.submit()
    run.wait_training()
    control_plane.outage()
    (run.folder / "result").write_text("spool")
    assert processes.wait(run.trainer(), 30)
    assert run.until(BackendState.RUNNING).state is BackendState.RUNNING
    control_plane.restore()
    assert run.until().state is BackendState.SUCCEEDED
    assert len(control_plane.versions) == 1
    assert run.trainer_starts() == 1


def test_twenty_submits_of_one_name_start_one_process(control_plane: ServedControlPlane, new_run: NewRun) -> None:
    run = new_run("ok")
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: run.submit(), range(20)))
    assert run.until().state is BackendState.SUCCEEDED
    assert run.trainer_starts() == 1
    assert control_plane.attempt_states == ["finished"]
    assert run.log().count("Running pipeline") == 1
