"""Two trainer processes of one job: the fence of the real control plane lets one of them write."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.factories.local_runs import TRAINER, reported_events, spec
from tests.factories.run_contexts import run_context, run_environment
from tests.factories.served_control_plane import HEARTBEAT_TIMEOUT, ServedControlPlane

from windlass.domain.reports import ResultStatus

pytestmark = pytest.mark.processes
_HOUR = 3600


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[ServedControlPlane]:
    with ServedControlPlane(tmp_path) as running:
        yield running


@contextmanager
def trainer(control_plane: ServedControlPlane, machine: Path, behaviour: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a trainer of the job's run with a workspace of its own, as on another machine."""
    machine.mkdir()
    environment = run_environment(machine, control_plane.bind(run_context(machine, spec())))
    argv = [sys.executable, str(TRAINER), behaviour]
    with subprocess.Popen(argv, env=os.environ | environment.variables()) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_trainer_that_was_stopped_beyond_its_heartbeat_timeout_writes_nothing(
    control_plane: ServedControlPlane, tmp_path: Path
) -> None:
    with trainer(control_plane, tmp_path / "first", "hang") as first:
        control_plane.wait_for(lambda p: (1, "training_started") in reported_events(p))
        first.send_signal(signal.SIGSTOP)
        with trainer(control_plane, tmp_path / "second", "ok") as second:
            control_plane.wait_for(lambda p: p.sent("/attempts:acquire", 409) != [])
            assert control_plane.attempt_states == ["live"]
            control_plane.harness.clock.advance(max(_HOUR, HEARTBEAT_TIMEOUT.total_seconds()))
            assert second.wait(60) == 0
        assert control_plane.attempt_states == ["lost", "finished"]
        stored = [event for event in control_plane.events if event.attempt == 1]
        first.send_signal(signal.SIGCONT)
        control_plane.wait_for(lambda p: p.sent("/attempts/1/reports", 409) != [])
        first.wait(60)
    assert [event for event in control_plane.events if event.attempt == 1] == stored
    assert control_plane.attempt_states == ["lost", "finished"]
    assert control_plane.result is not None
    assert control_plane.result.outcome is ResultStatus.SUCCEEDED


def test_the_second_of_two_live_trainers_is_refused_and_exits(
    control_plane: ServedControlPlane, tmp_path: Path
) -> None:
    with (
        trainer(control_plane, tmp_path / "first", "hang") as first,
        trainer(control_plane, tmp_path / "second", "hang") as second,
    ):
        control_plane.wait_for(lambda p: p.sent("/attempts:acquire", 409) != [] and p.attempts != [])
        control_plane.cancel()
        assert {first.wait(60), second.wait(60)} == {0, 3}, "the holder stops, the other one is fenced"
    assert len(control_plane.attempts) == 1
