"""What all event and log streams of the server share: the number of streams, reads of the database, access checks."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from windlass.domain.errors import TooManyRequestsError
from windlass.domain.projects import Permission, Principal
from windlass.services.access import AccessControl

R = TypeVar("R")

_READ_THREADS = 4
"""Threads for the reads of all streams: the other threads of the server are left to requests."""


@dataclass(frozen=True)
class StreamCaller:
    """Who reads a stream: the authorized principal, and the project and permission it was authorized for."""

    principal: Principal
    project_name: str
    project: str
    permission: Permission


class SharedReads:
    """Reads in a thread whose results are shared: equal keys are read once per ``seconds``.

    The streams of one job read from the same position once they have caught up, so they cost one read per interval.
    """

    def __init__(self) -> None:
        self._results: dict[Any, tuple[float, asyncio.Future[Any]]] = {}
        self._limiter: anyio.CapacityLimiter | None = None

    async def read(self, key: Any, seconds: float, function: Callable[[], R]) -> R:
        """Return the result of ``function``, at most ``seconds`` old."""
        now = time.monotonic()
        cached = self._results.get(key)
        if cached is None or now >= cached[0]:
            self._drop_expired(now)
            cached = now + seconds, asyncio.ensure_future(self._run(function))
            self._results[key] = cached
        # the reader that started the read may be cancelled while others wait for it
        result: R = await asyncio.shield(cached[1])
        return result

    async def _run(self, function: Callable[[], R]) -> R:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_READ_THREADS)
        return await anyio.to_thread.run_sync(function, limiter=self._limiter)

    def _drop_expired(self, now: float) -> None:
        expired = [key for key, (until, future) in self._results.items() if until <= now and future.done()]
        for key in expired:
            del self._results[key]


@dataclass
class StreamHub:
    """Limits the streams of each key and project, and shares their reads."""

    access_control: AccessControl
    per_key: int
    per_project: int
    reads: SharedReads = field(default_factory=SharedReads)
    closed: bool = field(default=False, init=False)
    """Whether the streams end, because the server stops."""
    _open: Counter[str] = field(default_factory=Counter)

    def close(self) -> None:
        """End all streams at their next poll; clients resume them at another replica, or at the next server."""
        self.closed = True

    @contextmanager
    def stream(self, caller: StreamCaller) -> Iterator[None]:
        """Count a stream while it is open.

        Raises:
            TooManyRequestsError: the key or the project has as many streams as allowed.
        """
        limits = {
            f"key {caller.principal.credential}": self.per_key,
            f"project {caller.project_name}": self.per_project,
        }
        for name, limit in limits.items():
            if self._open[name] >= limit:
                raise TooManyRequestsError(
                    f"{name} has {limit} open streams, which is the limit",
                    hint="close streams, or read pages instead of a stream",
                    context={"limit": limit},
                )
        self._open.update(limits.keys())
        try:
            yield
        finally:
            self._open.subtract(limits.keys())
            self._open = +self._open

    async def require_access(self, caller: StreamCaller, seconds: float) -> None:
        """Check that the key is still valid and its user still has the permission; at most ``seconds`` ago.

        Raises:
            UnauthenticatedError: the key was revoked or has expired.
            NotFoundError: the user is no member any more, or the project was deleted.
            ForbiddenError: the user's role does not allow it any more.
        """
        check = partial(
            self.access_control.recheck, caller.principal, caller.project_name, caller.project, caller.permission
        )
        await self.reads.read(("access", caller), seconds, check)
