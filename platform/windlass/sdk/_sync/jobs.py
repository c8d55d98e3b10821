# Generated from _async/jobs.py by docs/generate_sync_sdk.py; do not edit.
"""Fine-tuning jobs: submit, cancel, events, metrics, logs."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from windlass.domain.specs import JobSpec
from windlass.sdk._protocol import Request, query_params, validate_body
from windlass.sdk._streams import EventStream
from windlass.sdk._sync.job_handles import Job, JobDetail
from windlass.sdk._sync.pages import CursorPage
from windlass.sdk._sync.resource import Resource
from windlass.sdk.arguments import as_list
from windlass.sdk.job_messages import LogChunk, Message, decode_log_chunk, decode_message, is_end
from windlass.wire.base import DeletionOut, Page
from windlass.wire.jobs import (
    CheckpointOut,
    EventOut,
    JobIn,
    MetricPointOut,
    MetricsOut,
    SimulationOut,
)

T = TypeVar("T")


class Jobs(Resource):
    """Fine-tuning jobs of the project."""

    def create(self, spec: JobSpec | Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Submit a job. Requests with the same idempotency key return the same job; default: a random key."""
        job = self._post(self._path("jobs"), Job, _body(spec), key=idempotency_key)
        return job.bind(self)

    def simulate(self, spec: JobSpec | Mapping[str, Any]) -> SimulationOut:
        """Simulate a submission: whether the job would start now, wait, or never start. Nothing is stored."""
        return self._post(self._path("jobs") + ":simulate", SimulationOut, _body(spec), read_only=True)

    def list(self, *, state: str | None = None, match: str | None = None) -> CursorPage[Job]:
        """List the jobs, newest first; ``match``: the newest whose id begins with this, or whose name it is."""
        return self._list(self._path("jobs"), Job, {"state": state, "match": match})

    def get(self, job: str) -> JobDetail:
        """Get a job with its runs and attempts."""
        return (self._get(self._path("jobs", job), JobDetail)).bind(self)

    def cancel(self, job: str) -> Job:
        """Cancel a job; cancelling an ended job raises ``ConflictError``."""
        return (self._post(self._path("jobs", job) + ":cancel", Job)).bind(self)

    def retry(self, job: str, *, idempotency_key: str | None = None) -> Job:
        """Submit a new job with the spec of an ended job."""
        retried = self._post(self._path("jobs", job) + ":retry", Job, key=idempotency_key)
        return retried.bind(self)

    def delete(self, job: str, *, dry_run: bool = False) -> DeletionOut:
        """Delete an ended job with its events, metrics, log and files.

        ``dry_run`` only returns what that would remove.
        """
        query = {"dry_run": True if dry_run else None}
        return self._delete_with_result(self._path("jobs", job), DeletionOut, query)

    def events(self, job: str) -> CursorPage[EventOut]:
        """List the events recorded so far, oldest first."""
        return self._list(self._path("jobs", job, "events"), EventOut)

    def metrics(
        self,
        job: str,
        *,
        after: int | None = None,
        through: int | None = None,
        names: Sequence[str] | None = None,
        points: int | None = None,
    ) -> MetricsOut:
        """Get a job's metrics: of ``names`` (default: all) at steps greater than ``after``, through step ``through``.

        A series with more than ``points`` points (default: 2000) is downsampled; it keeps minima and maxima.
        """
        joined = None if names is None else ",".join(as_list("names", names))
        query = {"after": after, "through": through, "names": joined or None, "points": points}
        return self._get(self._path("jobs", job, "metrics"), MetricsOut, query)

    def metric_points(self, job: str, name: str) -> CursorPage[MetricPointOut]:
        """List every stored point of one metric, by step."""
        return self._list(self._path("jobs", job, "metrics", name), MetricPointOut)

    def checkpoints(self, job: str) -> CursorPage[CheckpointOut]:
        """List a job's committed checkpoints."""
        return self._list(self._path("jobs", job, "checkpoints"), CheckpointOut)

    def log(self, job: str, *, offset: int = 0, limit: int | None = None, tail: int | None = None) -> LogChunk:
        """Read a chunk of a job's log from a byte offset, or from the beginning of its last ``tail`` lines."""
        query = query_params({"offset": offset, "limit": limit, "tail": tail})
        url, headers = self._path("jobs", job, "logs"), {"Accept": "text/plain"}
        response = self._transport.send(Request("GET", url, query=query, headers=headers))
        return LogChunk(
            response.content.decode("utf-8", "replace"),
            int(response.headers.get("windlass-next-offset", offset + len(response.content))),
            response.headers.get("windlass-log-end", "false") == "true",
        )

    def follow_log(self, job: str, *, offset: int = 0) -> Iterator[LogChunk]:
        """Stream a job's log from a byte offset until it is complete; reconnects automatically."""
        stream = EventStream(
            request=Request("GET", self._path("jobs", job, "logs")),
            decode=decode_log_chunk,
            is_end=is_end,
            last_id=str(offset),
            resume_query="offset",
            description=f"the log of {job}",
        )
        return self._transport.stream(stream)

    def stream(self, job: str, *, after: int = 0, timeout: float | None = None) -> Iterator[Message]:
        """Stream a job's events after a sequence number, metrics and states until it ends; reconnects automatically.

        Raises:
            WaitTimeoutError: after ``timeout`` seconds; the job continues.
        """
        stream: EventStream[Message] = EventStream(
            request=Request("GET", self._path("jobs", job, "events")),
            decode=decode_message,
            is_end=is_end,
            last_id=str(after) if after else "",
            deadline=None if timeout is None else time.monotonic() + timeout,
            description=f"job {job}",
        )
        return self._transport.stream(stream)

    def wait(self, job: str, *, timeout: float | None = None, after: int = 0) -> JobDetail:
        """Wait until the job has ended and return it: see ``state`` and ``reason``.

        Raises:
            WaitTimeoutError: after ``timeout`` seconds; the job continues.
        """
        for _ in self.stream(job, after=after, timeout=timeout):
            pass
        return self.get(job)

    def _bind_items(self, page: Page[T]) -> Page[T]:
        for item in page.items:
            if isinstance(item, Job):
                item.bind(self)
        return page


def _body(spec: JobSpec | Mapping[str, Any]) -> JobIn:
    return JobIn(spec=spec) if isinstance(spec, JobSpec) else validate_body(JobIn, spec=dict(spec))
