"""Metrics of what transactions have committed: queue waits, and GPU time and lost leases of attempts."""

from collections.abc import Callable

from windlass.domain.jobs import Attempt, AttemptState, Job
from windlass.domain.projects import QueueTimeSample
from windlass.ports import Changes, UnitOfWork
from windlass_api.metrics import GPU_SECONDS, LOST_LEASES, QUEUE_WAIT


class CommittedMetrics:
    """Implements ``ports.CommitHook``. A transaction that is rolled back, or repeated, counts nothing."""

    def prepare(self, uow: UnitOfWork, changes: Changes) -> Callable[[], None] | None:
        """Return what updates the metrics after the commit."""
        waits = [sample for sample in changes.saved.get(QueueTimeSample, ()) if isinstance(sample, QueueTimeSample)]
        attempts = [each for each in changes.saved.get(Attempt, ()) if isinstance(each, Attempt) and each.ended_at]
        if not waits and not attempts:
            return None
        ended = [(each, uow.project(each.project).jobs.get({"id": each.job})) for each in attempts]

        def update() -> None:
            for sample in waits:
                QUEUE_WAIT.labels(sample.pool).observe(sample.seconds)
            for attempt, job in ended:
                _count_attempt(attempt, job)

        return update


def _count_attempt(attempt: Attempt, job: Job) -> None:
    if attempt.ended_at is None:
        return
    resources = job.spec.resources
    seconds = max(0.0, (attempt.ended_at - attempt.acquired_at).total_seconds())
    GPU_SECONDS.labels(resources.pool, attempt.state.value).inc(seconds * resources.gpus)
    if attempt.state is AttemptState.LOST:
        LOST_LEASES.labels("attempt").inc()
