"""Prometheus metrics of jobs, leases and submissions, from what the control plane does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.backends import MemoryPipelines
from tests.fakes.cluster import MemoryView
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun

from windlass.domain.errors import UnavailableError
from windlass_api.metrics import REGISTRY

LOST = "windlass_leases_lost_total"
TIMEOUT = 30
"""Heartbeat timeout of the harness, in seconds."""


class Increase:
    """How much a metric has grown since the start of the test."""

    def __init__(self, name: str, **labels: str) -> None:
        self._name, self._labels = name, labels
        self._before = self._now()

    def _now(self) -> float:
        return REGISTRY.get_sample_value(self._name, self._labels) or 0.0

    @property
    def value(self) -> float:
        return self._now() - self._before


@pytest.fixture
def ready(harness: ControlPlaneHarness) -> ControlPlaneHarness:
    """A project with two CPU slots."""
    harness.create_project("ours", gpus=2)
    harness.create_base_model()
    harness.create_dataset("ours")
    return harness


@pytest.fixture
def run(ready: ControlPlaneHarness) -> SimulatedRun:
    """A run with two CPU slots."""
    job = ready.submit("ours", key="1", resources={"pool": "local", "gpus_per_worker": 2})
    ready.run_worker_once(2)
    return ready.simulated_run(job)


def gpu_seconds(outcome: str) -> Increase:
    return Increase("windlass_gpu_seconds_total", pool="local", outcome=outcome)


def test_gpu_time_is_counted_once_by_the_outcome_of_each_attempt(ready: ControlPlaneHarness, run: SimulatedRun) -> None:
    finished, lost, leases = gpu_seconds("finished"), gpu_seconds("lost"), Increase(LOST, lease="attempt")
    run.acquire_attempt("first")
    ready.clock.advance(TIMEOUT)
    assert run.acquire_attempt("second").json()["attempt"] == 2
    assert (lost.value, leases.value, finished.value) == (2 * TIMEOUT, 1, 0)
    late: dict[str, Any] = {"type": "log", "text": "the end of the log"}
    assert run.report(1, late).status_code == 200
    ready.clock.advance(12)
    assert run.finish(2).status_code == 200
    run.report(2)  # a heartbeat while the trainer exits
    assert (lost.value, leases.value, finished.value) == (2 * TIMEOUT, 1, 24)


def test_the_wait_of_a_job_is_that_until_its_first_admission(ready: ControlPlaneHarness) -> None:
    total, count = (Increase(f"windlass_queue_wait_seconds_{each}", pool="local") for each in ("sum", "count"))
    ready.submit("ours", key="1")
    ready.dispatch_outbox()
    ready.clock.advance(100)
    ready.run_worker_once(2)
    assert (total.value, count.value) == (100, 1)
    [name] = ready.pipelines.submissions
    assert name.endswith("-r1")


class LostReply(MemoryPipelines):
    """A back end whose first reply is lost."""

    def submit(self, context: Any) -> bool:
        created = super().submit(context)
        if created:
            raise UnavailableError("the connection was closed before the reply")
        return created


def test_a_submission_whose_reply_was_lost_is_ambiguous(ready: ControlPlaneHarness) -> None:
    ambiguous = Increase("windlass_ambiguous_submissions_total")
    ready.submit("ours", key="1")
    ready.run_worker_once(2)
    assert ambiguous.value == 0
    ready.pipelines.__class__ = LostReply
    ready.submit("ours", key="2")
    ready.run_worker_once(2)
    ready.clock.advance(2)  # the intent is repeated
    ready.run_worker_once(2)
    assert ambiguous.value == 1
    assert len(ready.pipelines.contexts) == 2


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ControlPlaneHarness]:
    view = MemoryView()
    view.set_state([])
    built = ControlPlaneHarness(tmp_path, cluster=view)
    yield built
    built.close()


def test_a_worker_that_is_not_the_leader_any_more_has_lost_a_lease(cluster: ControlPlaneHarness) -> None:
    lost = Increase(LOST, lease="leader")
    assert cluster.worker.cluster_sync is not None
    first, second = cluster.worker.syncing(cluster.worker.cluster_sync), cluster.add_cluster_sync("worker-2")
    first()
    second.step()
    cluster.clock.advance(15)  # the first worker is stopped
    second.step()
    second.elector.ensure_leader()
    assert (cluster.worker.is_leader, lost.value) == (False, 0)
    first()
    first()
    assert lost.value == 1
