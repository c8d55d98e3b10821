"""The queue of the embedded scheduler: an index in memory, kept equal to the database by a commit hook."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from pydantic import BaseModel

from windlass.domain.admission import GpuAllocation, GpuRequest, demand_of
from windlass.domain.jobs import Job, Run
from windlass.domain.projects import Pool, Project, StoredQuota
from windlass.domain.quota import Decisions, PoolState, Preemption, QueueDecision, QueueIndex, Quota, Snapshot
from windlass.ports import Changes, Database, ReadUnitOfWork, UnitOfWork

_INPUTS: tuple[type[BaseModel], ...] = (Job, Run, Project, Pool, StoredQuota)
_Entity = TypeVar("_Entity", bound=BaseModel)


def pool_state(pool: Pool) -> PoolState:
    """Return a stored pool as the scheduler sees it."""
    unit = "GPU" if pool.has_gpus else "CPU slot"
    return PoolState(name=pool.name, capacity=pool.capacity, max_gpus_per_job=pool.max_gpus_per_job, unit=unit)


def _ignore_change() -> None:
    return


@dataclass
class _Inputs:
    """The inputs of the scheduler, by key, and the index that is derived from them."""

    projects: dict[str, Project] = field(default_factory=dict)
    requests: dict[str, GpuRequest] = field(default_factory=dict)
    allocations: dict[str, GpuAllocation] = field(default_factory=dict)
    """By job."""
    jobs_by_project: Counter[str] = field(default_factory=Counter)
    index: QueueIndex = field(default_factory=QueueIndex)

    @classmethod
    def load(cls, uow: ReadUnitOfWork) -> "_Inputs":
        """Read everything."""
        inputs = cls()
        for project in uow.projects.all():
            inputs.set_project(project)
        for pool in uow.pools.all():
            inputs.set_pool(pool)
        for quota in uow.admission.quotas():
            inputs.set_quota(quota)
        inputs.allocations = {allocation.job: allocation for allocation in uow.admission.allocations()}
        for request in uow.admission.requests():
            inputs.set_request(request.job, request)
        return inputs

    def set_project(self, project: Project) -> None:
        self.projects[project.id] = project
        self.index.set_cohort(project.name, project.cohort)
        for request in self.requests.values():
            if request.project == project.id:
                self.update_demand(request.job)

    def set_pool(self, pool: Pool) -> None:
        self.index.set_pool(pool_state(pool))

    def set_quota(self, quota: StoredQuota) -> None:
        self.index.set_quota(
            Quota(
                project=self.projects[quota.project].name,
                pool=quota.pool,
                nominal=quota.nominal,
                borrowing_limit=quota.borrowing_limit,
                lending_limit=quota.lending_limit,
            )
        )

    def set_request(self, job: str, request: GpuRequest | None) -> None:
        before = self.requests.pop(job, None)
        if before is not None:
            self.jobs_by_project[before.project] -= 1
        if request is not None:
            self.requests[job] = request
            self.jobs_by_project[request.project] += 1
        self.update_demand(job)

    def set_allocation(self, job: str, allocation: GpuAllocation | None) -> None:
        if allocation is None:
            self.allocations.pop(job, None)
        else:
            self.allocations[job] = allocation
        self.update_demand(job)

    def update_demand(self, job: str) -> None:
        request = self.requests.get(job)
        demand = None
        if request is not None:
            demand = demand_of(request, self.projects[request.project], self.allocations.get(job))
        if demand is None:
            self.index.remove(job)
        else:
            self.index.put(demand)


def read_snapshot(uow: ReadUnitOfWork) -> Snapshot:
    """Read pools, quotas and all demands as this transaction sees them, its own changes included."""
    return _Inputs.load(uow).index.snapshot()


class AdmissionQueue:
    """Answers from memory what the scheduler would decide. The database stays the only truth.

    Every transaction that changes an input of the scheduler increments a sequence number in the database. After its
    commit the index is updated if it had the number before; otherwise another process has changed something, and the
    index is read again.
    """

    def __init__(self, database: Database) -> None:
        self._lock = threading.RLock()
        self._sequence: int | None = None
        """The sequence number that the index has; None: it must be read again."""
        self._inputs = _Inputs()
        self.on_change: Callable[[], None] = _ignore_change
        """Called after a commit that a decision may follow."""
        database.add_commit_hook(self)

    # ---------------------------------------------------------------- the change feed

    def prepare(self, uow: UnitOfWork, changes: Changes) -> Callable[[], None] | None:
        """Number a transaction that changes an input of the scheduler; return the update of the index."""
        if changes.kinds.isdisjoint(_INPUTS):
            return None
        with self._lock:
            updates = self._updates(changes)
        if updates is not None and not updates:
            return None
        sequence = uow.admission.advance()
        return lambda: self._apply(sequence, updates)

    def _updates(self, changes: Changes) -> "list[_Update] | None":
        """Return the updates of the index that the changes need; None: the index must be read again."""
        if self._sequence is None or self._deletes_input(changes):
            return None
        return [*_limit_updates(self._inputs, changes), *_demand_updates(self._inputs, changes)]

    def _deletes_input(self, changes: Changes) -> bool:
        """Return whether an input that the index contains may have been deleted."""
        if any(changes.deleted.get(kind) for kind in (Project, Pool, StoredQuota)):
            return True
        runs = {allocation.run for allocation in self._inputs.allocations.values()}
        return _may_match(changes.deleted.get(Job, ()), self._inputs.requests) or _may_match(
            changes.deleted.get(Run, ()), runs
        )

    def _apply(self, sequence: int, updates: "list[_Update] | None") -> None:
        with self._lock:
            if self._sequence is not None and sequence > self._sequence:
                if updates is None or sequence != self._sequence + 1:
                    self._sequence = None
                else:
                    for update in updates:
                        update(self._inputs)
                    self._sequence = sequence
            wake = self._sequence is None or bool(self._inputs.index.changed)
        if wake:
            self.on_change()

    def _synced(self, uow: ReadUnitOfWork) -> QueueIndex:
        """Return the index, read again if it is older than what ``uow`` sees.

        ``uow`` must not have changed an input yet: its changes are in the index only after its commit.
        """
        sequence = uow.admission.sequence()
        if self._sequence is None or self._sequence < sequence:
            self._inputs, self._sequence = _Inputs.load(uow), sequence
        return self._inputs.index

    # ---------------------------------------------------------------- questions

    def decide(self, uow: ReadUnitOfWork) -> Decisions:
        """Return whom to admit and preempt in the pools that have changed since the last decision that did nothing."""
        admit: list[str] = []
        preempt: list[Preemption] = []
        with self._lock:
            index = self._synced(uow)
            for pool in sorted(index.changed):
                decision = index.decide(pool)
                if not decision.admit and not decision.preempt:
                    index.changed.discard(pool)
                admit += decision.admit
                preempt += decision.preempt
        return Decisions(admit=tuple(admit), preempt=tuple(preempt), waiting={})

    def explain(self, uow: ReadUnitOfWork, jobs: Collection[str]) -> dict[str, QueueDecision]:
        """Return why these jobs wait; a job that does not wait, or is about to be admitted, is left out."""
        with self._lock:
            return self._synced(uow).explain(jobs)

    def unfinished_jobs(self, uow: ReadUnitOfWork, project: str) -> int:
        """Return the number of jobs of a project (its uid) that have not ended."""
        with self._lock:
            self._synced(uow)
            return self._inputs.jobs_by_project[project]

    def limits(self, uow: ReadUnitOfWork) -> Snapshot:
        """Return pools, quotas and cohorts, without demands."""
        with self._lock:
            return self._synced(uow).limits()


_Update = Callable[[_Inputs], None]


def _limit_updates(inputs: _Inputs, changes: Changes) -> Iterator[_Update]:
    """Yield the updates for pools and quotas, and for projects that differ from the inputs."""
    for project in _last(changes, Project, lambda each: each.id):
        known = inputs.projects.get(project.id)
        if known is None or _scheduling_fields(known) != _scheduling_fields(project):
            yield partial(_Inputs.set_project, project=project)
    for pool in _last(changes, Pool, lambda each: each.name):
        yield partial(_Inputs.set_pool, pool=pool)
    for quota in _last(changes, StoredQuota, lambda each: (each.project, each.pool)):
        yield partial(_Inputs.set_quota, quota=quota)


def _demand_updates(inputs: _Inputs, changes: Changes) -> Iterator[_Update]:
    """Yield the updates for jobs and runs that differ from the inputs."""
    for job in _last(changes, Job, lambda each: each.id):
        request = GpuRequest.of_job(job)
        if inputs.requests.get(job.id) != request:
            yield partial(_Inputs.set_request, job=job.id, request=request)
    for run in _last(changes, Run, lambda each: each.id):
        allocation, held = GpuAllocation.of_run(run), inputs.allocations.get(run.job)
        if allocation is None and (held is None or held.run != run.id):
            continue  # it holds nothing; a newer run of the job may
        if allocation != held:
            yield partial(_Inputs.set_allocation, job=run.job, allocation=allocation)


def _last(changes: Changes, kind: type[_Entity], key: Callable[[_Entity], object]) -> list[_Entity]:
    """Return the last saved state of each entity of a kind."""
    return list({key(entity): entity for entity in changes.saved.get(kind, ()) if isinstance(entity, kind)}.values())


def _scheduling_fields(project: Project) -> tuple[str, str | None, int]:
    return project.name, project.cohort, project.priority_ceiling


def _may_match(conditions: Iterable[Mapping[str, object]], ids: Collection[str]) -> bool:
    """Return whether a deletion with one of these conditions may concern an entity with one of these ids."""
    for condition in conditions:
        wanted = condition.get("id")
        if wanted is None:
            return True
        values = wanted if isinstance(wanted, Collection) and not isinstance(wanted, str) else (wanted,)
        if any(each in ids for each in values):
            return True
    return False
