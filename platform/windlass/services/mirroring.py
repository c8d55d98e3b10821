"""Keeps the database a mirror of a cluster's pools, projects, quotas and workloads, and carries accepted changes there.

One worker at a time does this. Who it is stands in the row ``mirrored``, which every transaction of the mirror saves:
whoever was replaced meanwhile fails there, and writes nothing. A worker believes that another is gone when that row has
not moved for the lease's time on the worker's own clock, so that clocks need not agree.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from windlass.domain.datasets import VersionState
from windlass.domain.errors import ConflictError, InvalidError, NotFoundError, PreconditionFailedError, UnavailableError
from windlass.domain.jobs import Fact, Job, Reason, move
from windlass.domain.mirror import (
    MIRROR,
    ChangeState,
    Mirror,
    Mirrored,
    ProjectState,
    QueueQuota,
    QuotaChange,
    StoredClaim,
)
from windlass.domain.projects import Member, StoredQuota, Wait
from windlass.domain.quota import Claim
from windlass.ports import ClusterView, ProjectResources, Repository, UnitOfWork
from windlass.services.backing import SYSTEM, Backing, UseCases, record
from windlass.services.projects import LIVE_JOBS

_log = logging.getLogger(__name__)
_BEATS = 3
"""Times that the row moves within one lease, when there is nothing to write."""
F = TypeVar("F", bound=Fact)


class LeaseLostError(Exception):
    """Another worker mirrors: nothing may be written any more."""


@dataclass(frozen=True)
class MirrorView(UseCases):
    """How the mirror is, for platform admins."""

    def get(self) -> tuple[Mirrored, int]:
        """Return who keeps the mirror and how it is, and how many changes the cluster does not have yet.

        Raises:
            NotFoundError: this server works for no cluster, or has not begun.
        """
        with self.backing.database.read() as work:
            pending = work.everywhere().quota_changes.count(state=ChangeState.PENDING)
            return work.mirrored.get(name=MIRROR), pending


@dataclass
class Mirroring:
    """The mirror of one worker. ``lease``: how long the active one may be silent before another takes over."""

    backing: Backing
    view: ClusterView
    resources: ProjectResources
    holder: str
    lease: timedelta
    monotonic: Callable[[], float] = time.monotonic
    _row: Mirrored | None = field(default=None, init=False)
    """Our own row, while we hold the lease."""
    _moved: float = field(default=0.0, init=False)
    _seen: tuple[int, float] | None = field(default=None, init=False)
    """The version of another worker's row, and since when it is that."""
    _stale: bool = field(default=True, init=False)
    """Whether the last look has not been taken over as a whole."""
    _right: float = field(default=0.0, init=False)
    """When the mirror was last known to be right; before the first look, when the lease was taken."""

    @property
    def active(self) -> bool:
        """Whether this worker may write: its row moved less than a lease ago, with a margin for what is on its way."""
        return self._row is not None and self.monotonic() < self._moved + self.lease.total_seconds() * 2 / 3

    @property
    def age(self) -> float:
        """Seconds for which the mirror is not known to be right; 0 while it is another worker's."""
        return 0.0 if self._row is None else self.monotonic() - self._right

    def guard(self) -> None:
        """Pass while this worker may write: the guard of every write to the cluster.

        Raises:
            LeaseLostError: it may not.
        """
        if not self.active:
            raise LeaseLostError(f"{self.holder} does not hold the mirror's lease")

    def step(self) -> bool:
        """Take over what is new, carry out what is pending; tell whether there was any of it.

        Raises:
            UnavailableError: the cluster cannot be read now; the lease is kept.
        """
        if not self._hold():
            self._stale = True
            return False
        try:
            return self._turn()
        except UnavailableError:
            if self._row is not None and self._beat_due():
                self._try(self._row)
            raise
        except PreconditionFailedError:
            _log.warning("another worker has taken the mirror over", extra={"holder": self.holder})
            self._row = None
            return False

    def _turn(self) -> bool:
        changed = self._carry_out_pending()
        if self.view.wait(0) or self._stale or self._beat_due():
            self._stale = True
            changed |= self._take_over(self.view.look())
            self._stale, self._right = False, self.monotonic()
        return changed

    def release(self) -> None:
        """Let the next worker begin at once."""
        if self._row is not None:
            with self.backing.database.write() as work:
                work.mirrored.delete(name=self._row.name, holder=self.holder, version=self._row.version)
            self._row = None

    # ---------------------------------------------------------------- the lease

    def _hold(self) -> bool:
        """Tell whether the lease is ours, after taking it when it is free, or again when it may have run out."""
        if self._row is not None:
            return self.active or self._try(self._row)
        with self.backing.database.read() as work:
            found = work.mirrored.find(name=MIRROR)
        if found is None or found.holder == self.holder:
            return self._try(found)
        if self._seen is None or self._seen[0] != found.version:
            self._seen = (found.version, self.monotonic())
        return self.monotonic() >= self._seen[1] + self.lease.total_seconds() and self._try(found)

    def _try(self, found: Mirrored | None) -> bool:
        began = self.monotonic()
        try:
            with self.backing.database.write() as work:
                if found is None:
                    row = Mirrored(holder=self.holder)
                    work.mirrored.add(row)
                else:
                    row = work.mirrored.save(found.model_copy(update={"holder": self.holder}))
        except (ConflictError, NotFoundError, PreconditionFailedError):
            self._row = None
            return False
        if self._row is None:
            _log.info("mirrors the cluster", extra={"holder": self.holder})
            self._right = began
        self._row, self._moved = row, began  # counted from before the write, which may have taken long
        return True

    def _fenced(self, work: UnitOfWork, **news: Any) -> Mirrored:
        """Save our row in a transaction of the mirror.

        Raises:
            PreconditionFailedError: another worker has taken over.
        """
        if self._row is None:
            raise PreconditionFailedError("the mirror's lease is not held")
        return work.mirrored.save(self._row.model_copy(update=news))

    # ---------------------------------------------------------------- the mirror

    def _take_over(self, mirror: Mirror) -> bool:
        """Write what differs; tell whether anything did."""
        began, told = self.monotonic(), {one.project.id for one in mirror.projects}
        with self.backing.database.read() as work:
            missing = [(one.id, one.name) for one in work.projects.all() if one.id not in told]
            differs = _differs(work, mirror, told)
        # what is not told of may be there and unreadable: only the API server knows that it is gone
        gone = [uid for uid, name in missing if not self.resources.exists(uid, name)]
        if not gone and not differs and not self._beat_due():
            return False
        with self.backing.database.write() as work:
            row = self._fenced(work, read_at=self.backing.clock.now(), notes=mirror.notes)
            changed = (differs or bool(gone)) and self._write(work, mirror, gone)
        self._row, self._moved = row, began
        return changed

    def _beat_due(self) -> bool:
        return self.monotonic() >= self._moved + self.lease.total_seconds() / _BEATS

    def _write(self, work: UnitOfWork, mirror: Mirror, gone: Sequence[str]) -> bool:
        changed = bool(gone)
        for uid in gone:
            self._forget(work, uid)
        changed |= align(work.pools, mirror.pools, ("id",))
        known = {one.id for one in work.projects.all()}
        changed |= align(work.projects, [one.project for one in mirror.projects], ("id",), remove=False)
        for uid in {one.project.id for one in mirror.projects} - known:
            record(self.backing, work, SYSTEM, "project.create", uid, uid)
        everywhere, told = work.everywhere(), [one.project.id for one in mirror.projects]
        changed |= align(everywhere.members, _members(mirror), ("project", "user"), project=told)
        changed |= align(everywhere.quotas, _quotas(mirror), ("project", "pool"), project=told)
        changed |= align(work.queue_quotas, _queue_quotas(mirror), ("project", "pool"))
        before = {one.job: one for one in work.claims.all()}
        claims = [
            StoredClaim(**claim.model_dump(), reason=mirror.reasons.get(claim.job)) for claim in mirror.snapshot.claims
        ]
        if align(work.claims, claims, ("job",)):
            changed = True
            self._remember_waits(work, mirror.projects, before, claims)
        self._tell_jobs(work, mirror.reasons)
        return changed

    def _forget(self, work: UnitOfWork, uid: str) -> None:
        for unfinished in work.of(uid).dataset_versions.all(state=VersionState.PROCESSING):
            work.outbox.put("dataset.purge", uid, unfinished.id)
        work.projects.delete(id=uid)
        work.outbox.put("project.purge", uid, uid)
        record(self.backing, work, SYSTEM, "project.delete", uid, uid)

    @staticmethod
    def _remember_waits(
        work: UnitOfWork, projects: Iterable[ProjectState], before: dict[str, StoredClaim], claims: Iterable[Claim]
    ) -> None:
        uids = {one.project.name: one.project.id for one in projects}
        for claim in claims:
            old = before.get(claim.job)
            uid = uids.get(claim.project)
            if uid is None or claim.admitted_at is None or (old is not None and old.admitted_at is not None):
                continue
            waits = work.of(uid).waits
            if waits.find(pool=claim.pool, subject=claim.rank) is None:
                seconds = max(0.0, (claim.admitted_at - claim.queued_at).total_seconds())
                waits.add(Wait(project=uid, pool=claim.pool, subject=claim.rank, seconds=seconds, at=claim.admitted_at))

    def _tell_jobs(self, work: UnitOfWork, reasons: Mapping[str, Reason]) -> None:
        """Give jobs of this house the reason that the cluster has for them."""
        named = [job for job in reasons if "/" not in job]
        jobs: list[Job] = work.everywhere().jobs.all(id=named, state=LIVE_JOBS) if named else []
        for job in jobs:
            if job.reason != (reason := reasons[job.id]):
                work.of(job.project).jobs.save(move(job, job.state, self.backing.clock.now(), reason))

    # ---------------------------------------------------------------- changes

    def _carry_out_pending(self) -> bool:
        """Apply what was accepted, in the order in which it was: one after the other, so that the last one stands."""
        with self.backing.database.read() as work:
            pending: list[QuotaChange] = work.everywhere().quota_changes.all(state=ChangeState.PENDING)
        for change in pending:
            try:
                self.resources.apply(change)
            except (ConflictError, InvalidError, NotFoundError) as refused:
                self._end(change, ChangeState.REFUSED, str(refused))
            except (LeaseLostError, UnavailableError) as error:
                _log.warning("a change has to wait", extra={"change": change.id, "error": str(error)})
                return False  # those behind it wait too: they may be about the same quota
            else:
                self._end(change, ChangeState.APPLIED, "")
        return bool(pending)

    def _end(self, change: QuotaChange, state: ChangeState, problem: str) -> None:
        began = self.monotonic()
        with self.backing.database.write() as work:
            row = self._fenced(work)
            news = {"state": state, "problem": problem, "ended_at": self.backing.clock.now()}
            work.of(change.project).quota_changes.save(change.model_copy(update=news))
            record(self.backing, work, SYSTEM, f"quota-change.{state}", change.id, change.project)
        self._row, self._moved = row, began


