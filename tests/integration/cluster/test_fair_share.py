"""Fifty jobs of five projects on four GPUs of fake nodes, with the real Kueue, KubeRay, operators and cluster sync.

Kueue admits the jobs in fair-share order within the quotas, and their GPU time is the lifetime of their RayJobs. Runs
have no pods: the test launches the RayJob of a run, and reports its result, in place of the runner and the trainer.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.factories.fair_share import FairShareReplay, Share, ShareJob
from tests.factories.pod_settings import ray_job_settings
from tests.fakes.backends import FakeClock, MemoryPipelines
from tests.fakes.cluster import MemoryView
from tests.fakes.harness import ControlPlaneHarness
from tests.integration.cluster.installed import admin_client, control_plane_client, guide
from tests.integration.cluster.job_history import RayJobLifetimes, WorkloadHistory
from tests.integration.cluster.operator_process import OperatorProcess, desired, project, wait_for_reason
from tests.integration.cluster.ray_heads import ray_heads
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import apply
from tests.testcluster.layout import LocalCluster

from windlass.domain.cluster_sync import ObservedClusterState
from windlass.domain.errors import UnavailableError
from windlass.domain.jobs import JobState
from windlass.kit.boot_time import boot_seconds
from windlass.kube.cluster_view import InformerClusterView
from windlass.kube.jobs.ray_job_launcher import RayJobLauncher
from windlass.kube.kinds import PROJECT
from windlass.ports import BackendState
from windlass.runtime.context import RunContext

__all__ = ["ray_heads"]
pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(900)]
RUNNER = "system:serviceaccount:windlass-system:windlass-runner"
SHARES = {"search": Share(2), "ranking": Share(1), "speech": Share(1), "vision": Share(0, 1), "guests": Share(0)}
FIRST = ("vision", "guests", "guests", "guests")
"""The projects of the first jobs: they borrow all GPUs."""
JOBS = [*(name for _ in range(7) for name in SHARES), *("search", "ranking", "speech") * 3, "guests", "guests"]
TRAINING_SECONDS, FIRST_TRAINING_SECONDS = 14, 90
"""How long a trainer runs. KubeRay notices its end up to three seconds later. The first borrowers train until they are
preempted; they resume with the usual time."""


class RealClock(FakeClock):
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return boot_seconds()


class RealView(MemoryView):
    """The state of the real cluster."""

    def __init__(self, informers: InformerClusterView) -> None:
        super().__init__()
        self.informers = informers

    def wait(self, seconds: float) -> bool:
        return self.informers.wait(seconds)

    def observe(self) -> ObservedClusterState:
        self.state = self.informers.observe()
        return self.state


class RayJobPipelines(MemoryPipelines):
    """Runs that consist of a RayJob, launched as the step ``train`` launches it."""

    def __init__(self, cluster: LocalCluster, marks: Path) -> None:
        super().__init__()
        self.first_seconds = FIRST_TRAINING_SECONDS
        self._marks = marks
        self._client = admin_client(cluster, impersonate=RUNNER)

    def submit(self, context: RunContext) -> bool:
        created = super().submit(context)
        if created:
            self._launcher(context).launch(context, 1)
        return created

    def finish(self, name: str) -> None:
        """End a run whose trainer has ended."""
        self._launcher(self.contexts[name]).stop(name)
        self.end(name, BackendState.SUCCEEDED)

    def first_train(self) -> bool:
        """Whether the trainers of the first jobs run."""
        return len(list(self._marks.iterdir())) == len(FIRST)

    def _launcher(self, context: RunContext) -> RayJobLauncher:
        mark = self._marks / context.identity.name
        script = f"mkdir {mark} && exec sleep {self.first_seconds}; exec sleep {TRAINING_SECONDS}"
        settings = ray_job_settings(entrypoint=("sh", "-c", script))
        return RayJobLauncher(self._client, context.identity.project, settings)


@dataclass
class ControlPlane:
    """The control plane with its jobs, and what the cluster did with them."""

    harness: ControlPlaneHarness
    pipelines: RayJobPipelines
    lifetimes: RayJobLifetimes
    history: WorkloadHistory
    projects: dict[str, str] = field(default_factory=dict)
    """The project of each job."""
    _reported: int = 0

    def submit(self, *projects: str) -> None:
        """Submit a job for each name."""
        for name in projects:
            job = self.harness.submit(name, key=f"{len(self.projects)}", resources={"pool": "a100"})
            self.projects[job["id"]] = name

    def until(self, reached: Callable[[], bool], what: str, seconds: float) -> None:
        """Run the worker until a condition is true."""

        def step() -> bool:
            self._step()
            return reached()

        eventually(step, what, seconds)

    def _step(self) -> None:
        """Run the worker once, and report the results of RayJobs that have ended.

        Once in a second is enough: the lifetimes of RayJobs are compared with times of Kueue, which needs the CPU.
        """
        time.sleep(1)
        self.harness.cluster_sync.step()
        self.harness.run_worker_once()
        for job in self.lifetimes.finished[self._reported :]:
            self._reported += 1
            run = self.harness.simulated_run({"id": job})
            attempt = run.acquire_attempt(run.name).json()["attempt"]
            assert run.finish(attempt).status_code == 200
            self.pipelines.finish(run.name)

    def succeeded(self) -> bool:
        """Whether all jobs have succeeded, and the quota of all of them was released."""
        with self.harness.database.read() as uow:
            repos = uow.all_projects()
            states = Counter(job.state for job in repos.jobs.all())
            held = repos.gpu_reservations.all({"released_at": None})
        return states == {JobState.SUCCEEDED: len(self.projects)} and not held

    def ledger(self) -> dict[str, float]:
        """The GPU seconds of each job, as the API shows them."""
        pages = [self.harness.client.get(f"/v1/projects/{name}/usage", params={"limit": 100}) for name in SHARES]
        return {item["job"]: item["gpu_seconds"] for page in pages for item in page.json()["items"]}

    def replay(self) -> FairShareReplay:
        """Replay what Kueue did; jobs that were queued in one second are in the order of their uids."""
        order = sorted(self.history.order, key=self.history.order.__getitem__)
        numbers, replay = {job: number for number, job in enumerate(order)}, FairShareReplay(SHARES)
        for event in self.history.events:
            number = numbers[event.job]
            if event.verb == "queue":
                replay.submit(ShareJob(number, self.projects[event.job]))
            elif event.verb == "reserve":
                replay.admit(number)
            else:
                replay.release(number, requeue=event.verb == "requeue")
        assert not replay.running
        assert not replay.waiting
        return replay


@pytest.fixture
def control_plane_with_jobs(operator: OperatorProcess, ray_heads: None, tmp_path: Path) -> Iterator[ControlPlane]:
    cluster, client = operator.cluster, operator.client
    apply(cluster, guide("pools.yaml"))
    for name, share in SHARES.items():
        limit = {} if share.borrowing_limit is None else {"borrowingLimit": share.borrowing_limit}
        quota = {"pool": "a100", "nominal": share.nominal, **limit}
        client.create(desired(PROJECT, name, {"cohort": "lab", "quotas": [quota]}), manager="test")
    for name in SHARES:
        wait_for_reason(client, project(name), "Reconciled")
    clock, marks = RealClock(), tmp_path / "marks"
    marks.mkdir()
    informers = InformerClusterView(control_plane_client(cluster), clock)
    pipelines = RayJobPipelines(cluster, marks)
    harness = ControlPlaneHarness(tmp_path, clock, pipelines, cluster=RealView(informers), trains=True)
    lifetimes, history = RayJobLifetimes(client), WorkloadHistory(client)
    informers.start()
    try:
        with harness.client, lifetimes.watch, history.watch:
            eventually(lambda: _is_readable(informers), "the cluster has been read")
            harness.cluster_sync.step()
            harness.create_base_model()
            for name in SHARES:
                harness.create_dataset(name)
            yield ControlPlane(harness, pipelines, lifetimes, history)
            assert [*lifetimes.watch.problems, *history.watch.problems] == []
    finally:
        informers.stop()
        harness.close()


def _is_readable(informers: InformerClusterView) -> bool:
    try:
        informers.observe()
    except UnavailableError:
        return False
    return True


def test_jobs_run_in_fair_share_order_and_their_gpu_time_is_that_of_their_ray_jobs(
    control_plane_with_jobs: ControlPlane,
) -> None:
    control = control_plane_with_jobs
    control.submit(*FIRST)
    control.until(control.pipelines.first_train, "the first jobs have borrowed all GPUs and train", 120)
    control.pipelines.first_seconds = TRAINING_SECONDS
    control.submit(*JOBS)
    control.until(control.succeeded, "all jobs succeed", 600)

    replay = control.replay()
    assert replay.violations == []
    assert replay.most_used["vision"] == 1, "its borrowing limit"
    assert Counter(control.history.evictions) == {"Preempted": len(FIRST)}, "the owners reclaim each GPU once"
    finished = [control.projects[job] for job in control.lifetimes.finished]
    with_search = Counter(finished[: len(finished) - finished[::-1].index("search")])
    assert with_search["search"] == 10
    assert all(abs(with_search[name] - 5) <= 2 for name in ("ranking", "speech")), with_search
    assert with_search["vision"] + with_search["guests"] <= 2, with_search

    ledger = control.ledger()
    lifetimes = {job: control.lifetimes.seconds(job) for job in ledger}
    assert len(ledger) == len(FIRST) + len(JOBS) == 50
    assert sum(ledger.values()) == pytest.approx(sum(lifetimes.values()), rel=0.02), (ledger, lifetimes)
