"""Server-sent events: a job's facts as they come, and its log as it grows.

The database is asked twice a second, in a worker thread; a reader that comes back with Last-Event-ID goes on where it
stopped. Events carry their sequence number as id, log pieces the next byte offset.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from windlass.services.jobs import Glance, Jobs, MetricsTold
from windlass_api.mapping import job_out

_PAUSE_SECONDS = 0.5
_HEARTBEAT_SECONDS = 15.0
_PIECE = 1 << 16


def frame(event: str, data: str, identity: str | None = None) -> str:
    """Return one server-sent event; a line break in ``data`` becomes a second data line."""
    head = f"event: {event}\n" + (f"id: {identity}\n" if identity is not None else "")
    return head + "".join(f"data: {line}\n" for line in data.split("\n")) + "\n"


def _response(frames: AsyncIterator[str]) -> StreamingResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(frames, media_type="text/event-stream", headers=headers)


def follow_job(jobs: Jobs, project: str, job_id: str, after: int) -> StreamingResponse:
    """Stream a job's events beyond a number, metrics and states until it has ended and everything was said."""
    return _response(_job_frames(jobs, project, job_id, after))


@dataclass
class Told:
    """What a reader of a job's stream has been told."""

    sequence: int
    metrics: MetricsTold = field(default_factory=MetricsTold)
    points: set[tuple[str, int, int]] = field(default_factory=set)
    """Name, step and attempt of the points at the step up to which the reader was told, and beyond."""
    state: Any = None

    def news(self, project: str, seen: Glance) -> list[str]:
        """Return the frames of what is new; the last is an ``end`` when job and run have ended and all is told."""
        frames, job = [], seen.job
        for event in seen.events:
            self.sequence = event.sequence
            body = event.model_dump(mode="json", exclude={"project", "job"})
            frames.append(frame("event", json.dumps(body), str(event.sequence)))
        for point in seen.points:
            if (point.name, point.step, point.attempt) not in self.points:
                value = {"name": point.name, "step": point.step, "value": point.value}
                frames.append(frame("metric", json.dumps(value)))
        step = max([seen.told.step, *(point.step for point in seen.points)])
        self.metrics = replace(seen.told, step=step)
        self.points = {(point.name, point.step, point.attempt) for point in seen.points if point.step >= step}
        state = (job.state, job.reason, job.steps_done)
        if state != self.state:
            self.state = state
            frames.append(frame("state", job_out(project, job).model_dump_json()))
        if seen.settled and not seen.events:
            frames.append(frame("end", job_out(project, job).model_dump_json()))
        return frames


async def _job_frames(jobs: Jobs, project: str, job_id: str, sequence: int) -> AsyncIterator[str]:
    told = Told(sequence)
    spoken = time.monotonic()
    while True:
        seen = await run_in_threadpool(jobs.glance, job_id, told.sequence, told.metrics)
        frames = told.news(project, seen)
        for one in frames:
            yield one
        if frames and frames[-1].startswith("event: end"):
            return
        if frames:
            spoken = time.monotonic()
        elif time.monotonic() - spoken > _HEARTBEAT_SECONDS:
            spoken = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(_PAUSE_SECONDS)


def follow_log(jobs: Jobs, job_id: str, offset: int) -> StreamingResponse:
    """Stream a job's log from a byte offset until the job has ended and all of it was said."""
    return _response(_log_frames(jobs, job_id, offset))


async def _log_frames(jobs: Jobs, job_id: str, offset: int) -> AsyncIterator[str]:
    spoken = time.monotonic()
    while True:
        text, offset, ended = await run_in_threadpool(jobs.log, job_id, offset, _PIECE)
        if text:
            spoken = time.monotonic()
            yield frame("log", text.decode("utf-8", "replace"), str(offset))
        elif ended:
            yield frame("end", "", str(offset))
            return
        elif time.monotonic() - spoken > _HEARTBEAT_SECONDS:
            spoken = time.monotonic()
            yield ": still here\n\n"
        if not text:
            await asyncio.sleep(_PAUSE_SECONDS)
