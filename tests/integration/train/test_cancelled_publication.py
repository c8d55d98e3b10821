"""A cancel while the trainer publishes its artifact: the job is cancelled, without a version, and nothing is left."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.factories.served_control_plane import ServedControlPlane
from tests.factories.single_trainer import train_in_process
from tests.factories.training_runs import job_spec, make_run
from tests.integration.cluster.waiting import eventually

from windlass.domain.errors import FencedError
from windlass.domain.jobs import JobState
from windlass.ports import BackendState
from windlass.services.registration import Registration
from windlass_pipelines.train.driver import REPORTED

pytestmark = pytest.mark.processes
SPEC = job_spec(training={"max_steps": 4, "batch_size": 8, "learning_rate": 5e-3}, method={"type": "full"})


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[ServedControlPlane]:
    with ServedControlPlane(tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    "point",
    [
        "artifact.written=hold:{}",
        "folder.sealed=hold:{}@2",  # the first folder is the checkpoint of the last step
        "artifact.published=hold:{}",
    ],
)
def test_a_cancel_during_the_publication_leaves_no_version(
    control_plane: ServedControlPlane, tmp_path: Path, point: str
) -> None:
    environment, held = control_plane.environment(make_run(tmp_path, SPEC)), tmp_path / "held"
    with ThreadPoolExecutor(1) as trainer:
        exit_code = trainer.submit(train_in_process, environment, point.format(held))
        eventually(held.exists, "the trainer is at the failpoint", seconds=120)
        control_plane.cancel()
        held.unlink()
        assert exit_code.result() == REPORTED
    with pytest.raises(FencedError, match="is cancelling"):
        Registration(control_plane.harness.deps, environment.context.identity.run).register()
    control_plane.end_run(BackendState.STOPPED)
    assert control_plane.job.state is JobState.CANCELLED
    assert control_plane.versions == []
    assert control_plane.harness.client.get("/v1/pools/local").json()["in_use"] == 0
    assert control_plane.harness.client.get("/v1/projects/ours/models").json()["items"] == []
