"""Copies a cluster's pools, projects, quotas and workloads into the database, and applies accepted quota changes.

One worker, the leader, does this: see ``windlass.services.sync_lease``.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, TypeVar

from windlass.domain.cluster_sync import (
    CLUSTER_SYNC_NAME,
    ChangeState,
    ClusterSyncStatus,
    ObservedClusterState,
    ProjectState,
    QueueQuota,
    QuotaChange,
    StoredDemand,
)
from windlass.domain.errors import ConflictError, InvalidError, NotFoundError, PreconditionFailedError, UnavailableError
from windlass.domain.jobs import UNFINISHED_STATES, DomainModel, Job, Reason, move
from windlass.domain.projects import Member, Pool, Project, QueueTimeSample, StoredQuota
from windlass.domain.quota import ResourceDemand
from windlass.kit.boot_time import boot_seconds
from windlass.ports import (
    ClusterView,
    ProjectResources,
    Repository,
    WorkerReadUnitOfWork,
    WorkerUnitOfWork,
)
from windlass.ports.filters import DemandFilter, MemberFilter, PoolFilter, ProjectFilter, QuotaFilter
from windlass.ports.leadership import NotLeaderError
from windlass.services.base import SYSTEM, BaseService, WorkerDependencies, record_audit
from windlass.services.gpu_reservations import reservation_changes
from windlass.services.projects import discard_project
from windlass.services.sync_lease import RowLease
from windlass.services.warm_trainers import attribute_warm_trainers

_log = logging.getLogger(__name__)
E = TypeVar("E", bound=DomainModel)
F = TypeVar("F", bound=Mapping[str, object])


@dataclass(frozen=True)
class ClusterSyncReader(BaseService):
    """Status of the cluster sync, for platform admins."""

    def get(self) -> tuple[ClusterSyncStatus, int]:
        """Return the sync status and the number of pending quota changes.

        Raises:
            NotFoundError: this server has no cluster, or no worker has synced yet.
        """
        with self.deps.database.read() as uow:
            pending = uow.platform().quota_changes.count({"state": ChangeState.PENDING})
            return uow.cluster_sync_status.get({"name": CLUSTER_SYNC_NAME}), pending


@dataclass
class ClusterSync:
    """The sync loop of one worker; only the holder of the lease ``elector`` writes."""

    deps: WorkerDependencies
    view: ClusterView
    resources: ProjectResources
    elector: RowLease
    monotonic: Callable[[], float] = boot_seconds
    observed: ObservedClusterState | None = field(default=None, init=False)
    """The state that was synced last by this worker."""
    _resync: bool = field(default=True, init=False)
    """Whether the last observed state was not written completely."""
    _synced_at: float = field(default=0.0, init=False)
    """When the database last matched the cluster; before the first sync, when the lease was acquired."""

    @property
    def seconds_since_sync(self) -> float:
        """Seconds since the database last matched the cluster; 0 on a worker that is not the leader."""
        return self.monotonic() - self._synced_at if self.elector.held else 0.0

    def step(self) -> bool:
        """Apply pending quota changes and sync the observed state; return whether anything changed.

        Raises:
            UnavailableError: the cluster cannot be read now; this worker stays the leader.
        """
        if not self._ensure_leader():
            self._resync = True
            return False
        try:
            return self._sync_once()
        except UnavailableError:
            if self.elector.renewal_due:
                self.elector.try_acquire_or_renew()
            raise
        except PreconditionFailedError:
            _log.warning("another worker became the leader of the cluster sync", extra={"holder": self.elector.holder})
            self.elector.give_up()
            return False

    def _ensure_leader(self) -> bool:
        if self.elector.is_leader:
            return True
        was_held, started = self.elector.held, self.monotonic()
        acquired = self.elector.try_acquire_or_renew()
        if acquired and not was_held:
            self._synced_at = started
        return acquired

    def _sync_once(self) -> bool:
        changed = self._apply_pending_changes()
        if self.view.wait(0) or self._resync or self.elector.renewal_due:
            self._resync = True
            state = self.view.observe()
            with self.deps.database.read() as uow:
                state = attribute_warm_trainers(uow, state)
            changed |= self._apply_state(state)
            self.observed = state
            self._resync, self._synced_at = False, self.monotonic()
        return changed

    def release(self) -> None:
        """Give up the lease, so that another worker can acquire it at once."""
        self.elector.release()

    # ---------------------------------------------------------------- rows

    def _apply_state(self, state: ObservedClusterState) -> bool:
        """Write the rows that differ from the observed state; return whether any did."""
        observed = {project.project.id for project in state.projects}
        with self.deps.database.read() as uow:
            missing = [(project.id, project.name) for project in uow.projects.all() if project.id not in observed]
            differs = _state_differs(uow, state, observed)
            differs |= bool(reservation_changes(uow.all_projects(), state.reservations, self.deps.clock.now()))
        # A project that is missing from the state may exist but be unreadable: ask the API server before deleting.
        deleted = [uid for uid, name in missing if not self.resources.exists(uid, name)]
        if not deleted and not differs and not self.elector.renewal_due:
            return False
        with self.elector.fenced(synced_at=self.deps.clock.now(), notes=state.notes) as uow:
            return (differs or bool(deleted)) and self._write(uow, state, deleted)

    def _write(self, uow: WorkerUnitOfWork, state: ObservedClusterState, deleted: Sequence[str]) -> bool:
        changed = bool(deleted)
        for uid in deleted:
            self._delete_project(uow, uid)
        changed |= sync_rows(uow.pools, uow.pools.all(), state.pools, _pool_key)
        stored = uow.projects.all()
        known = {project.id for project in stored}
        names = {project.project.id: project.project.name for project in state.projects}
        repos, observed = uow.all_projects(), [project.project.id for project in state.projects]
        changed |= sync_rows(
            uow.projects, stored, [each.project for each in state.projects], _project_key, remove=False
        )
        for uid in set(observed) - known:
            if self.deps.data_keys is not None:
                self.deps.data_keys.create(uow, uid)
            record_audit(self.deps, uow, SYSTEM, "project.create", uid, names[uid], project=uid)
        changed |= sync_rows(repos.members, repos.members.all({"project": observed}), _members(state), _member_key)
        changed |= sync_rows(repos.quotas, repos.quotas.all({"project": observed}), _quotas(state), _quota_key)
        changed |= sync_rows(uow.queue_quotas, uow.queue_quotas.all(), _queue_quotas(state), _quota_key)
        before = {demand.job: demand for demand in uow.demands.all()}
        demands = [
            StoredDemand(**demand.model_dump(), reason=state.reasons.get(demand.job))
            for demand in state.snapshot.demands
        ]
        if sync_rows(uow.demands, before.values(), demands, _demand_key):
            changed = True
            self._record_queue_times(uow, state.projects, before, demands)
        changed |= reservation_changes(repos, state.reservations, self.deps.clock.now()).write(repos)
        self._set_reasons(uow, before, state.reasons)
        return changed

    def _delete_project(self, uow: WorkerUnitOfWork, uid: str) -> None:
        name = uow.projects.get({"id": uid}).name
        discard_project(uow, uid, self.deps.clock.now())
        record_audit(self.deps, uow, SYSTEM, "project.delete", uid, name, project=uid)

    @staticmethod
    def _record_queue_times(
        uow: WorkerUnitOfWork,
        projects: Iterable[ProjectState],
        before: dict[str, StoredDemand],
        demands: Iterable[ResourceDemand],
    ) -> None:
        uids = {project.project.name: project.project.id for project in projects}
        for demand in demands:
            old = before.get(demand.job)
            uid = uids.get(demand.project)
            if uid is None or demand.admitted_at is None or (old is not None and old.admitted_at is not None):
                continue
            queue_times = uow.project(uid).queue_times
            if queue_times.find({"pool": demand.pool, "subject": demand.rank}) is None:
                seconds = max(0.0, (demand.admitted_at - demand.queued_at).total_seconds())
                queue_times.add(
                    QueueTimeSample(
                        project=uid,
                        pool=demand.pool,
                        subject=demand.rank,
                        seconds=seconds,
                        admitted_at=demand.admitted_at,
                    )
                )

    def _set_reasons(
        self, uow: WorkerUnitOfWork, before: Mapping[str, StoredDemand], reasons: Mapping[str, Reason]
    ) -> None:
        """Set the cluster's reasons on the platform's jobs, and remove those that do not apply any more.

        Keys with a slash name other workloads.
        """
        outdated = {job: demand.reason for job, demand in before.items() if demand.reason and job not in reasons}
        ids = [job for job in (*reasons, *outdated) if "/" not in job]
        jobs: list[Job] = uow.all_projects().jobs.all({"id": ids, "state": UNFINISHED_STATES}) if ids else []
        for job in jobs:
            reason = reasons.get(job.id)
            if reason is not None and job.reason != reason:
                uow.project(job.project).jobs.save(move(job, job.state, self.deps.clock.now(), reason))
            elif reason is None and job.reason == outdated[job.id]:
                uow.project(job.project).jobs.save(job.model_copy(update={"reason": None}))

    # ---------------------------------------------------------------- changes

    def _apply_pending_changes(self) -> bool:
        """Apply accepted changes one by one in the order of acceptance; return whether there were any."""
        with self.deps.database.read() as uow:
            pending: list[QuotaChange] = uow.all_projects().quota_changes.all({"state": ChangeState.PENDING})
        for change in pending:
            try:
                self.resources.apply(change)
            except (ConflictError, InvalidError, NotFoundError) as refused:
                self._close_change(change, ChangeState.REFUSED, str(refused))
            except (NotLeaderError, UnavailableError) as error:
                _log.warning("a quota change is postponed", extra={"change": change.id, "error": str(error)})
                return False  # later changes may concern the same quota, so they wait too
            else:
                self._close_change(change, ChangeState.APPLIED, "")
        return bool(pending)

    def _close_change(self, change: QuotaChange, state: ChangeState, problem: str) -> None:
        update = {"state": state, "problem": problem, "ended_at": self.deps.clock.now()}
        with self.elector.fenced() as uow:
            uow.project(change.project).quota_changes.save(change.model_copy(update=update))
            record_audit(
                self.deps, uow, SYSTEM, f"quota-change.{state}", change.id, change.pool, project=change.project
            )


def _members(state: ObservedClusterState) -> list[Member]:
    return [member for project in state.projects for member in project.members]


def _quotas(state: ObservedClusterState) -> list[StoredQuota]:
    return [quota for project in state.projects for quota in project.quotas]


def _queue_quotas(state: ObservedClusterState) -> list[QueueQuota]:
    cohorts = state.snapshot.cohorts
    return [QueueQuota(**quota.model_dump(), cohort=cohorts.get(quota.project)) for quota in state.snapshot.quotas]


def _pool_key(pool: Pool) -> PoolFilter:
    return {"id": pool.id}


def _project_key(project: Project) -> ProjectFilter:
    return {"id": project.id}


def _demand_key(demand: StoredDemand) -> DemandFilter:
    return {"job": demand.job}


def _member_key(member: Member) -> MemberFilter:
    return {"project": member.project, "kind": member.kind, "name": member.name}


def _quota_key(quota: StoredQuota | QueueQuota) -> QuotaFilter:
    return {"project": quota.project, "pool": quota.pool}


def _state_differs(uow: WorkerReadUnitOfWork, state: ObservedClusterState, projects: AbstractSet[str]) -> bool:
    """Return whether any row differs. Most syncs change nothing, and write transactions are expensive."""
    demands = {demand.job: demand for demand in uow.demands.all()}
    observed = {demand.job: demand for demand in state.snapshot.demands}
    repos, uids = uow.all_projects(), list(projects)
    return (
        _rows_differ(uow.pools.all(), state.pools)
        or _rows_differ(uow.projects.all({"id": uids}), [project.project for project in state.projects])
        or _rows_differ(repos.quotas.all({"project": uids}), _quotas(state))
        or _rows_differ(repos.members.all({"project": uids}), _members(state))
        or _rows_differ(uow.queue_quotas.all(), _queue_quotas(state))
        or demands.keys() != observed.keys()
        or any(
            ResourceDemand(**demands[job].model_dump(exclude={"reason"})) != demand
            or demands[job].reason != state.reasons.get(job)
            for job, demand in observed.items()
        )
    )


def _rows_differ(stored: Iterable[E], observed: Iterable[E]) -> bool:
    return {_comparable(row) for row in stored} != {_comparable(row) for row in observed}


def _comparable(row: DomainModel) -> tuple[Any, ...]:
    """Return the fields to compare: all but the row's version."""
    return tuple(sorted(row.model_dump(exclude={"version"}).items()))


def sync_rows(
    rows: Repository[E, F], stored: Iterable[E], desired: Sequence[E], key: Callable[[E], F], *, remove: bool = True
) -> bool:
    """Replace the ``stored`` rows with ``desired``, writing only differences; return whether any differed.

    ``key`` returns the filter that matches this row alone.
    """

    def identity(row: E) -> tuple[object, ...]:
        return tuple(key(row).values())

    by_key = {identity(row): row for row in stored}
    changed = False
    if remove:
        # Deletes come first: a new row may use the unique name of a deleted one.
        for old in by_key.keys() - {identity(row) for row in desired}:
            rows.delete(key(by_key[old]))
            changed = True
    for row in desired:
        before = by_key.get(identity(row))
        if before is None:
            rows.add(row)
            changed = True
        elif _comparable(before) != _comparable(row):
            version = {"version": before.version} if hasattr(before, "version") else {}
            rows.save(row.model_copy(update=version))
            changed = True
    return changed
