"""Dispatches the outbox: intents committed in the transaction that requires them."""

import logging
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from windlass.domain.errors import WindlassError
from windlass.domain.records import Intent
from windlass.kit.failpoints import failpoint
from windlass.ports import ReadOutbox
from windlass.services.base import ServiceDependencies
from windlass.services.transactions import repeat_on_conflict
from windlass_api.metrics import INTENTS, LOST_LEASES, TRANSACTION_CONFLICTS

_log = logging.getLogger(__name__)

_MAX_PARALLEL = 4
_MAX_PARALLEL_PER_KIND = 2
_RENEWALS_PER_LEASE = 3
_RETRY_SECONDS = (1, 2, 5, 15, 60)
_on_conflict = TRANSACTION_CONFLICTS.labels("intent").inc


def _ignore_failure(intent: Intent, problem: str) -> bool:
    del intent, problem
    return False


def _no_kinds() -> Collection[str]:
    return ()


@dataclass
class _HeldIntent:
    """An intent that this dispatcher has leased: ``future`` handles it, or it is handled again at ``retry_at``."""

    intent: Intent
    future: "Future[float | None] | None" = None
    retry_at: float = 0.0


class OutboxDispatcher:
    """Leases due intents and handles them in a thread pool, so that a slow one does not block others.

    At most one intent of a kind and project is handled at a time, and intents of one kind never take all threads.
    Leases are renewed while an intent is handled and while it waits for its next try, so no other worker gets it.

    ``handle`` must be idempotent: delivery is at least once. ``on_failure`` records an error and returns whether
    to give up. ``after`` is called after each intent.

    Args:
        lease: time without a renewal after which another worker may take an intent over.
        holder: name of this worker. A restarted worker with the same name takes over its own leases at once.
        paused_kinds: returns the kinds that cannot be handled now; their intents stay in the outbox without a lease.
    """

    def __init__(
        self,
        deps: ServiceDependencies,
        lease: timedelta,
        handle: Callable[[Intent], None],
        *,
        holder: str,
        after: Callable[[], None],
        on_failure: Callable[[Intent, str], bool] = _ignore_failure,
        paused_kinds: Callable[[], Collection[str]] = _no_kinds,
    ) -> None:
        self._deps, self._lease_seconds, self._holder = deps, lease.total_seconds(), holder
        self._handle, self._after, self._on_failure, self._paused_kinds = handle, after, on_failure, paused_kinds
        self._executor = ThreadPoolExecutor(_MAX_PARALLEL, thread_name_prefix="intent")
        self._held: dict[int, _HeldIntent] = {}
        self._renew_at = 0.0

    @property
    def busy(self) -> "list[Future[float | None]]":
        """The futures of the intents that are being handled."""
        return [held.future for held in self._held.values() if held.future is not None]

    def run_once(self) -> float | None:
        """Renew leases, and start to handle due intents; return the seconds until the next deadline, None without one.

        It must also be called when an intent was committed and after each intent.
        """
        now = self._deps.clock.monotonic()
        self._collect_results(now)
        self._renew_leases(now)
        for held in sorted(self._held.values(), key=lambda each: each.retry_at):
            if held.future is None and held.retry_at <= now and self._may_start(held.intent):
                self._start(held.intent)
        foreign_leases = self._start_due(now)
        return self._seconds_until_deadline(now, foreign_leases=foreign_leases)

    def close(self) -> None:
        """Wait for running intents; no other starts."""
        self._executor.shutdown()

    def _collect_results(self, now: float) -> None:
        for held in list(self._held.values()):
            if held.future is None or not held.future.done():
                continue
            error = held.future.exception()
            if error is not None:
                # The failure itself could not be recorded, for example because the database is away.
                extra = {"kind": held.intent.kind, "subject": held.intent.subject, "error": str(error)}
                _log.error("outcome of an intent was not stored", extra=extra, exc_info=error)
                held.future, held.retry_at = None, now + _retry_delay(held.intent)
            elif (retry_at := held.future.result()) is not None:
                held.future, held.retry_at = None, retry_at
            else:
                del self._held[held.intent.id]

    def _renew_leases(self, now: float) -> None:
        if self._held and now < self._renew_at:
            return
        if self._held:
            with self._deps.database.write() as uow:
                uow.outbox.renew([held.intent for held in self._held.values()])
        self._renew_at = now + self._lease_seconds / _RENEWALS_PER_LEASE

    def _start_due(self, now: float) -> bool:
        """Start due intents while there are free threads; return whether another worker holds leases."""
        with self._deps.database.read() as uow:
            leased = [intent for intent in uow.outbox.leased() if intent.id not in self._held]
        for intent in leased:
            if not self._is_expired(intent, now) or not self._may_start(intent):
                continue
            if self._start(intent) and intent.holder != self._holder:
                LOST_LEASES.labels("intent").inc()
        while len(self.busy) < _MAX_PARALLEL:
            with self._deps.database.read() as uow:
                due = self._next_due(uow.outbox)
            if due is None or not self._start(due):
                break
        return any(intent.holder != self._holder for intent in leased)

    def _is_expired(self, intent: Intent, now: float) -> bool:
        if intent.holder == self._holder:
            return True  # of this worker before its restart
        value = (intent.fence, intent.renewals)
        unchanged = self._deps.leases.seconds_unchanged(("intent", intent.id), value, now)
        return unchanged >= self._lease_seconds

    def _next_due(self, outbox: ReadOutbox) -> Intent | None:
        kinds = Counter(held.intent.kind for held in self._held.values() if held.future is not None)
        full = {kind for kind, number in kinds.items() if number >= _MAX_PARALLEL_PER_KIND}
        return outbox.next_due(skip_kinds={*full, *self._paused_kinds()}, skip_queues=self._running_queues())

    def _running_queues(self) -> set[tuple[str, str]]:
        return {(held.intent.kind, held.intent.project) for held in self._held.values() if held.future is not None}

    def _may_start(self, intent: Intent) -> bool:
        running = self._running_queues()
        of_kind = sum(kind == intent.kind for kind, _ in running)
        return (
            len(self.busy) < _MAX_PARALLEL
            and of_kind < _MAX_PARALLEL_PER_KIND
            and (intent.kind, intent.project) not in running
            and intent.kind not in self._paused_kinds()
        )

    def _start(self, intent: Intent) -> bool:
        """Lease and start an intent; False when it is gone or another worker has it."""
        with self._deps.database.write() as uow:
            leased = uow.outbox.lease(intent, self._holder)
        self._deps.leases.forget(("intent", intent.id))
        if leased is None:
            self._held.pop(intent.id, None)
            return False
        future = self._executor.submit(self._process, leased)
        self._held[intent.id] = _HeldIntent(leased, future)
        future.add_done_callback(lambda _: self._after())
        return True

    def _seconds_until_deadline(self, now: float, *, foreign_leases: bool) -> float | None:
        # A retry that is due and has not started waits for a thread or a paused kind; both call run_once.
        deadlines = [held.retry_at - now for held in self._held.values() if held.retry_at > now]
        if self._held:
            deadlines.append(self._renew_at - now)
        if foreign_leases:
            deadlines.append(self._lease_seconds / _RENEWALS_PER_LEASE)
        with self._deps.database.read() as uow:
            due_at = uow.outbox.next_due_at()
        if due_at is not None:
            deadlines.append((due_at - self._deps.clock.now()).total_seconds())
        return max(0.0, min(deadlines)) if deadlines else None

    def _process(self, intent: Intent) -> float | None:
        """Handle a leased intent; return when to try again, None when it is finished."""
        failpoint("outbox.leased")
        try:
            repeat_on_conflict(lambda: self._handle(intent), on_conflict=_on_conflict)
        except Exception as error:  # noqa: BLE001 - a failing intent must not block others
            retry_at = self._deps.clock.monotonic() + _retry_delay(intent)
            expected = isinstance(error, WindlassError)
            extra = {"kind": intent.kind, "subject": intent.subject, "error": str(error)}
            _log.error("intent failed", extra=extra, exc_info=None if expected else error)
            INTENTS.labels(intent.kind, "failed").inc()
            if not self._on_failure(intent, str(error)):
                return retry_at
        else:
            INTENTS.labels(intent.kind, "done").inc()
        failpoint("outbox.handled")
        repeat_on_conflict(lambda: self._complete(intent), on_conflict=_on_conflict)
        failpoint("outbox.completed")
        return None

    def _complete(self, intent: Intent) -> None:
        with self._deps.database.write() as uow:
            uow.outbox.complete(intent)


def _retry_delay(intent: Intent) -> float:
    return _RETRY_SECONDS[min(intent.tries, len(_RETRY_SECONDS)) - 1]
