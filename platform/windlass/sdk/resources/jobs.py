"""Fine-tuning jobs: submit, watch, stop; what they tell."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from windlass.domain.errors import UnavailableError
from windlass.domain.specs import JobSpec
from windlass.sdk._core import Flow, Listing, Request, Scope, built, get, listed, pairs, post
from windlass.sdk._core import call as ask
from windlass.sdk._streams import Sse, Subscription
from windlass.wire.jobs import (
    CheckpointOut,
    EventOut,
    JobDetailOut,
    JobIn,
    JobOut,
    MetricsOut,
    SimulationOut,
)

Spec = JobSpec | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One point of a job's series, as it comes in."""

    name: str
    step: int
    value: float | None


Message = EventOut | MetricPoint | JobOut
"""What ``stream`` yields: a typed event, a metric point, or the job after a change of state."""


_POINT = TypeAdapter(MetricPoint)


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of the log; ``next_offset`` is where the next one begins; ``end`` when the log is complete."""

    text: str
    next_offset: int
    end: bool


def create_job(scope: Scope, spec: Spec, *, idempotency_key: str | None = None) -> Flow[JobOut]:
    """Submit a job. The same key gives the same job, however often it is sent; without one, a fresh key is made."""
    return post(scope.path("jobs"), JobOut, _body(spec), key=idempotency_key)


def simulate_job(scope: Scope, spec: Spec) -> Flow[SimulationOut]:
    """Ask whether a job would start now, wait, or never start; nothing is written."""
    return post(scope.path("jobs") + ":simulate", SimulationOut, _body(spec), keyed=False)


def list_jobs(scope: Scope, *, state: str | None = None) -> Listing[JobOut]:
    """Iterate over the project's jobs."""
    return listed(scope.path("jobs"), JobOut, {"state": state})


def get_job(scope: Scope, job: str) -> Flow[JobDetailOut]:
    """Read a job with its runs and attempts."""
    return get(scope.path("jobs", job), JobDetailOut)


def cancel_job(scope: Scope, job: str) -> Flow[JobOut]:
    """Ask a job to stop; cancelling one that has ended is a conflict."""
    return post(scope.path("jobs", job) + ":cancel", JobOut)


def retry_job(scope: Scope, job: str, *, idempotency_key: str | None = None) -> Flow[JobOut]:
    """Submit a new job like one that has ended."""
    return post(scope.path("jobs", job) + ":retry", JobOut, key=idempotency_key)


def list_events(scope: Scope, job: str) -> Listing[EventOut]:
    """Iterate over a job's events so far."""
    return listed(scope.path("jobs", job, "events"), EventOut)


def get_metrics(
    scope: Scope, job: str, *, after: int | None = None, names: Sequence[str] | None = None
) -> Flow[MetricsOut]:
    """Read a job's series; ``after`` a step, only of ``names``."""
    query = {"after": after, "names": ",".join(names) if names else None}
    return get(scope.path("jobs", job, "metrics"), MetricsOut, query)


def list_checkpoints(scope: Scope, job: str) -> Listing[CheckpointOut]:
    """Iterate over a job's committed checkpoints."""
    return listed(scope.path("jobs", job, "checkpoints"), CheckpointOut)


def read_log(scope: Scope, job: str, *, offset: int = 0, limit: int | None = None) -> Flow[LogChunk]:
    """Read a piece of a job's log from a byte offset."""
    query = pairs({"offset": offset, "limit": limit})
    return ask(
        Request("GET", scope.path("jobs", job, "logs"), query=query, headers={"Accept": "text/plain"}),
        lambda reply: LogChunk(
            reply.content.decode("utf-8", "replace"),
            int(reply.headers.get("windlass-next-offset", offset + len(reply.content))),
            reply.headers.get("windlass-log-end", "false") == "true",
        ),
    )


def stream_job(scope: Scope, job: str, *, after: int = 0, timeout: float | None = None) -> Subscription[Message]:
    """Follow a job from an event's sequence number until it ends, through cuts and restarts of the server.

    Raises:
        WaitTimeoutError: after ``timeout`` seconds; the job goes on.
    """
    return Subscription(
        request=Request("GET", scope.path("jobs", job, "events")),
        decode=_message,
        ends=lambda event: event.event == "end",
        last_id=str(after) if after else "",
        deadline=None if timeout is None else time.monotonic() + timeout,
        what=f"job {job}",
    )


def follow_log(scope: Scope, job: str, *, offset: int = 0) -> Subscription[LogChunk]:
    """Follow a job's log from a byte offset until it is complete, through cuts and restarts of the server."""
    return Subscription(
        request=Request("GET", scope.path("jobs", job, "logs")),
        decode=lambda event: LogChunk(event.data, int(event.id or 0), end=False),
        ends=lambda event: event.event == "end",
        last_id=str(offset),
        resume_query="offset",
        what=f"the log of {job}",
    )


def _body(spec: Spec) -> JobIn:
    return JobIn(spec=spec) if isinstance(spec, JobSpec) else built(JobIn, spec=dict(spec))


def _message(event: Sse) -> Message | None:
    try:
        if event.event == "event":
            return EventOut.model_validate_json(event.data)
        if event.event == "metric":
            return _POINT.validate_json(event.data)
        if event.event == "state":
            return JobOut.model_validate_json(event.data)
    except ValueError as error:
        raise UnavailableError(
            f"the stream carries a {event.event} that cannot be read", hint="check that client and server versions fit"
        ) from error
    return None
