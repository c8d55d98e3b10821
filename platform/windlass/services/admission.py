"""The bridge between what is stored and ``domain.quota``: one snapshot of pools, quotas and claims."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from windlass.domain.jobs import Job, JobState, Run
from windlass.domain.projects import Pool, Project
from windlass.domain.quota import Claim, PoolState, Quota, Simulation, Snapshot, simulate
from windlass.ports import UnitOfWork

HOLDING = (JobState.STARTING, JobState.RUNNING, JobState.CANCELLING)
"""States in which a job may hold GPUs; it does while it has a run that has not ended."""


def pool_state(pool: Pool) -> PoolState:
    """Return a stored pool as the scheduler sees it."""
    unit = "GPU" if pool.gpu_type else "CPU slot"
    return PoolState(name=pool.name, capacity=pool.capacity, max_gpus_per_job=pool.max_gpus_per_job, unit=unit)


def claim_of(job: Job, project: Project, run: Run | None) -> Claim:
    """Return what a job wants or holds, under its project's name; a ceiling that was lowered holds for it too."""
    return Claim(
        job=job.id,
        project=project.name,
        pool=job.spec.resources.pool,
        gpus=job.spec.resources.gpus,
        priority=min(job.spec.priority, project.priority_ceiling),
        queued_at=job.queued_at or job.created_at,
        admitted_at=run.created_at if run else None,
        leaving=run is not None and run.stop is not None,
    )


def take_snapshot(work: UnitOfWork) -> Snapshot:
    """Read pools, quotas and every job that waits for or holds GPUs: where this house itself admits jobs."""
    projects = {project.id: project for project in work.projects.all()}
    everywhere = work.everywhere()
    jobs = everywhere.jobs.all(state=(JobState.QUEUED, *HOLDING))
    runs = live_runs(everywhere.runs.all(job=[job.id for job in jobs], ended_at=None))
    claims = [
        claim_of(job, projects[job.project], runs.get(job.id))
        for job in jobs
        if job.state is JobState.QUEUED or job.id in runs
    ]
    return Snapshot(
        pools=tuple(pool_state(pool) for pool in work.pools.all()),
        quotas=tuple(
            Quota(
                project=projects[quota.project].name,
                pool=quota.pool,
                nominal=quota.nominal,
                borrowing_limit=quota.borrowing_limit,
                lending_limit=quota.lending_limit,
            )
            for quota in everywhere.quotas.all()
        ),
        cohorts={project.name: project.cohort for project in projects.values()},
        claims=tuple(claims),
    )


def mirrored_snapshot(work: UnitOfWork) -> Snapshot:
    """Read what the mirror keeps of a cluster's queues and workloads: where Kueue admits, and this house predicts.

    Pools have neither capacity nor a limit for one job here, since Kueue knows none. A project whose first queue is
    still to come is in the cohort of its mates' queues.
    """
    pools, quotas, projects = work.pools.all(), work.queue_quotas.all(), work.projects.all()
    cohorts = {one.project: one.cohort for one in quotas}
    called: dict[str | None, str | None] = {one.cohort: cohorts[one.name] for one in projects if one.name in cohorts}
    joining = {one.name: called.get(one.cohort, one.cohort) for one in projects if one.name not in cohorts}
    return Snapshot(
        pools=tuple(PoolState(name=one.name, capacity=None) for one in pools),
        quotas=tuple(Quota(**one.model_dump(exclude={"cohort"})) for one in quotas),
        cohorts=cohorts | joining,
        claims=tuple(Claim(**one.model_dump(exclude={"reason"})) for one in work.claims.all()),
    )


def _same(priority: int) -> int:
    return priority


@dataclass(frozen=True)
class Admission:
    """What decides which jobs get GPUs: what it knows now, and the priority that a job has in its eyes."""

    snapshot: Callable[[UnitOfWork], Snapshot] = take_snapshot
    priority: Callable[[int], int] = _same

    def simulate(self, work: UnitOfWork, job: Job, project: Project) -> Simulation:
        """Tell what becomes of a job that has no run. A pool's limit for one job holds for whoever comes now."""
        claim = claim_of(job, project, None)
        claim = claim.model_copy(update={"priority": self.priority(claim.priority)})
        snapshot, pool = self.snapshot(work), work.pools.find(name=claim.pool)
        if pool is not None and pool.max_gpus_per_job is not None and claim.gpus > pool.max_gpus_per_job:
            alone = {"pools": (pool_state(pool),), "claims": ()}
            snapshot = snapshot.model_copy(update=alone)
        return simulate(snapshot, claim)


def live_runs(runs: Iterable[Run]) -> dict[str, Run]:
    """Return the run of each job that has not ended."""
    return {run.job: run for run in runs if not run.state.ended}