def _members(mirror: Mirror) -> list[Member]:
    return [one for state in mirror.projects for one in state.members]


def _quotas(mirror: Mirror) -> list[StoredQuota]:
    return [one for state in mirror.projects for one in state.quotas]


def _queue_quotas(mirror: Mirror) -> list[QueueQuota]:
    cohorts = mirror.snapshot.cohorts
    return [QueueQuota(**one.model_dump(), cohort=cohorts.get(one.project)) for one in mirror.snapshot.quotas]


def _differs(work: UnitOfWork, mirror: Mirror, projects: AbstractSet[str]) -> bool:
    """Tell whether anything is to be written: most looks find nothing, and a transaction that writes is dear."""
    claims = {one.job: one for one in work.claims.all()}
    told = {claim.job: claim for claim in mirror.snapshot.claims}
    everywhere, within = work.everywhere(), list(projects)
    return (
        _unlike(work.pools.all(), mirror.pools)
        or _unlike(work.projects.all(id=within), [one.project for one in mirror.projects])
        or _unlike(everywhere.quotas.all(project=within), _quotas(mirror))
        or _unlike(everywhere.members.all(project=within), _members(mirror))
        or _unlike(work.queue_quotas.all(), _queue_quotas(mirror))
        or claims.keys() != told.keys()
        or any(
            Claim(**claims[job].model_dump(exclude={"reason"})) != claim
            or claims[job].reason != mirror.reasons.get(job)
            for job, claim in told.items()
        )
    )


def _unlike(kept: Iterable[F], told: Iterable[F]) -> bool:
    return {_plain(one) for one in kept} != {_plain(one) for one in told}


def _plain(fact: Fact) -> tuple[Any, ...]:
    """Return what counts of a fact: the version of a row is its own affair."""
    return tuple(sorted(fact.model_dump(exclude={"version"}).items()))


def align(
    rows: Repository[F], wished: Sequence[F], keys: tuple[str, ...], *, remove: bool = True, **where: Any
) -> bool:
    """Make the rows that match ``where`` what is wished, writing only what differs; tell whether anything did."""

    def key(fact: F) -> tuple[Any, ...]:
        return tuple(getattr(fact, name) for name in keys)

    kept = {key(one): one for one in rows.all(**where)}
    changed = False
    if remove:
        # first, since a name that is taken again belongs to another row
        for old in kept.keys() - {key(one) for one in wished}:
            rows.delete(**dict(zip(keys, old, strict=True)))
            changed = True
    for one in wished:
        before = kept.get(key(one))
        if before is None:
            rows.add(one)
            changed = True
        elif _plain(before) != _plain(one):
            version = {"version": before.version} if hasattr(before, "version") else {}
            rows.save(one.model_copy(update=version))
            changed = True
    return changed
