"""The audit log: its entries, its chain, and the sealing of new entries."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from windlass.domain.audit import (
    AuditEntry,
    AuditOutcome,
    ChainLink,
    ChainProblem,
    seal,
    verify_end,
    verify_entries,
    verify_saved,
)
from windlass.domain.ids import encode_id
from windlass.domain.jobs import DomainModel
from windlass.ports import Clock, Database, ReadUnitOfWork
from windlass.ports.filters import AuditFilter, ValueRange
from windlass.services.base import BaseService

VERIFIED_ROWS = 5000
"""Rows that one request verifies: about a second of one core."""
SEALED_ROWS = 500
"""Rows that one transaction seals. Other writers of SQLite wait for at most one such transaction."""
_EXPORTED_ROWS = 500
_ID_MARGIN = timedelta(minutes=1)
"""How much earlier than its time the id of an entry may be."""
_STEP_SECONDS = 1.0
"""Time after which a step of the sealer ends and the next one continues."""


@dataclass(frozen=True)
class AuditQuery:
    """Which entries to list: those that match all fields that are not None."""

    project: str | None = None
    """Name of a project, or its uid, by which a deleted project is found."""
    actor: str | None = None
    action: str | None = None
    outcome: AuditOutcome | None = None
    key: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def filter(self, uow: ReadUnitOfWork) -> AuditFilter:
        """Return the filter of the repository."""
        where: AuditFilter = {}
        if self.project is not None:
            named = uow.projects.find({"name": self.project})
            where["project"] = named.id if named else self.project
        if self.actor is not None:
            where["actor"] = self.actor
        if self.action is not None:
            where["action"] = self.action
        if self.outcome is not None:
            where["outcome"] = self.outcome
        if self.key is not None:
            where["key"] = self.key
        if self.request_id is not None:
            where["request_id"] = self.request_id
        if self.since is not None or self.until is not None:
            where["time"] = ValueRange(self.since, self.until)
        if self.since is not None:  # ids begin with their time, so that older entries are not read
            where["id"] = ValueRange(encode_id("aud", int((self.since - _ID_MARGIN).timestamp() * 1000), 0))
        return where


class AuditVerification(DomainModel):
    """What a verification of a part of the chain has found."""

    checked: ChainLink
    """The last entry that is intact."""
    head: ChainLink
    """The last sealed entry."""
    anchor: ChainLink
    """The last entry that the retention has removed."""
    rows: int
    """Number of entries that were verified."""
    complete: bool
    """Whether nothing is left to verify: the head is reached, or there is a problem."""
    problem: ChainProblem | None
    unsealed: int
    """Number of entries that are not sealed yet; the chain says nothing about them."""
    oldest_unsealed: datetime | None


@dataclass(frozen=True)
class AuditTrail(BaseService):
    """The accepted and denied changes, for platform admins."""

    def page(self, limit: int, after: str | None, query: AuditQuery) -> list[AuditEntry]:
        """List entries, newest first; ``after`` is the id of the last entry of the page before."""
        with self.deps.database.read() as uow:
            uow.platform()
            return uow.audit.page(limit, after, query.filter(uow), newest_first=True)

    def export(self, query: AuditQuery) -> Iterator[list[AuditEntry]]:
        """Yield all entries in parts, oldest first. Each part has a transaction of its own."""
        after: str | None = None
        while True:
            with self.deps.database.read() as uow:
                uow.platform()
                entries = uow.audit.page(_EXPORTED_ROWS, after, query.filter(uow))
            yield entries
            if len(entries) < _EXPORTED_ROWS:
                return
            after = entries[-1].id

    def verify(self, after: ChainLink | None, saved: ChainLink | None, limit: int = VERIFIED_ROWS) -> AuditVerification:
        """Verify at most ``limit`` entries of the chain.

        Args:
            after: what the last part has checked; None: from the beginning.
            saved: a head that was printed earlier and kept elsewhere; the chain must contain it.
            limit: maximum number of entries.
        """
        with self.deps.database.read() as uow:
            uow.platform()
            chain = uow.audit_chain
            state = chain.state()
            start = state.anchor if after is None or after.position < state.anchor.position else after
            entries = chain.sealed(start.position, limit)
            last, problem = verify_entries(entries, start)
            is_end = len(entries) < limit
            if problem is None and is_end:
                problem = verify_end(last, state.head)
            if saved is not None and (found := verify_saved(saved, chain.at(saved.position), state)) is not None:
                problem = found if problem is None or found.position < problem.position else problem
            unsealed, oldest = chain.count_unsealed(), chain.oldest_unsealed()
        return AuditVerification(
            checked=last,
            head=state.head,
            anchor=state.anchor,
            rows=last.position - start.position,
            complete=is_end or problem is not None,
            problem=problem,
            unsealed=unsealed,
            oldest_unsealed=oldest,
        )


@dataclass
class AuditSealer:
    """Seals new entries into the chain. Only one worker does it at a time; a second one waits for its transaction.

    Entries are sealed in the order of their ids as far as they are committed. One with a lower id that is committed
    later gets a higher position.
    """

    database: Database
    clock: Clock
    interval: timedelta
    oldest: datetime | None = field(default=None, init=False)
    """The time of the oldest entry that was not sealed after the last step."""
    _next_at: float = field(default=0.0, init=False)

    def step(self) -> float | None:
        """Seal what there is, at most once in the interval; return the seconds until the next step is due."""
        now = self.clock.monotonic()
        if now < self._next_at:
            return self._next_at - now
        self.oldest = self._oldest_unsealed()
        if self.oldest is None:
            return None
        deadline = time.monotonic() + _STEP_SECONDS
        while self.seal() == SEALED_ROWS:
            if time.monotonic() > deadline:  # as after the first start of this version on a long log
                return 0.0
        self._next_at = now + self.interval.total_seconds()
        self.oldest = self._oldest_unsealed()
        return None if self.oldest is None else self.interval.total_seconds()

    def _oldest_unsealed(self) -> datetime | None:
        with self.database.read() as uow:
            return uow.audit_chain.oldest_unsealed()

    def seal(self) -> int:
        """Seal some of the new entries; return their number."""
        with self.database.audit_chain() as chain:
            head = chain.lock().head
            entries = list(seal(chain.unsealed(SEALED_ROWS), head))
            if entries:
                chain.append(entries)
        return len(entries)

    def age(self) -> float:
        """Return the age in seconds of the oldest entry that was not sealed after the last step."""
        oldest = self.oldest
        return 0.0 if oldest is None else max(0.0, (self.clock.now() - oldest).total_seconds())
