"""``job logs``: the last lines, the lines since a time, and following to the end of the job."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun
from tests.unit.cli.conftest import Windlass

from windlass.ports import BackendState


@pytest.fixture
def run(harness: ControlPlaneHarness) -> SimulatedRun:
    job = harness.submit("default", key="1")
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt()
    now = datetime.now(UTC)
    for age, text in ((3600, "old"), (300, "recent"), (1, "new")):
        run.report(1, {"type": "log", "text": f"{text}\n", "time": (now - timedelta(seconds=age)).isoformat()})
    return run


def _texts(output: str) -> list[str]:
    return [line.rpartition("| ")[2] for line in output.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ([], ["old", "recent", "new"]),
        (["--tail", "2"], ["recent", "new"]),
        (["--tail", "0"], []),
        (["--since", "10m"], ["recent", "new"]),
        (["--since", "10m", "--tail", "1"], ["new"]),
        (["--since", "10s"], ["new"]),
    ],
)
def test_lines_are_selected_by_number_and_time(
    cli: Windlass, run: SimulatedRun, arguments: list[str], texts: list[str]
) -> None:
    [job] = cli("job", "list", "-o", "name").out.split()
    result = cli("job", "logs", job, *arguments)
    assert result.code == 0, result.err
    assert _texts(result.out) == texts


def test_follow_prints_new_lines_and_ends_with_the_job(
    cli: Windlass, harness: ControlPlaneHarness, run: SimulatedRun
) -> None:
    [job] = cli("job", "list", "-o", "name").out.split()

    def train() -> None:
        time.sleep(1)
        run.report(1, {"type": "log", "text": "step 1\n"})
        run.report(1, {"type": "log", "text": "step 2\n"})
        harness.client.post(f"/v1/projects/default/jobs/{job}:cancel")
        harness.pipelines.end(run.name, BackendState.STOPPED)
        harness.run_worker_once(3)

    thread = threading.Thread(target=train)
    thread.start()
    result = cli("job", "logs", job, "--follow", "--tail", "1")
    thread.join()
    assert result.code == 0, result.err
    assert _texts(result.out) == ["new", "step 1", "step 2"]
