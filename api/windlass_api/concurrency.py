"""Fair use of the server's threads: each caller and each project has requests in work, and a number that wait."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
from starlette.types import Scope

from windlass.domain.errors import TooManyRequestsError

_SCOPE_KEY = "windlass.request_slot"
_FURTHER_KEY = "windlass.further_slots"
_STACK_KEY = "windlass.held_slots"


@dataclass
class RequestSlot:
    """The slot of one request; a request that needs no thread any more frees it before its end."""

    limiter: anyio.CapacityLimiter
    held: bool = False

    async def acquire(self) -> None:
        """Wait for the slot."""
        await self.limiter.acquire_on_behalf_of(self)
        self.held = True

    def release(self) -> None:
        """Free the slot; a no-op if it is free."""
        if self.held:
            self.held = False
            self.limiter.release_on_behalf_of(self)

    __hash__ = object.__hash__


@dataclass
class _Caller:
    limiter: anyio.CapacityLimiter
    requests: int = 0


@dataclass
class RequestSlots:
    """Admits ``concurrent`` requests of each caller at once; ``queued`` more wait in order, others are refused.

    The threads of the server are shared. With fewer slots per caller than threads, a flood of one caller's requests
    waits behind itself, and other callers find a free thread.
    """

    concurrent: int
    queued: int
    _callers: dict[str, _Caller] = field(default_factory=dict)

    @asynccontextmanager
    async def slot(self, caller: str) -> AsyncIterator[RequestSlot]:
        """Hold a slot of a caller.

        Raises:
            TooManyRequestsError: too many requests of this caller wait already.
        """
        entry = self._callers.get(caller) or _Caller(anyio.CapacityLimiter(self.concurrent))
        if entry.limiter.statistics().tasks_waiting >= self.queued:
            limit = self.concurrent + self.queued
            raise TooManyRequestsError(
                f"{caller} has {limit} requests open, which is the limit",
                hint="send fewer requests at the same time",
                context={"limit": limit},
            )
        self._callers[caller] = entry
        entry.requests += 1
        slot = RequestSlot(entry.limiter)
        try:
            await slot.acquire()
            yield slot
        finally:
            slot.release()
            entry.requests -= 1
            if not entry.requests:
                del self._callers[caller]


@asynccontextmanager
async def held_slots(scope: Scope) -> AsyncIterator[None]:
    """Hold the further slots that ``hold_slot`` gives to a request, until its end."""
    async with AsyncExitStack() as stack:
        scope[_STACK_KEY] = stack
        yield


async def hold_slot(scope: Scope, slots: RequestSlots, caller: str) -> None:
    """Wait for a further slot of a request, once for each caller. Raises as ``RequestSlots.slot``."""
    held: dict[str, RequestSlot] = scope.setdefault(_FURTHER_KEY, {})
    stack = scope.get(_STACK_KEY)
    if caller not in held and isinstance(stack, AsyncExitStack):
        held[caller] = await stack.enter_async_context(slots.slot(caller))


def store_slot(scope: Scope, slot: RequestSlot) -> None:
    """Let the routes release the slot of this request."""
    scope[_SCOPE_KEY] = slot


def release_slot(scope: Scope) -> None:
    """Free the slots of a request whose remaining work, such as a stream, is limited otherwise."""
    slot = scope.get(_SCOPE_KEY)
    if isinstance(slot, RequestSlot):
        slot.release()
    release_further_slots(scope)


def release_further_slots(scope: Scope) -> None:
    """Free the slots of ``hold_slot`` before bytes of a client's file, which may take hours; it keeps its own slot."""
    further: dict[str, RequestSlot] = scope.get(_FURTHER_KEY, {})
    for slot in further.values():
        slot.release()
