"""The ledger (nominal quota, usage, borrowing and pending jobs by project and pool) and changes of quotas."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import quantiles

from windlass.domain.cluster_sync import ChangeState, QuotaChange, QuotaSpec
from windlass.domain.errors import ConflictError
from windlass.domain.jobs import DomainModel, Reason
from windlass.domain.projects import Project, QueueTimeSample, StoredQuota
from windlass.domain.quota import Account, Quota, Snapshot, accounts, schedule
from windlass.ports import PlatformData, ReadProjectData, ReadUnitOfWork
from windlass.services.base import BaseService, ProjectService, ServiceDependencies

QUEUE_TIME_WINDOW = timedelta(days=7)
"""Window of the queue time quantiles."""


@dataclass(frozen=True)
class QueueTimeQuantiles:
    """Quantiles of the time until first admission, in seconds; None without an admission in the window."""

    p50: float | None = None
    p90: float | None = None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "QueueTimeQuantiles":
        """Return the quantiles, interpolated linearly between the two nearest samples (the inclusive method)."""
        if not seconds:
            return cls()
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0])
        cuts = quantiles(seconds, n=10, method="inclusive")
        return cls(cuts[4], cuts[8])


@dataclass(frozen=True)
class LedgerEntry:
    """A quota with its project, usage and queue times. ``reasons``: by job, the cluster's reasons for pending jobs."""

    account: Account
    quota: StoredQuota
    project: Project
    queue_times: QueueTimeQuantiles
    reasons: Mapping[str, Reason]


class ChangePreview(DomainModel):
    """The immediate effects of a quota change: project names by job id."""

    preempts: Mapping[str, str] = {}
    starts: Mapping[str, str] = {}


@dataclass(frozen=True)
class Ledger(BaseService):
    """The ledger of all projects, for platform admins."""

    def all(self) -> list[LedgerEntry]:
        """Return every entry."""
        with self.deps.database.read() as uow:
            return _entries(self.deps, uow, None)


@dataclass(frozen=True)
class Quotas(ProjectService):
    """The quotas of one project."""

    def all(self) -> list[LedgerEntry]:
        """Return the project's ledger entries."""
        with self.deps.database.read() as uow:
            return _entries(self.deps, uow, self.project)

    def change(self, pool: str, spec: QuotaSpec | None, *, dry_run: bool = False) -> tuple[QuotaChange, ChangePreview]:
        """Set the project's quota in a pool, or delete it (None). Admitted jobs keep their GPUs until they end.

        With ``dry_run`` nothing is stored, and a conflict with another field manager is reported in the change's
        ``problem`` instead of raised.

        Returns the change and a preview of its immediate effects.

        Raises:
            NotFoundError: no such pool, or no quota to delete.
            InvalidError: the limits contradict the nominal quota or need a cohort.
            ConflictError: another field manager owns the quota in the cluster.
        """
        deps = self.deps
        with deps.database.read() as uow:
            repos = uow.project(self.project)
            name = uow.projects.get({"id": self.project}).name
            uow.pools.get({"name": pool})
            if spec is None:
                repos.quotas.get({"pool": pool})
            before = deps.admission.snapshot(uow)
        change = QuotaChange(
            id=deps.new_id("qch"),
            project=self.project,
            name=name,
            pool=pool,
            spec=spec,
            created_by=self.caller.principal.user,
            created_at=deps.clock.now(),
        )
        after = _with_change(before, change)
        preview = _preview_change(before, after)
        try:
            deps.quota_backend.check(change, after)
        except ConflictError as refused:
            if not dry_run:
                raise
            change = change.model_copy(update={"state": ChangeState.REFUSED, "problem": str(refused)})
        if dry_run:
            return change, preview
        with deps.database.write() as uow:
            repos = uow.project(self.project)
            stored = repos.quotas.find({"pool": pool})
            old = None if stored is None else QuotaSpec(**stored.model_dump(include=set(QuotaSpec.model_fields)))
            change = deps.quota_backend.record(uow, change)
            repos.quota_changes.add(change)
            action = "quota.delete" if spec is None else "quota.put"
            self.audit(uow, action, pool, pool, self.project, before=old, after=spec)
        return change, preview

    def get_change(self, change: str) -> QuotaChange:
        """Return a change with its state."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).quota_changes.get({"id": change})


def _with_change(snapshot: Snapshot, change: QuotaChange) -> Snapshot:
    """Return the snapshot with the change applied."""
    old = next((q for q in snapshot.quotas if (q.project, q.pool) == (change.name, change.pool)), None)
    quotas = [quota for quota in snapshot.quotas if quota is not old]
    if change.spec is not None:
        stopped = old is not None and old.stopped
        quotas.append(Quota(project=change.name, pool=change.pool, stopped=stopped, **change.spec.model_dump()))
    return snapshot.model_copy(update={"quotas": tuple(quotas)})


def _preview_change(before: Snapshot, after: Snapshot) -> ChangePreview:
    """Return the preemptions and admissions that the change causes in the next scheduling cycle."""
    old, new = schedule(before), schedule(after)
    projects = {demand.job: demand.project for demand in before.demands}
    preempted = {each.job for each in new.preempt} - {each.job for each in old.preempt}
    admitted = set(new.admit) - set(old.admit)
    return ChangePreview(
        preempts={job: projects[job] for job in sorted(preempted)},
        starts={job: projects[job] for job in sorted(admitted)},
    )


def used_by_pool(snapshot: Snapshot) -> dict[str, int]:
    """Return the number of admitted GPUs by pool."""
    used: dict[str, int] = {}
    for demand in snapshot.demands:
        if demand.admitted_at is not None:
            used[demand.pool] = used.get(demand.pool, 0) + demand.gpus
    return used


def nominal_by_pool(snapshot: Snapshot) -> dict[str, int]:
    """Return the sum of nominal quotas by pool."""
    nominal: dict[str, int] = {}
    for quota in snapshot.quotas:
        nominal[quota.pool] = nominal.get(quota.pool, 0) + quota.nominal
    return nominal


def _entries(deps: ServiceDependencies, uow: ReadUnitOfWork, uid: str | None) -> list[LedgerEntry]:
    repos: PlatformData | ReadProjectData = uow.platform() if uid is None else uow.project(uid)
    projects = {project.name: project for project in uow.projects.all(None if uid is None else {"id": uid})}
    stored = {(quota.project, quota.pool): quota for quota in repos.quotas.all()}
    queue_times = _quantiles_by_quota(repos.queue_times.all())
    reasons = {demand.job: demand.reason for demand in uow.demands.all() if demand.reason}
    entries = []
    for account in accounts(deps.admission.snapshot(uow)):
        project = projects.get(account.row.project)
        quota = stored.get((project.id, account.row.pool)) if project else None
        if project is not None and quota is not None:
            times = queue_times.get((project.id, quota.pool), QueueTimeQuantiles())
            entries.append(LedgerEntry(account, quota, project, times, reasons))
    return entries


def _quantiles_by_quota(samples: Iterable[QueueTimeSample]) -> dict[tuple[str, str], QueueTimeQuantiles]:
    by_quota: dict[tuple[str, str], list[float]] = {}
    for sample in samples:
        by_quota.setdefault((sample.project, sample.pool), []).append(sample.seconds)
    return {quota: QueueTimeQuantiles.of(seconds) for quota, seconds in by_quota.items()}
