"""Jobs as a client hands them out: the wire model, and what can be done with it."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from pydantic import PrivateAttr

from windlass.sdk._bind import (
    AsyncResource,
    Resource,
    async_call,
    async_listing,
    async_streaming,
    call,
    listing,
    streaming,
)
from windlass.sdk._core import Flow, Scope
from windlass.sdk.resources import jobs as operations
from windlass.sdk.resources.jobs import LogChunk, Message
from windlass.wire.jobs import JobDetailOut, JobOut, MetricsOut

P = ParamSpec("P")


class Job(JobOut):
    """A job, with the client that it came from."""

    _jobs: "Jobs" = PrivateAttr()

    def attached(self, jobs: "Jobs") -> Self:
        """Return it with the client that its methods use."""
        self._jobs = jobs
        return self

    def refresh(self) -> "JobDetail":
        """Read it again."""
        return self._jobs.get(self.id)

    def wait(self, timeout: float | None = None) -> "JobDetail":
        """Return it when it has ended; see ``Jobs.wait``."""
        return self._jobs.wait(self.id, timeout=timeout)

    def stream(self, *, after: int = 0, timeout: float | None = None) -> Iterator[Message]:
        """Follow it until it ends; see ``Jobs.stream``."""
        return self._jobs.stream(self.id, after=after, timeout=timeout)

    def logs(self, *, offset: int = 0) -> Iterator[LogChunk]:
        """Follow its log until it is complete."""
        return self._jobs.follow_log(self.id, offset=offset)

    def metrics(self) -> MetricsOut:
        """Read its series."""
        return self._jobs.metrics(self.id)

    def cancel(self) -> "Job":
        """Ask it to stop."""
        return self._jobs.cancel(self.id)

    def retry(self) -> "Job":
        """Submit a new job like it."""
        return self._jobs.retry(self.id)


class JobDetail(Job, JobDetailOut):
    """A job with its runs and attempts."""


class AsyncJob(JobOut):
    """A job, with the asynchronous client that it came from."""

    _jobs: "AsyncJobs" = PrivateAttr()

    def attached(self, jobs: "AsyncJobs") -> Self:
        """Return it with the client that its methods use."""
        self._jobs = jobs
        return self

    async def refresh(self) -> "AsyncJobDetail":
        """Read it again."""
        return await self._jobs.get(self.id)

    async def wait(self, timeout: float | None = None) -> "AsyncJobDetail":  # noqa: ASYNC109 - ends a stream, not a task
        """Return it when it has ended; see ``AsyncJobs.wait``."""
        return await self._jobs.wait(self.id, timeout=timeout)

    def stream(self, *, after: int = 0, timeout: float | None = None) -> AsyncIterator[Message]:
        """Follow it until it ends; see ``AsyncJobs.stream``."""
        return self._jobs.stream(self.id, after=after, timeout=timeout)

    def logs(self, *, offset: int = 0) -> AsyncIterator[LogChunk]:
        """Follow its log until it is complete."""
        return self._jobs.follow_log(self.id, offset=offset)

    async def metrics(self) -> MetricsOut:
        """Read its series."""
        return await self._jobs.metrics(self.id)

    async def cancel(self) -> "AsyncJob":
        """Ask it to stop."""
        return await self._jobs.cancel(self.id)

    async def retry(self) -> "AsyncJob":
        """Submit a new job like it."""
        return await self._jobs.retry(self.id)


class AsyncJobDetail(AsyncJob, JobDetailOut):
    """A job with its runs and attempts."""


J = TypeVar("J", bound=Job)
A = TypeVar("A", bound=AsyncJob)


def _call(
    operation: "Callable[Concatenate[Scope, P], Flow[JobOut]] | Callable[Concatenate[Scope, P], Flow[JobDetailOut]]",
    kind: type[J],
) -> "Callable[Concatenate[Jobs, P], J]":
    @wraps(operation)
    def method(self: "Jobs", /, *args: P.args, **kwargs: P.kwargs) -> J:
        out = self._transport.run(operation(self._scope, *args, **kwargs))
        return kind(**dict(out)).attached(self)

    return method


def _async_call(
    operation: "Callable[Concatenate[Scope, P], Flow[JobOut]] | Callable[Concatenate[Scope, P], Flow[JobDetailOut]]",
    kind: type[A],
) -> "Callable[Concatenate[AsyncJobs, P], Coroutine[Any, Any, A]]":
    @wraps(operation)
    async def method(self: "AsyncJobs", /, *args: P.args, **kwargs: P.kwargs) -> A:
        out = await self._transport.run(operation(self._scope, *args, **kwargs))
        return kind(**dict(out)).attached(self)

    return method


class Jobs(Resource):
    """Fine-tuning jobs of the project."""

    create = _call(operations.create_job, Job)
    get = _call(operations.get_job, JobDetail)
    cancel = _call(operations.cancel_job, Job)
    retry = _call(operations.retry_job, Job)
    simulate = call(operations.simulate_job)
    events = listing(operations.list_events)
    metrics = call(operations.get_metrics)
    checkpoints = listing(operations.list_checkpoints)
    log = call(operations.read_log)
    follow_log = streaming(operations.follow_log)
    stream = streaming(operations.stream_job)
    _list = listing(operations.list_jobs)

    def list(self, *, state: str | None = None) -> Iterator[Job]:
        """Iterate over the project's jobs."""
        return (Job(**dict(out)).attached(self) for out in self._list(state=state))

    def wait(self, job: str, *, timeout: float | None = None, after: int = 0) -> JobDetail:
        """Return the job when it has ended, well or badly: see ``state`` and ``reason``.

        Raises:
            WaitTimeoutError: after ``timeout`` seconds; the job goes on.
        """
        for _ in self.stream(job, after=after, timeout=timeout):
            pass
        return self.get(job)


class AsyncJobs(AsyncResource):
    """Fine-tuning jobs of the project."""

    create = _async_call(operations.create_job, AsyncJob)
    get = _async_call(operations.get_job, AsyncJobDetail)
    cancel = _async_call(operations.cancel_job, AsyncJob)
    retry = _async_call(operations.retry_job, AsyncJob)
    simulate = async_call(operations.simulate_job)
    events = async_listing(operations.list_events)
    metrics = async_call(operations.get_metrics)
    checkpoints = async_listing(operations.list_checkpoints)
    log = async_call(operations.read_log)
    follow_log = async_streaming(operations.follow_log)
    stream = async_streaming(operations.stream_job)
    _list = async_listing(operations.list_jobs)

    async def list(self, *, state: str | None = None) -> AsyncIterator[AsyncJob]:
        """Iterate over the project's jobs."""
        async for out in self._list(state=state):
            yield AsyncJob(**dict(out)).attached(self)

    async def wait(self, job: str, *, timeout: float | None = None, after: int = 0) -> AsyncJobDetail:  # noqa: ASYNC109 - ends a stream, not a task
        """Return the job when it has ended, well or badly: see ``state`` and ``reason``.

        Raises:
            WaitTimeoutError: after ``timeout`` seconds; the job goes on.
        """
        async for _ in self.stream(job, after=after, timeout=timeout):
            pass
        return await self.get(job)
