"""Admission of the mode: what the scheduler (embedded) or Kueue (cluster) does with a job, and why it waits."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from windlass.domain.admission import GpuRequest, demand_of
from windlass.domain.jobs import UNFINISHED_STATES, Job, JobState
from windlass.domain.projects import Project
from windlass.domain.quota import PoolState, QueueDecision, Quota, ResourceDemand, Simulation, Snapshot, simulate
from windlass.ports import ReadUnitOfWork
from windlass.services.admission_queue import AdmissionQueue, pool_state, read_snapshot

ADMISSION_LOCK = "admission"
"""Lock of the transactions that queue, admit and cancel jobs: each advances the sequence of the scheduler's inputs."""


def _synced_limits(uow: ReadUnitOfWork) -> Snapshot:
    """Read the synced queues of a cluster.

    Pools have no capacity and no limit per job, since Kueue has neither. A project without a queue is in the cohort of
    the queues of its cohort's other projects.
    """
    pools, quotas, projects = uow.pools.all(), uow.queue_quotas.all(), uow.cohorts()
    cohorts = {quota.project: quota.cohort for quota in quotas}
    queue_cohorts: dict[str | None, str | None] = {
        cohort: cohorts[name] for name, cohort in projects.items() if name in cohorts
    }
    without_queue = {
        name: queue_cohorts.get(cohort, cohort) for name, cohort in projects.items() if name not in cohorts
    }
    return Snapshot(
        pools=tuple(PoolState(name=pool.name, capacity=None, allocatable=pool.allocatable) for pool in pools),
        quotas=tuple(Quota(**quota.model_dump(exclude={"cohort"})) for quota in quotas),
        cohorts=cohorts | without_queue,
    )


def _synced_snapshot(uow: ReadUnitOfWork) -> Snapshot:
    """Read the synced queues and workloads."""
    demands = tuple(ResourceDemand(**demand.model_dump(exclude={"reason"})) for demand in uow.demands.all())
    return _synced_limits(uow).model_copy(update={"demands": demands})


def _no_decisions(uow: ReadUnitOfWork, jobs: Collection[str]) -> Mapping[str, QueueDecision]:
    del uow, jobs
    return {}


def _count_unfinished_jobs(uow: ReadUnitOfWork, project: str) -> int:
    return uow.project(project).jobs.count({"state": UNFINISHED_STATES})


def _unchanged(priority: int) -> int:
    return priority


@dataclass(frozen=True)
class Admission:
    """The admission policy of the mode. ``embedded`` and ``cluster`` create it."""

    snapshot: Callable[[ReadUnitOfWork], Snapshot]
    """Pools, quotas and all demands as the transaction sees them; reads every unfinished job."""
    limits: Callable[[ReadUnitOfWork], Snapshot]
    """Pools, quotas and cohorts; call it before the transaction changes any."""
    decisions: Callable[[ReadUnitOfWork, Collection[str]], Mapping[str, QueueDecision]]
    """Why jobs wait, by id."""
    unfinished_jobs: Callable[[ReadUnitOfWork, str], int]
    """The number of unfinished jobs of a project."""
    priority: Callable[[int], int]
    """Maps the priority of a job."""

    @classmethod
    def embedded(cls, queue: AdmissionQueue) -> "Admission":
        """Return the admission of the embedded mode, where the platform admits jobs."""
        return cls(read_snapshot, queue.limits, queue.explain, queue.unfinished_jobs, _unchanged)

    @classmethod
    def cluster(cls, priority: Callable[[int], int] = _unchanged) -> "Admission":
        """Return the admission of the cluster mode, where Kueue admits jobs and the platform predicts it."""
        return cls(_synced_snapshot, _synced_limits, _no_decisions, _count_unfinished_jobs, priority)

    def simulate(self, uow: ReadUnitOfWork, job: Job, project: Project) -> Simulation:
        """Simulate a job without a run. The pool's current limit per job applies to it."""
        return self._simulate(uow, self.snapshot(uow), job, project)

    def check(self, uow: ReadUnitOfWork, job: Job, project: Project) -> Simulation:
        """Return ``never`` for a job that can never start. Other jobs are ignored, so the cost does not depend on them.

        Whether a job can ever start depends on pools and quotas only.
        """
        return self._simulate(uow, self.limits(uow), job, project)

    def with_reasons(self, uow: ReadUnitOfWork, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs; a queued one with its place in the queue and the reason why it waits."""
        decisions = self.decisions(uow, [job.id for job in jobs if job.state is JobState.QUEUED])
        return [
            job.model_copy(update={"reason": decisions[job.id].reason}) if job.id in decisions else job for job in jobs
        ]

    def _simulate(self, uow: ReadUnitOfWork, snapshot: Snapshot, job: Job, project: Project) -> Simulation:
        request = GpuRequest.of_job(job)
        demand = demand_of(request, project, None) if request is not None else None
        if demand is None:
            raise ValueError(f"job {job.id} is {job.state}: only a queued job can be simulated")
        demand = demand.model_copy(update={"priority": self.priority(demand.priority)})
        pool = uow.pools.find({"name": demand.pool})
        if pool is not None and pool.max_gpus_per_job is not None and demand.gpus > pool.max_gpus_per_job:
            snapshot = snapshot.model_copy(update={"pools": (pool_state(pool),), "demands": ()})
        return simulate(snapshot, demand)
