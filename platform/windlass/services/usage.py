"""GPU usage of jobs: seconds of GPUs that they held of their project's quota."""

from dataclasses import dataclass

from windlass.domain.jobs import DomainModel
from windlass.services.base import ProjectService


class JobUsage(DomainModel):
    """One job's usage; ``cost`` uses the pool's current price."""

    job: str
    pool: str
    gpu_seconds: float
    cost: float
    outcome: str


@dataclass(frozen=True)
class Usage(ProjectService):
    """The GPU usage of one project."""

    def page(self, limit: int, after: str | None) -> list[JobUsage]:
        """List the usage of jobs, newest first. A reservation counts from the admission to the release, or to now."""
        now = self.deps.clock.now()
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            jobs = repos.jobs.page(limit, after, newest_first=True)
            reservations = self.deps.admission.reservations(repos, jobs)
            prices = {pool.name: pool.price_per_gpu_hour for pool in uow.pools.all()}
        used = dict.fromkeys((job.id for job in jobs), 0.0)
        for reservation in reservations:
            used[reservation.job] += reservation.gpu_seconds(now)
        return [
            JobUsage(
                job=job.id,
                pool=job.spec.resources.pool,
                gpu_seconds=used[job.id],
                cost=used[job.id] / 3600 * prices.get(job.spec.resources.pool, 0.0),
                outcome=job.state.value,
            )
            for job in jobs
        ]
