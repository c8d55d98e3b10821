"""Server-sent events without a transport: what to ask for, where to go on after a cut, when it is over."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from windlass.domain.errors import UnavailableError
from windlass.sdk._core import Failure, Reply, Request, WaitTimeoutError, backoff
from windlass.sdk._problems import error_of

T = TypeVar("T")

HEARTBEAT_TIMEOUT = 45.0
"""Seconds of silence after which a stream counts as dead; the server sends a comment every 15 s."""

_GIVE_UP_AFTER = 60.0
_TICK = 5.0


@dataclass(frozen=True, slots=True)
class Sse:
    """One server-sent event."""

    event: str
    data: str
    id: str


@dataclass(slots=True)
class Subscription(Generic[T]):
    """A stream that survives cuts: it is asked for again from the last event id that was seen.

    ``decode`` returns the item of an event, or None for one that carries none; ``ends`` tells the last event.
    ``resume_query`` names a parameter that says so too, beside the header. A stream that cannot resume
    (``resumable`` false) raises on a cut instead.
    """

    request: Request
    decode: Callable[[Sse], T | None]
    ends: Callable[[Sse], bool]
    last_id: str = ""
    resume_query: str = ""
    resumable: bool = True
    deadline: float | None = None
    what: str = "the stream"
    clock: Callable[[], float] = time.monotonic
    ended: bool = False
    _cuts: int = 0
    _away_since: float | None = field(default=None)

    def next_request(self) -> Request:
        """Return what to ask now.

        Raises:
            WaitTimeoutError: the deadline has passed.
        """
        headers = {"Accept": "text/event-stream", **self.request.headers}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        query = self.request.query
        if self.resume_query:
            query = (*query, (self.resume_query, self.last_id))
        return replace(self.request, query=query, headers=headers, timeout=self._patience())

    def accept(self, event: Sse) -> T | None:
        """Take an event in and return its item."""
        self._cuts = 0
        if event.id:
            self.last_id = event.id
        if self.ends(event):
            self.ended = True
            return None
        item = self.decode(event)
        if item is None:
            self._patience()
        return item

    def opened(self) -> None:
        """Note that the server answers."""
        self._away_since = None

    def refused(self, reply: Reply) -> float:
        """Return the seconds to wait after an error answer.

        Raises:
            WindlassError: asking again would not help.
        """
        error = error_of(reply.status, reply.content)
        if not (self.resumable and isinstance(error, UnavailableError)):
            raise error
        return self.cut(Failure(error.message, sent=True))

    def cut(self, failure: Failure) -> float:
        """Return the seconds to wait before asking again.

        Raises:
            WaitTimeoutError: the deadline has passed.
            UnavailableError: the stream cannot resume, or the server has been away for a minute.
        """
        self._patience()
        if failure.silent and self.deadline is not None:
            return 0.0
        now = self.clock()
        if self._away_since is None:
            self._away_since = now
        if not self.resumable or now - self._away_since > _GIVE_UP_AFTER:
            raise UnavailableError(
                f"{self.what} broke off: {failure.message}", hint="check the server with `windlass status`"
            )
        delay = backoff(self._cuts)
        self._cuts += 1
        return delay if self.deadline is None else min(delay, max(self.deadline - now, 0.0))

    def _patience(self) -> float:
        if self.deadline is None:
            return HEARTBEAT_TIMEOUT
        left = self.deadline - self.clock()
        if left <= 0:
            raise WaitTimeoutError(f"{self.what} is not over yet")
        # A read cannot be interrupted, so that a wait with an end looks at the clock at least this often.
        return min(_TICK, left)
