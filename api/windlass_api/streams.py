"""Server-sent events: live streams of a job's events, metrics and state, and of its log.

The database is polled twice a second in a worker thread; the streams of one job share the reads. Clients resume with
Last-Event-ID: the id of an event is its sequence number, the id of a log chunk is the next byte offset. A stream ends
without the event ``end`` after an hour, when the server stops, or when its reader has lost access; clients resume, or
get the error.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from windlass.domain.errors import WindlassError
from windlass.services.jobs import Jobs, JobUpdate, MetricsCursor
from windlass_api.concurrency import release_slot
from windlass_api.mapping import job_out
from windlass_api.stream_hub import StreamCaller, StreamHub

_POLL_SECONDS = 0.5
_HEARTBEAT_SECONDS = 15.0
_ACCESS_SECONDS = 15.0
_MAX_SECONDS = 3600.0
_CHUNK_BYTES = 1 << 16


def frame(event: str, data: str, event_id: str | None = None) -> str:
    """Return one server-sent event; each line of ``data`` becomes a data field."""
    head = f"event: {event}\n" + (f"id: {event_id}\n" if event_id is not None else "")
    return head + "".join(f"data: {line}\n" for line in data.split("\n")) + "\n"


class EventStreamResponse(StreamingResponse):
    """A stream of server-sent events; it counts against the limits of its key and project while it is open."""

    def __init__(self, hub: StreamHub, caller: StreamCaller, frames: AsyncIterator[str]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_limited(hub, caller, frames), media_type="text/event-stream", headers=headers)
        self._hub, self._caller = hub, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream.

        Raises:
            TooManyRequestsError: the key or the project has too many streams.
        """
        with self._hub.stream(self._caller):
            release_slot(scope)
            await super().__call__(scope, receive, send)


async def _limited(hub: StreamHub, caller: StreamCaller, frames: AsyncIterator[str]) -> AsyncGenerator[str]:
    """Yield the frames, and comments while there are none, for an hour at most, while the caller has access.

    An empty frame stands for a poll without a result.
    """
    started_at = sent_at = checked_at = time.monotonic()
    async for text in frames:
        now = time.monotonic()
        if hub.closed or now - started_at > _MAX_SECONDS:
            return
        if now - checked_at > _ACCESS_SECONDS:
            checked_at = now
            try:
                await hub.require_access(caller, _ACCESS_SECONDS)
            except WindlassError:
                return  # the client connects again and gets the error
        if text or now - sent_at > _HEARTBEAT_SECONDS:
            sent_at = now
            yield text or ": keep-alive\n\n"


def stream_job(hub: StreamHub, caller: StreamCaller, jobs: Jobs, job_id: str, after: int) -> EventStreamResponse:
    """Stream a job's events after a sequence number, metrics and states until the job has ended."""
    return EventStreamResponse(hub, caller, job_frames(hub, caller.project_name, jobs, job_id, after))


@dataclass
class StreamCursor:
    """Position of a client in a job's stream."""

    sequence: int
    metrics: MetricsCursor = field(default_factory=MetricsCursor)
    points: set[tuple[str, int, int]] = field(default_factory=set)
    """Name, step and attempt of the points sent at or after the step of ``metrics``."""
    state: Any = None

    def advance(self, project: str, update: JobUpdate) -> list[str]:
        """Return the frames of an update and advance; the last frame is ``end`` if the job has ended."""
        frames, job = [], update.job
        for event in update.events:
            self.sequence = event.sequence
            body = event.model_dump(mode="json", exclude={"project", "job"})
            frames.append(frame("event", json.dumps(body), str(event.sequence)))
        points = [
            (series.name, step, attempt, value)
            for series in update.series
            for step, attempt, value in zip(series.steps, series.attempts, series.values, strict=True)
        ]
        for name, at, attempt, value in points:
            if (name, at, attempt) not in self.points:
                frames.append(frame("metric", json.dumps({"name": name, "step": at, "value": value})))
        step = max([update.cursor.step, *(at for _, at, _, _ in points)])
        self.metrics = replace(update.cursor, step=step)
        self.points = {(name, at, attempt) for name, at, attempt, _ in points if at >= step}
        state = (job.state, job.reason, job.steps_done)
        if state != self.state:
            self.state = state
            frames.append(frame("state", job_out(project, job).model_dump_json()))
        if update.finished and not update.events:
            frames.append(frame("end", job_out(project, job).model_dump_json()))
        return frames


async def job_frames(hub: StreamHub, project: str, jobs: Jobs, job_id: str, sequence: int) -> AsyncIterator[str]:
    """Yield the frames of a job's stream, and an empty frame for a poll without a result."""
    cursor = StreamCursor(sequence)
    while True:
        read = partial(jobs.poll_updates, job_id, cursor.sequence, cursor.metrics)
        key = ("updates", jobs.project, job_id, cursor.sequence, cursor.metrics)
        frames = cursor.advance(project, await hub.reads.read(key, _POLL_SECONDS, read))
        for text in frames or [""]:
            yield text
        if frames and frames[-1].startswith("event: end"):
            return
        await asyncio.sleep(_POLL_SECONDS)


def stream_log(hub: StreamHub, caller: StreamCaller, jobs: Jobs, job_id: str, offset: int) -> EventStreamResponse:
    """Stream a job's log from a byte offset until the job has ended and the log is complete."""
    return EventStreamResponse(hub, caller, log_frames(hub, jobs, job_id, offset))


async def log_frames(hub: StreamHub, jobs: Jobs, job_id: str, offset: int) -> AsyncIterator[str]:
    """Yield the frames of a log's stream, and an empty frame for a poll without a result."""
    while True:
        read = partial(jobs.log, job_id, offset, _CHUNK_BYTES)
        text, offset, ended = await hub.reads.read(("log", jobs.project, job_id, offset), _POLL_SECONDS, read)
        if text:
            yield frame("log", text.decode("utf-8", "replace"), str(offset))
        elif ended:
            yield frame("end", "", str(offset))
            return
        else:
            yield ""
            await asyncio.sleep(_POLL_SECONDS)
