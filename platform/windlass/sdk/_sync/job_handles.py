# Generated from _async/job_handles.py by docs/generate_sync_sdk.py; do not edit.
"""Job objects returned by the client: the wire model with methods."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from pydantic import PrivateAttr

from windlass.sdk.job_messages import LogChunk, Message
from windlass.wire.jobs import JobDetailOut, JobOut, MetricsOut

if TYPE_CHECKING:
    from windlass.sdk._sync.jobs import Jobs


class Job(JobOut):
    """A job bound to its client."""

    _jobs: "Jobs" = PrivateAttr()

    def bind(self, jobs: "Jobs") -> Self:
        """Set the client that the methods use and return the job."""
        self._jobs = jobs
        return self

    def refresh(self) -> "JobDetail":
        """Get the current job."""
        return self._jobs.get(self.id)

    def wait(self, timeout: float | None = None) -> "JobDetail":
        """Wait until the job has ended; see ``Jobs.wait``."""
        return self._jobs.wait(self.id, timeout=timeout)

    def stream(self, *, after: int = 0, timeout: float | None = None) -> Iterator[Message]:
        """Stream events, metrics and states until the job ends; see ``Jobs.stream``."""
        return self._jobs.stream(self.id, after=after, timeout=timeout)

    def logs(self, *, offset: int = 0) -> Iterator[LogChunk]:
        """Stream the log until it is complete."""
        return self._jobs.follow_log(self.id, offset=offset)

    def metrics(self) -> MetricsOut:
        """Get the metrics."""
        return self._jobs.metrics(self.id)

    def cancel(self) -> "Job":
        """Cancel the job."""
        return self._jobs.cancel(self.id)

    def retry(self) -> "Job":
        """Submit a new job with the same spec."""
        return self._jobs.retry(self.id)


class JobDetail(Job, JobDetailOut):
    """A job with its runs and attempts."""
