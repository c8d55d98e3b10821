"""The ledger: what projects have of the pools, hold, borrow and lend, and who of them waits. Changes of quotas."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import quantiles
from typing import Protocol

from windlass.domain.errors import ConflictError, InvalidError
from windlass.domain.jobs import Fact, Reason
from windlass.domain.mirror import ChangeState, QuotaChange, Share
from windlass.domain.projects import Project, StoredQuota, Wait
from windlass.domain.quota import Account, Quota, Snapshot, accounts, check_quotas, schedule
from windlass.ports import ProjectResources, UnitOfWork
from windlass.services.backing import Backing, ProjectUseCases, UseCases

WAIT_WINDOW = timedelta(days=7)
"""How far back the quantiles of waiting times look."""


@dataclass(frozen=True)
class Waits:
    """How long jobs waited for their first GPUs, in seconds; None: none got any in the window."""

    p50: float | None = None
    p90: float | None = None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Waits":
        """Return the quantiles, interpolated between the two nearest waits (the inclusive method)."""
        if not seconds:
            return cls()
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0])
        cuts = quantiles(seconds, n=10, method="inclusive")
        return cls(cuts[4], cuts[8])


@dataclass(frozen=True)
class Line:
    """One line of the ledger: a quota, its project, and what became of it. ``reasons`` by job, where more is known."""

    account: Account
    quota: StoredQuota
    project: Project
    waits: Waits
    reasons: Mapping[str, Reason]


class Foreseen(Fact):
    """What a change would do at once: jobs by id with their project's name."""

    preempts: Mapping[str, str] = {}
    starts: Mapping[str, str] = {}


class QuotaTruth(Protocol):
    """Where quotas are true: what this house writes itself, or has to ask a cluster for."""

    def check(self, change: QuotaChange, after: Snapshot) -> None:
        """Refuse, before anything is written, what could not be carried out. ``after``: how it would be then.

        Raises:
            InvalidError: the limits contradict the nominal quota or need a cohort.
            ConflictError: somebody else manages the quota in the cluster.
        """
        ...

    def record(self, work: UnitOfWork, change: QuotaChange) -> QuotaChange:
        """Write the change down in the caller's transaction, and return how far it has come with that."""
        ...


@dataclass(frozen=True)
class StoredTruth:
    """Quotas are rows."""

    backing: Backing

    def check(self, change: QuotaChange, after: Snapshot) -> None:
        """Hold the rules that a cluster's admission would hold."""
        for problem in check_quotas(after):
            if problem.severity == "error" and (problem.project, problem.pool) == (change.name, change.pool):
                field = "/lending_limit" if problem.code == "lending_limit_above_nominal" else "/borrowing_limit"
                raise InvalidError.field(field, problem.message, hint="change the limit, or the project's cohort")

    def record(self, work: UnitOfWork, change: QuotaChange) -> QuotaChange:
        """Write the row."""
        quotas = work.of(change.project).quotas
        if change.share is None:
            quotas.get(pool=change.pool)
            quotas.delete(pool=change.pool)
        else:
            work.pools.get(name=change.pool)
            wished = StoredQuota(project=change.project, pool=change.pool, **change.share.model_dump())
            known = quotas.find(pool=change.pool)
            if known is None:
                quotas.add(wished)
            else:
                quotas.save(wished.model_copy(update={"version": known.version}))
            self.check(change, take(self.backing, work))
        done = {"state": ChangeState.APPLIED, "ended_at": self.backing.clock.now()}
        return change.model_copy(update=done)


@dataclass(frozen=True)
class ResourceTruth:
    """Quotas are fields of resources in a cluster: a change is tried there, kept, and carried out by the worker."""

    resources: ProjectResources

    def check(self, change: QuotaChange, after: Snapshot) -> None:  # noqa: ARG002 - interface
        """Let the API server try it: the rules are its own."""
        self.resources.check(change)

    def record(self, work: UnitOfWork, change: QuotaChange) -> QuotaChange:
        """Leave it pending; a later one for the same quota is carried out after it."""
        work.pools.get(name=change.pool)
        return change


def take(backing: Backing, work: UnitOfWork) -> Snapshot:
    """Return what decisions depend on now."""
    return backing.admission.snapshot(work)


@dataclass(frozen=True)
class Ledger(UseCases):
    """What every project has, uses, borrows and lends."""

    def all(self) -> list[Line]:
        """Return every line (admins)."""
        with self.backing.database.read() as work:
            return _lines(self.backing, work, None)


