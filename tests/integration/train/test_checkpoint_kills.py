"""A trainer that is killed at any line of a checkpoint: what is visible is complete, and the next attempt resumes."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.served_control_plane import ServedControlPlane
from tests.factories.single_trainer import train_in_process
from tests.factories.training_runs import job_spec, make_run, store_folder

from windlass.domain.reports import ResultStatus
from windlass.runtime.artifacts import verify
from windlass.runtime.context import RunEnvironment
from windlass.runtime.flush import flush_reports
from windlass_pipelines.train.driver import REPORTED

pytestmark = pytest.mark.processes
INTERVAL = 4
TRAINING = {"max_steps": 16, "batch_size": 8, "learning_rate": 5e-3, "checkpoint_every_steps": INTERVAL}
SPEC = job_spec(training=TRAINING, method={"type": "lora", "rank": 4, "dropout": 0.2})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The loss by step of a training that nothing interrupts."""
    root = tmp_path_factory.mktemp("uninterrupted")
    with ServedControlPlane(root) as control_plane:
        assert train_in_process(control_plane.environment(make_run(root, SPEC))) == REPORTED
        return control_plane.metrics("train_loss")


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[ServedControlPlane]:
    with ServedControlPlane(tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    ("point", "resumed_from"),
    [
        # at the second checkpoint, of step 8
        ("checkpoint.written=kill@2", 4),
        ("folder.sealed=kill@2", 4),
        ("checkpoint.published=kill@2", 8),
        # The checkpoint of step 4, after that of step 12 or 16. It is deleted when a later one is acknowledged, so the
        # control plane gets the time to do that.
        ("checkpoint.delete=kill;checkpoint.published=sleep:1", (12, 16)),
    ],
)
def test_a_trainer_killed_at_a_checkpoint_loses_at_most_one_interval(
    control_plane: ServedControlPlane,
    tmp_path: Path,
    uninterrupted: dict[int, float],
    point: str,
    resumed_from: int | tuple[int, ...],
) -> None:
    environment = control_plane.environment(make_run(tmp_path, SPEC))
    assert train_in_process(environment, point) == -signal.SIGKILL
    flush_reports(environment)
    assert_visible_checkpoints_are_complete(control_plane, environment)
    control_plane.lose_attempt()
    reached = max(control_plane.metrics("train_loss"))

    assert train_in_process(environment) == REPORTED
    [resumed] = [event.context["step"] for event in control_plane.events if event.code == "training_resumed"]
    assert resumed in (resumed_from if isinstance(resumed_from, tuple) else (resumed_from,))
    assert resumed >= reached - INTERVAL
    assert_visible_checkpoints_are_complete(control_plane, environment)
    assert control_plane.attempt_states == ["lost", "finished"]
    assert control_plane.result is not None
    assert control_plane.result.outcome is ResultStatus.SUCCEEDED
    assert control_plane.metrics("train_loss") == uninterrupted


def assert_visible_checkpoints_are_complete(control_plane: ServedControlPlane, environment: RunEnvironment) -> None:
    """Invariant I9: a checkpoint that the control plane lists matches its manifest."""
    assert control_plane.checkpoints
    for checkpoint in control_plane.checkpoints:
        folder = store_folder(environment) / f"checkpoints/{checkpoint.attempt}/{checkpoint.step}"
        assert verify(folder) == checkpoint.manifest
