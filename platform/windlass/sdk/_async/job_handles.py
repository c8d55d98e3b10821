"""Job objects returned by the client: the wire model with methods."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Self

from pydantic import PrivateAttr

from windlass.sdk.job_messages import LogChunk, Message
from windlass.wire.jobs import JobDetailOut, JobOut, MetricsOut

if TYPE_CHECKING:
    from windlass.sdk._async.jobs import AsyncJobs


class AsyncJob(JobOut):
    """A job bound to its client."""

    _jobs: "AsyncJobs" = PrivateAttr()

    def bind(self, jobs: "AsyncJobs") -> Self:
        """Set the client that the methods use and return the job."""
        self._jobs = jobs
        return self

    async def refresh(self) -> "AsyncJobDetail":
        """Get the current job."""
        return await self._jobs.get(self.id)

    async def wait(self, timeout: float | None = None) -> "AsyncJobDetail":
        """Wait until the job has ended; see ``AsyncJobs.wait``."""
        return await self._jobs.wait(self.id, timeout=timeout)

    def stream(self, *, after: int = 0, timeout: float | None = None) -> AsyncIterator[Message]:
        """Stream events, metrics and states until the job ends; see ``AsyncJobs.stream``."""
        return self._jobs.stream(self.id, after=after, timeout=timeout)

    def logs(self, *, offset: int = 0) -> AsyncIterator[LogChunk]:
        """Stream the log until it is complete."""
        return self._jobs.follow_log(self.id, offset=offset)

    async def metrics(self) -> MetricsOut:
        """Get the metrics."""
        return await self._jobs.metrics(self.id)

    async def cancel(self) -> "AsyncJob":
        """Cancel the job."""
        return await self._jobs.cancel(self.id)

    async def retry(self) -> "AsyncJob":
        """Submit a new job with the same spec."""
        return await self._jobs.retry(self.id)


class AsyncJobDetail(AsyncJob, JobDetailOut):
    """A job with its runs and attempts."""
