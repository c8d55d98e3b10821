"""The GPU time of jobs in a cluster: what Kueue reserved for them, and for how long."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.fakes.cluster import MemoryView, make_pool
from tests.fakes.harness import ControlPlaneHarness
from tests.integration.api.kueue_cluster import OURS, control_plane_of

from windlass.domain.cluster_sync import ObservedReservation
from windlass.ports import BackendState

pytestmark = pytest.mark.database("sqlite", "postgresql")


@pytest.fixture
def view() -> MemoryView:
    return MemoryView()


@pytest.fixture
def harness(tmp_path: Path, view: MemoryView) -> Iterator[ControlPlaneHarness]:
    with control_plane_of(view, tmp_path) as built:
        yield built


class Reserved:
    """A submitted job, and its Workload as Kueue shows it. Times are seconds after the submission."""

    def __init__(self, harness: ControlPlaneHarness, view: MemoryView) -> None:
        self.harness, self.view, self.start = harness, view, harness.clock.now()
        self.job: str = harness.submit("ours", key="1", resources={"pool": "a100", "workers": 2})["id"]
        harness.run_worker_once()

    def at(self, seconds: float | None) -> datetime | None:
        return None if seconds is None else self.start + timedelta(seconds=seconds)

    def workload(
        self, reserved: float | None, released: float | None = None, uid: str = "uid-1"
    ) -> ObservedReservation:
        held = {} if reserved is None else {"pool": "a100", "gpus": 2, "reserved_at": self.at(reserved)}
        return ObservedReservation.model_validate(
            {"workload": uid, "job": self.job, "released_at": self.at(released), **held}
        )

    def observe(self, now: float, *reservations: ObservedReservation) -> None:
        """Let the control plane observe the Workloads at a time."""
        self.harness.clock.advance((self.start + timedelta(seconds=now) - self.harness.clock.now()).total_seconds())
        state = self.view.set_state([OURS], pools=[make_pool()])
        self.view.state = state.model_copy(update={"reservations": reservations})
        self.harness.cluster_sync.step()

    @property
    def gpu_seconds(self) -> float:
        [item] = self.harness.client.get("/v1/projects/ours/usage").json()["items"]
        assert item["job"] == self.job
        seconds: float = item["gpu_seconds"]
        return seconds


@pytest.fixture
def job(harness: ControlPlaneHarness, view: MemoryView) -> Reserved:
    return Reserved(harness, view)


def test_a_job_that_waits_for_kueue_uses_no_gpu_time(harness: ControlPlaneHarness, job: Reserved) -> None:
    job.observe(100)
    with harness.database.read() as uow:
        assert uow.all_projects().runs.all({"job": [job.job]}), "its run exists while it waits"
    assert job.gpu_seconds == 0


def test_gpu_time_counts_from_the_reservation_to_the_release(job: Reserved) -> None:
    job.observe(12, job.workload(10))
    job.observe(40, job.workload(10))
    assert job.gpu_seconds == 2 * 30
    job.observe(75, job.workload(10, released=70))
    job.observe(500, job.workload(10, released=70))
    assert job.gpu_seconds == 2 * 60


def test_the_end_of_the_run_does_not_matter(harness: ControlPlaneHarness, job: Reserved) -> None:
    job.observe(12, job.workload(10))
    job.observe(30, job.workload(10, released=30))
    job.observe(90)
    [name] = harness.pipelines.contexts
    harness.pipelines.end(name, BackendState.SUCCEEDED)
    harness.run_worker_once()
    assert job.gpu_seconds == 2 * 20


def test_a_preempted_job_uses_gpu_time_only_while_it_holds_quota(job: Reserved) -> None:
    job.observe(12, job.workload(10))
    job.observe(36, job.workload(None, released=34))
    job.observe(100, job.workload(None, released=34))
    assert job.gpu_seconds == 2 * 24
    job.observe(121, job.workload(120))
    job.observe(160, job.workload(120, released=150))
    assert job.gpu_seconds == 2 * (24 + 30)


def test_a_preemption_between_two_observations_ends_before_the_next_admission(job: Reserved) -> None:
    job.observe(12, job.workload(10))
    job.observe(60, job.workload(50))
    job.observe(90, job.workload(50, released=80))
    assert job.gpu_seconds == 2 * (40 + 30)


def test_a_reservation_that_was_never_observed_while_it_was_held_counts(job: Reserved) -> None:
    job.observe(100, job.workload(10, released=40))
    job.observe(110)
    assert job.gpu_seconds == 2 * 30


def test_a_cancelled_job_holds_quota_until_its_workload_is_gone(job: Reserved) -> None:
    job.observe(12, job.workload(10))
    job.observe(45)
    job.observe(300)
    assert job.gpu_seconds == 2 * 35


def test_every_start_of_the_trainer_counts(job: Reserved) -> None:
    job.observe(12, job.workload(10))
    job.observe(31, job.workload(10, released=30), job.workload(None, uid="uid-2"))
    job.observe(41, job.workload(40, uid="uid-2"))
    job.observe(61, job.workload(40, released=60, uid="uid-2"))
    assert job.gpu_seconds == 2 * (20 + 20)


def test_a_workload_that_could_not_be_read_for_a_while_has_one_reservation(job: Reserved) -> None:
    job.observe(12, job.workload(10))
    job.observe(20)
    job.observe(40, job.workload(10))
    job.observe(75, job.workload(10, released=70))
    assert job.gpu_seconds == 2 * 60


def test_an_observation_without_changes_writes_nothing(harness: ControlPlaneHarness, job: Reserved) -> None:
    job.observe(12, job.workload(10), job.workload(1, released=5, uid="uid-0"))
    assert job.gpu_seconds == 2 * (2 + 4)
    harness.database.add_commit_hook(Refuse())
    job.observe(13, job.workload(10), job.workload(1, released=5, uid="uid-0"))


class Refuse:
    """A commit hook that fails."""

    def prepare(self, uow: object, changes: object) -> None:
        raise AssertionError(f"{uow} writes {changes}")


def test_a_workload_of_another_control_plane_is_ignored(harness: ControlPlaneHarness, job: Reserved) -> None:
    job.observe(12, job.workload(10).model_copy(update={"job": f"job_{'0' * 26}"}))
    assert job.gpu_seconds == 0
    with harness.database.read() as uow:
        assert uow.all_projects().gpu_reservations.count() == 0


def test_a_deleted_job_takes_its_reservations_with_it(harness: ControlPlaneHarness, job: Reserved) -> None:
    job.observe(12, job.workload(10))
    job.observe(31, job.workload(10, released=30))
    assert harness.client.post(f"/v1/projects/ours/jobs/{job.job}:cancel").status_code == 200
    [name] = harness.pipelines.contexts
    harness.pipelines.end(name, BackendState.STOPPED)
    harness.run_worker_once(2)
    deleted = harness.client.delete(f"/v1/projects/ours/jobs/{job.job}")
    assert deleted.status_code == 200, deleted.text
    harness.retention.step()
    with harness.database.read() as uow:
        assert uow.all_projects().gpu_reservations.count() == 0
