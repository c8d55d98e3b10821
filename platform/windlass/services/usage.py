"""What jobs have used: seconds of admitted GPUs, from the lives of their runs."""

from dataclasses import dataclass

from windlass.domain.jobs import Fact
from windlass.services.backing import ProjectUseCases


class UsageLine(Fact):
    """One job's use; ``cost`` is in the pool's currency unit, at its price of today."""

    job: str
    pool: str
    gpu_seconds: float
    cost: float
    outcome: str


@dataclass(frozen=True)
class Usage(ProjectUseCases):
    """The project's use."""

    def page(self, limit: int, after: str | None) -> list[UsageLine]:
        """List jobs with what they used, newest first; a run counts from its admission to its end, or to now."""
        now = self.backing.clock.now()
        with self.backing.database.read() as work:
            inside = work.of(self.project)
            jobs = inside.jobs.page(limit, after, newest_first=True)
            runs = inside.runs.all(job=[job.id for job in jobs])
            prices = {pool.name: pool.price_per_gpu_hour for pool in work.pools.all()}
        lines = []
        for job in jobs:
            wanted = job.spec.resources
            seconds = sum(((run.ended_at or now) - run.created_at).total_seconds() for run in runs if run.job == job.id)
            used = seconds * wanted.gpus
            cost = used / 3600 * prices.get(wanted.pool, 0.0)
            lines.append(UsageLine(job=job.id, pool=wanted.pool, gpu_seconds=used, cost=cost, outcome=job.state.value))
        return lines