@dataclass(frozen=True)
class Quotas(ProjectUseCases):
    """The quotas of one project."""

    truth: QuotaTruth

    def all(self) -> list[Line]:
        """Return the project's lines."""
        with self.backing.database.read() as work:
            return _lines(self.backing, work, self.project)

    def change(self, pool: str, share: Share | None, *, dry_run: bool = False) -> tuple[QuotaChange, Foreseen]:
        """Set the project's share of a pool, or take it away (None); what is held then stays until its jobs end.

        With ``dry_run`` nothing is kept, and who else manages the quota is told in the change, beside what it would do:
        that is worth knowing before the change is made where it is managed.

        Returns the change, and what it would do at once.

        Raises:
            NotFoundError: no such pool; or no quota to take away.
            InvalidError: the limits contradict the nominal quota or need a cohort.
            ConflictError: somebody else manages the quota in the cluster.
        """
        backing, who = self.backing, self.caller.principal.user
        with backing.database.read() as work:
            name = work.projects.get(id=self.project).name
            work.pools.get(name=pool)
            if share is None:
                work.of(self.project).quotas.get(pool=pool)
            before = take(backing, work)
        change = QuotaChange(
            id=backing.new_id("qch"),
            project=self.project,
            name=name,
            pool=pool,
            share=share,
            created_by=who,
            created_at=backing.clock.now(),
        )
        wished = _with(before, change)
        foreseen = _foreseen(before, wished)
        try:
            self.truth.check(change, wished)
        except ConflictError as refused:
            if not dry_run:
                raise
            change = change.model_copy(update={"state": ChangeState.REFUSED, "problem": str(refused)})
        if dry_run:
            return change, foreseen
        with backing.database.write() as work:
            change = self.truth.record(work, change)
            work.of(self.project).quota_changes.add(change)
            self.audit(work, "quota.delete" if share is None else "quota.put", pool, self.project)
        return change, foreseen

    def get_change(self, change: str) -> QuotaChange:
        """Return a change, with how far it has come."""
        with self.backing.database.read() as work:
            return work.of(self.project).quota_changes.get(id=change)


def _with(snapshot: Snapshot, change: QuotaChange) -> Snapshot:
    """Return the snapshot as it is once the change has been carried out."""
    mine = next((q for q in snapshot.quotas if (q.project, q.pool) == (change.name, change.pool)), None)
    others = [one for one in snapshot.quotas if one is not mine]
    if change.share is not None:
        stopped = mine is not None and mine.stopped
        others.append(Quota(project=change.name, pool=change.pool, stopped=stopped, **change.share.model_dump()))
    return snapshot.model_copy(update={"quotas": tuple(others)})


def _foreseen(before: Snapshot, after: Snapshot) -> Foreseen:
    """Return what the scheduler does after a change and would not have done without it."""
    old, new = schedule(before), schedule(after)
    owners = {claim.job: claim.project for claim in before.claims}
    stopped = {each.job for each in new.preempt} - {each.job for each in old.preempt}
    started = set(new.admit) - set(old.admit)
    return Foreseen(
        preempts={job: owners[job] for job in sorted(stopped)}, starts={job: owners[job] for job in sorted(started)}
    )


def in_use(snapshot: Snapshot) -> dict[str, int]:
    """Return the GPUs that jobs hold, by pool."""
    used: dict[str, int] = {}
    for claim in snapshot.claims:
        if claim.admitted_at is not None:
            used[claim.pool] = used.get(claim.pool, 0) + claim.gpus
    return used


def promised(snapshot: Snapshot) -> dict[str, int]:
    """Return the sum of nominal quotas, by pool."""
    found: dict[str, int] = {}
    for quota in snapshot.quotas:
        found[quota.pool] = found.get(quota.pool, 0) + quota.nominal
    return found


def _lines(backing: Backing, work: UnitOfWork, project: str | None) -> list[Line]:
    projects = {one.name: one for one in work.projects.all()}
    inside = work.everywhere() if project is None else work.of(project)
    stored = {(quota.project, quota.pool): quota for quota in inside.quotas.all()}
    waits = _waits(inside.waits.all())
    reasons = {one.job: one.reason for one in work.claims.all() if one.reason}
    lines = []
    for account in accounts(take(backing, work)):
        owner = projects.get(account.row.project)
        quota = stored.get((owner.id, account.row.pool)) if owner else None
        if owner is not None and quota is not None:
            lines.append(Line(account, quota, owner, waits.get((owner.id, quota.pool), Waits()), reasons))
    return lines


def _waits(found: Iterable[Wait]) -> dict[tuple[str, str], Waits]:
    by_quota: dict[tuple[str, str], list[float]] = {}
    for wait in found:
        by_quota.setdefault((wait.project, wait.pool), []).append(wait.seconds)
    return {quota: Waits.of(seconds) for quota, seconds in by_quota.items()}
