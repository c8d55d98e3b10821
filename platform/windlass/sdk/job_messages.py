"""What the streams of a job yield, and how it is decoded."""

from dataclasses import dataclass

from pydantic import TypeAdapter

from windlass.domain.errors import UnavailableError
from windlass.sdk._streams import ServerSentEvent
from windlass.wire.jobs import EventOut, JobOut


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """A metric value of a job at an optimizer step."""

    name: str
    step: int
    value: float | None


Message = EventOut | MetricPoint | JobOut
"""An item of ``stream``: an event, a metric point, or the job after a state change."""

_POINT = TypeAdapter(MetricPoint)


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A chunk of the log; ``next_offset`` is the byte offset of the next chunk; ``end`` marks a complete log."""

    text: str
    next_offset: int
    end: bool


def decode_message(event: ServerSentEvent) -> Message | None:
    """Return the message of an event; None if it has none.

    Raises:
        UnavailableError: the event is invalid.
    """
    try:
        if event.event == "event":
            return EventOut.model_validate_json(event.data)
        if event.event == "metric":
            return _POINT.validate_json(event.data)
        if event.event == "state":
            return JobOut.model_validate_json(event.data)
    except ValueError as error:
        raise UnavailableError(
            f"invalid {event.event} in the stream", hint="check that client and server versions are compatible"
        ) from error
    return None


def decode_log_chunk(event: ServerSentEvent) -> LogChunk:
    """Return the chunk of an event."""
    return LogChunk(event.data, int(event.id or 0), end=False)


def is_end(event: ServerSentEvent) -> bool:
    """Return whether a stream of a job is over."""
    return event.event == "end"
