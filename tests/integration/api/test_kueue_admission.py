"""Jobs in a cluster: every queued job has a run, and Kueue's decisions about its RayJob move the job."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.cluster import MemoryView, make_pool
from tests.fakes.harness import ControlPlaneHarness
from tests.integration.api.kueue_cluster import OURS, control_plane_of

from windlass.domain.errors import FencedError
from windlass.domain.jobs import AttemptState, JobState, Reason
from windlass.domain.quota import ResourceDemand
from windlass.domain.reports import ReportBatch
from windlass.ports import BackendRun, BackendState
from windlass.services.runs import Runs

pytestmark = pytest.mark.database("sqlite", "postgresql")

TIMEOUT = timedelta(seconds=30)


@pytest.fixture
def view() -> MemoryView:
    return MemoryView()


@pytest.fixture
def harness(tmp_path: Path, view: MemoryView) -> Iterator[ControlPlaneHarness]:
    with control_plane_of(view, tmp_path) as built:
        yield built


class SubmittedJob:
    """One job and its run, as Kueue sees them."""

    def __init__(self, harness: ControlPlaneHarness, view: MemoryView) -> None:
        self.harness, self.view = harness, view
        self.id: str = harness.submit("ours", key="1", resources={"pool": "a100"})["id"]
        harness.run_worker_once()

    def shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.harness.client.get(f"/v1/projects/ours/jobs/{self.id}").json()
        return shown

    @property
    def state(self) -> JobState:
        return JobState(self.shown()["state"])

    def runs(self) -> Runs:
        with self.harness.database.read() as uow:
            [run] = uow.all_projects().runs.all({"job": self.id, "ended_at": None})
        return Runs(self.harness.deps, run.id, TIMEOUT)

    def decide(self, *, admitted: bool, reason: Reason | None = None) -> None:
        """Let Kueue admit or evict the RayJob, and the control plane observe it."""
        now = self.harness.clock.now()
        demand = ResourceDemand(
            job=self.id, project="ours", pool="a100", gpus=1, queued_at=now, admitted_at=now if admitted else None
        )
        state = self.view.set_state([OURS], demand, pools=[make_pool()])
        self.view.state = state.model_copy(update={"reasons": {} if reason is None else {self.id: reason}})
        self.view.changed = True
        self.harness.cluster_sync.step()
        self.harness.jobs.poll()

    def events(self) -> list[str]:
        with self.harness.database.read() as uow:
            return [event.code for event in uow.all_projects().telemetry.events(self.id, 0, 100)]

    def attempts(self) -> list[AttemptState]:
        with self.harness.database.read() as uow:
            return [attempt.state for attempt in uow.all_projects().attempts.all({"job": self.id})]


@pytest.fixture
def job(harness: ControlPlaneHarness, view: MemoryView) -> SubmittedJob:
    return SubmittedJob(harness, view)


def test_a_queued_job_has_one_run_and_stays_queued(harness: ControlPlaneHarness, job: SubmittedJob) -> None:
    harness.run_worker_once(3)
    assert len(harness.pipelines.contexts) == 1
    assert (job.state, job.shown()["run"]) == (JobState.QUEUED, 1)


def test_the_job_starts_when_kueue_admits_it(job: SubmittedJob) -> None:
    job.decide(admitted=False, reason=Reason(code="waiting_for_quota", message="waits"))
    assert (job.state, job.shown()["reason"]["code"]) == (JobState.QUEUED, "waiting_for_quota")
    job.decide(admitted=True)
    assert (job.state, job.shown()["reason"]) == (JobState.STARTING, None)
    job.runs().acquire_attempt("trainer")
    job.decide(admitted=True)
    assert job.state is JobState.RUNNING
    assert job.events().count("job_admitted") == 1


def test_a_trainer_that_is_faster_than_the_news_of_its_admission_trains(job: SubmittedJob) -> None:
    job.runs().acquire_attempt("trainer")
    job.decide(admitted=False)  # observed before the admission
    assert (job.state, job.attempts()) == (JobState.RUNNING, [AttemptState.LIVE])


def test_a_preempted_job_is_queued_again_and_its_run_goes_on(harness: ControlPlaneHarness, job: SubmittedJob) -> None:
    job.decide(admitted=True)
    job.runs().acquire_attempt("first")
    harness.clock.advance(20)
    job.decide(admitted=False, reason=Reason(code="preempted", message="another project reclaims its GPUs"))
    assert (job.state, job.shown()["reason"]["code"]) == (JobState.QUEUED, "preempted")
    assert job.attempts() == [AttemptState.LOST]
    with harness.database.read() as uow:
        events = uow.all_projects().telemetry.events(job.id, 0, 100)
    assert [event.message for event in events if event.code == "job_preempted"] == [
        "the job waits again: another project reclaims its GPUs"
    ]
    job.decide(admitted=True)
    reply = job.runs().acquire_attempt("second")
    assert (reply.attempt, job.state, len(harness.pipelines.contexts)) == (2, JobState.RUNNING, 1)


def test_the_trainer_of_a_preempted_job_is_fenced(harness: ControlPlaneHarness, job: SubmittedJob) -> None:
    job.decide(admitted=True)
    job.runs().acquire_attempt("first")
    harness.clock.advance(20)
    job.decide(admitted=False)
    with pytest.raises(FencedError):
        job.runs().report(1, ReportBatch(source="rank0", sequence=1, items=[]))


def test_a_run_that_is_lost_while_it_waits_gets_a_successor(harness: ControlPlaneHarness, job: SubmittedJob) -> None:
    [name] = harness.pipelines.contexts
    harness.pipelines.end(name, BackendState.LOST, "the node of its pod is gone")
    harness.run_worker_once(2)
    assert (job.state, job.shown()["run"], len(harness.pipelines.contexts)) == (JobState.QUEUED, 2, 2)


def test_a_cancelled_job_that_waits_ends_with_its_run(harness: ControlPlaneHarness, job: SubmittedJob) -> None:
    assert harness.client.post(f"/v1/projects/ours/jobs/{job.id}:cancel").status_code == 200
    assert job.shown()["state"] == "cancelling"
    [name] = harness.pipelines.contexts
    harness.pipelines.end(name, BackendState.STOPPED)
    harness.run_worker_once()
    assert job.state is JobState.CANCELLED


def test_why_the_pod_of_a_run_does_not_start_is_the_reason_of_the_job(
    harness: ControlPlaneHarness, job: SubmittedJob
) -> None:
    [name] = harness.pipelines.contexts
    reason = Reason(code="image_pull_failed", message="Node n cannot pull image i")
    harness.pipelines.states[name] = BackendRun(name=name, state=BackendState.RUNNING, reason=reason)
    harness.run_worker_once()
    assert job.shown()["reason"]["code"] == "image_pull_failed"


OUT_OF_MEMORY = Reason(code="oom_killed", message="Container ray-worker was killed", action="Reduce the batch size")


def test_why_the_trainer_has_failed_is_the_reason_of_the_job(harness: ControlPlaneHarness, job: SubmittedJob) -> None:
    [name] = harness.pipelines.contexts
    harness.pipelines.states[name] = BackendRun(
        name=name, state=BackendState.FAILED, message="train: failed 3 times", reason=OUT_OF_MEMORY
    )
    harness.run_worker_once()
    assert job.state is JobState.FAILED
    reason = job.shown()["reason"]
    assert (reason["code"], reason["action"]) == ("oom_killed", "Reduce the batch size")


def test_why_the_pods_of_runs_were_lost_is_the_reason_of_the_job(
    harness: ControlPlaneHarness, job: SubmittedJob
) -> None:
    while job.state is not JobState.FAILED:
        name = list(harness.pipelines.contexts)[-1]
        harness.pipelines.states[name] = BackendRun(
            name=name, state=BackendState.LOST, message="killed", reason=OUT_OF_MEMORY
        )
        harness.run_worker_once(2)
    reason = job.shown()["reason"]
    assert reason["code"] == "oom_killed"
    assert reason["message"].endswith("runs of the job were lost: Container ray-worker was killed")


def test_a_reason_that_does_not_apply_any_more_is_removed(job: SubmittedJob) -> None:
    job.decide(admitted=True)
    job.runs().acquire_attempt("trainer")
    job.decide(admitted=True, reason=Reason(code="node_lost", message="node gpu-1 is gone"))
    assert (job.state, job.shown()["reason"]["code"]) == (JobState.RUNNING, "node_lost")
    job.decide(admitted=True)
    assert (job.state, job.shown()["reason"]) == (JobState.RUNNING, None)


def is_paused(harness: ControlPlaneHarness) -> bool:
    [run] = harness.pipelines.states.values()
    assert run.state is BackendState.RUNNING
    return run.paused


def test_the_run_of_a_job_that_waits_is_paused_until_kueue_admits_it(
    harness: ControlPlaneHarness, job: SubmittedJob
) -> None:
    harness.clock.advance(60)
    harness.jobs.poll()
    assert not is_paused(harness), "its RayJob does not exist yet"
    job.decide(admitted=False)
    assert is_paused(harness)
    job.decide(admitted=False)
    assert (job.state, is_paused(harness)) == (JobState.QUEUED, True)
    job.decide(admitted=True)
    assert (job.state, is_paused(harness)) == (JobState.STARTING, False)
    assert len(harness.pipelines.submissions) == 1


def test_a_run_is_not_paused_for_a_short_wait(harness: ControlPlaneHarness, job: SubmittedJob) -> None:
    harness.clock.advance(29)
    job.decide(admitted=False)
    assert not is_paused(harness)
    harness.clock.advance(1)
    job.decide(admitted=False)
    assert is_paused(harness)


def test_the_run_of_a_preempted_job_is_paused_and_resumed(harness: ControlPlaneHarness, job: SubmittedJob) -> None:
    job.decide(admitted=True)
    job.runs().acquire_attempt("first")
    harness.clock.advance(60)
    job.decide(admitted=False)
    assert (job.state, is_paused(harness)) == (JobState.QUEUED, False)
    harness.clock.advance(30)
    job.decide(admitted=False)
    assert is_paused(harness)
    job.decide(admitted=True)
    assert not is_paused(harness)
    assert job.runs().acquire_attempt("second").attempt == 2


def test_a_paused_run_whose_ray_job_is_gone_goes_on(
    harness: ControlPlaneHarness, view: MemoryView, job: SubmittedJob
) -> None:
    harness.clock.advance(60)
    job.decide(admitted=False)
    assert is_paused(harness)
    view.set_state([OURS], pools=[make_pool()])
    harness.cluster_sync.step()
    harness.jobs.poll()
    assert not is_paused(harness), "its next process requests the resources again"


def test_a_cancelled_job_whose_run_is_paused_ends_at_once(harness: ControlPlaneHarness, job: SubmittedJob) -> None:
    harness.clock.advance(60)
    job.decide(admitted=False)
    assert is_paused(harness)
    assert harness.client.post(f"/v1/projects/ours/jobs/{job.id}:cancel").status_code == 200
    harness.jobs.poll()
    harness.jobs.poll()
    assert job.state is JobState.CANCELLED
