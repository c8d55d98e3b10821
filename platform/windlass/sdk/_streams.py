"""Server-sent events without I/O: requests, resumption after a disconnect, end of stream."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from windlass.domain.errors import UnavailableError
from windlass.sdk._protocol import Request, Response, TransportFailure, WaitTimeoutError, backoff
from windlass.wire.problems import error_from_response

T = TypeVar("T")

HEARTBEAT_TIMEOUT = 45.0
"""Idle seconds after which a stream is considered dead; the server sends a comment every 15 s."""

_MAX_DISCONNECTED_SECONDS = 60.0
_MAX_READ_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One server-sent event."""

    event: str
    data: str
    id: str


@dataclass(slots=True)
class EventStream(Generic[T]):
    """A stream that reconnects after a disconnect and resumes at the last event id.

    ``decode`` returns the item of an event, or None if the event has none. ``is_end`` detects the last event.
    ``resume_query`` names a query parameter that carries the last event id in addition to the header. If ``resumable``
    is false, a disconnect raises an error.
    """

    request: Request
    decode: Callable[[ServerSentEvent], T | None]
    is_end: Callable[[ServerSentEvent], bool]
    last_id: str = ""
    resume_query: str = ""
    resumable: bool = True
    deadline: float | None = None
    description: str = "the stream"
    clock: Callable[[], float] = time.monotonic
    ended: bool = False
    _reconnects: int = 0
    _disconnected_since: float | None = field(default=None)

    def next_request(self) -> Request:
        """Return the request of the next connection.

        Raises:
            WaitTimeoutError: the deadline has passed.
        """
        headers = {"Accept": "text/event-stream", **self.request.headers}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        query = self.request.query
        if self.resume_query:
            query = (*query, (self.resume_query, self.last_id))
        return replace(self.request, query=query, headers=headers, timeout=self._read_timeout())

    def handle_event(self, event: ServerSentEvent) -> T | None:
        """Process an event and return its item, if any."""
        self._reconnects = 0
        if event.id:
            self.last_id = event.id
        if self.is_end(event):
            self.ended = True
            return None
        item = self.decode(event)
        if item is None:
            self._read_timeout()
        return item

    def handle_open(self) -> None:
        """Record a successful connection."""
        self._disconnected_since = None

    def handle_error_response(self, response: Response) -> float:
        """Return the delay in seconds before the next connection.

        Raises:
            WindlassError: the error is not retryable.
        """
        error = error_from_response(response.status, response.content)
        if not (self.resumable and isinstance(error, UnavailableError)):
            raise error
        return self.handle_disconnect(TransportFailure(error.message, sent=True))

    def handle_disconnect(self, failure: TransportFailure) -> float:
        """Return the delay in seconds before the next connection.

        Raises:
            WaitTimeoutError: the deadline has passed.
            UnavailableError: the stream cannot resume, or the server has been unavailable for a minute.
        """
        self._read_timeout()
        if failure.timed_out and self.deadline is not None:
            return 0.0
        now = self.clock()
        if self._disconnected_since is None:
            self._disconnected_since = now
        if not self.resumable or now - self._disconnected_since > _MAX_DISCONNECTED_SECONDS:
            raise UnavailableError(
                f"{self.description} was disconnected: {failure.message}",
                hint="check the server with `windlass status`",
            )
        delay = backoff(self._reconnects)
        self._reconnects += 1
        return delay if self.deadline is None else min(delay, max(self.deadline - now, 0.0))

    def _read_timeout(self) -> float:
        if self.deadline is None:
            return HEARTBEAT_TIMEOUT
        remaining = self.deadline - self.clock()
        if remaining <= 0:
            raise WaitTimeoutError(f"timed out waiting for {self.description}; it continues")
        # A blocking read cannot be interrupted: a short timeout bounds how late the deadline is checked.
        return min(_MAX_READ_SECONDS, remaining)
