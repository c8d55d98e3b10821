"""The GPU time of jobs: how long each job held GPUs of its project's quota. No I/O."""

from datetime import datetime
from typing import Self

from windlass.domain.jobs import DomainModel, Job, Run


class GpuReservation(DomainModel):
    """GPUs that a job held of its project's quota, from the admission until the quota was free for others."""

    project: str
    job: str
    holder: str
    """What held them: the uid of a Workload in a cluster, else the id of a run."""
    pool: str
    gpus: int
    reserved_at: datetime
    released_at: datetime | None = None
    """None: the job still holds them."""

    @classmethod
    def of_run(cls, run: Run, job: Job) -> Self:
        """Return the reservation of a run that was created when its job was admitted."""
        resources = job.spec.resources
        return cls(
            project=run.project,
            job=run.job,
            holder=run.id,
            pool=resources.pool,
            gpus=resources.gpus,
            reserved_at=run.created_at,
            released_at=run.ended_at,
        )

    def gpu_seconds(self, now: datetime) -> float:
        """Return its GPU time, until ``now`` if it still holds the GPUs."""
        return max(0.0, ((self.released_at or now) - self.reserved_at).total_seconds()) * self.gpus
