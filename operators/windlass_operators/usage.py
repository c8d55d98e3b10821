"""Quota usage of projects and pools: demands are computed once per change of a project, usage once per cohort."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from windlass.domain.quota import ResourceDemand
from windlass.kube.cache.indexer import NAMESPACE_INDEX
from windlass.kube.cache.parse_cache import ParseCache
from windlass.kube.cache.store import Store
from windlass.kube.kueue.parse import parse_cluster_queue, parse_workload
from windlass.kube.kueue.queues import ClusterQueue, LocalQueue
from windlass.kube.kueue.snapshot import KueueState, demands_from_workloads
from windlass.kube.kueue.workload import Workload
from windlass.kube.names import PROJECT_LABEL, namespace_of
from windlass.kube.resources import GPUPool, Project
from windlass.kube.resources.project import QuotaUse
from windlass_operators.decide.project import usage_by_project
from windlass_operators.kinds import CLUSTER_QUEUE, LOCAL_QUEUE, WORKLOAD

_log = logging.getLogger(__name__)
_Token = tuple[object, ...]
"""Versions of everything that a value was computed from."""


@dataclass
class _ProjectDemands:
    """The demands of one project, and its parsed objects."""

    token: _Token = ()
    demands: tuple[ResourceDemand, ...] = ()
    valid_until: datetime | None = None
    """When the next requeue back-off of a workload is over, which no event reports."""
    queues: ParseCache[ClusterQueue] = field(default_factory=lambda: ParseCache(parse_cluster_queue))
    local_queues: ParseCache[LocalQueue] = field(default_factory=lambda: ParseCache(LocalQueue.parse))
    workloads: ParseCache[Workload] = field(default_factory=lambda: ParseCache(parse_workload))


@dataclass(frozen=True)
class _CohortUsage:
    """The usage of the projects of one cohort, by project and pool."""

    revision: _Token
    """Of everything that is stored: as long as it is the same, no project needs a comparison."""
    token: _Token
    valid_until: datetime | None
    use: Mapping[str, Mapping[str, QuotaUse]]


class _Revisions:
    """The revisions of the stored objects from which the demands of all projects are computed."""

    def __init__(self, store: Store, pools: Mapping[str, GPUPool]) -> None:
        self._pools = _pools_token(pools)
        self._workloads = store.revisions(WORKLOAD, NAMESPACE_INDEX)
        self._cluster_queues = store.revisions(CLUSTER_QUEUE, PROJECT_LABEL)
        self._local_queues = store.revisions(LOCAL_QUEUE, NAMESPACE_INDEX)

    def token(self, project: str, namespace: str) -> _Token:
        """Return the revisions of one project's objects."""
        queues = self._cluster_queues[project], self._local_queues[namespace]
        return self._pools, self._workloads[namespace], *queues


class UsageCache:
    """Computes usage from the stored Workloads and queues. Thread-safe."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        self._lock = threading.Lock()
        self._demands: defaultdict[str, _ProjectDemands] = defaultdict(_ProjectDemands)
        self._cohorts: dict[tuple[str, str], _CohortUsage] = {}

    def of_project(
        self, project: Project, members: Mapping[str, Project], pools: Mapping[str, GPUPool]
    ) -> tuple[Mapping[str, QuotaUse], set[str]]:
        """Return the project's usage by pool, and the members whose usage differs from the last result.

        ``members``: the projects of its cohort, including itself.
        """
        name, cohort = project.metadata.name, project.spec.cohort
        key = ("cohort", cohort) if cohort else ("project", name)
        with self._lock:
            before = self._cohorts.get(key)
            revision = (
                _pools_token(pools),
                tuple((each.metadata.uid, each.metadata.generation) for each in members.values()),
                tuple(self._store.revision(kind) for kind in (WORKLOAD, CLUSTER_QUEUE, LOCAL_QUEUE)),
            )
            if before is not None and before.revision == revision and self._is_current(before.valid_until):
                return before.use.get(name, {}), set()
            revisions = _Revisions(self._store, pools)
            demands = [self._demands_of(member, pools, revisions) for member in members]
            valid_until = min((found.valid_until for found in demands if found.valid_until), default=None)
            token = (*revision[:2], tuple(found.token for found in demands), valid_until)
            if before is not None and before.token == token:
                use = before.use
            else:
                use = usage_by_project(pools, members, [each for found in demands for each in found.demands])
            self._cohorts[key] = _CohortUsage(revision, token, valid_until, use)
        if before is None or before.use is use:
            return use.get(name, {}), set()
        changed = {member for member in members if before.use.get(member, {}) != use.get(member, {})}
        return use.get(name, {}), changed - {name}

    def of_pool(self, pool: str, projects: Mapping[str, Project], pools: Mapping[str, GPUPool]) -> dict[str, int]:
        """Return the GPUs of a pool in use, by project."""
        used: dict[str, int] = {}
        with self._lock:
            for name in self._demands.keys() - projects.keys():
                del self._demands[name]
            revisions = _Revisions(self._store, pools)
            for project in projects:
                for demand in self._demands_of(project, pools, revisions).demands:
                    if demand.pool == pool and demand.admitted_at is not None:
                        used[demand.project] = used.get(demand.project, 0) + demand.gpus
        return used

    def _is_current(self, valid_until: datetime | None) -> bool:
        return valid_until is None or self._now() < valid_until

    def _demands_of(self, project: str, pools: Mapping[str, GPUPool], revisions: _Revisions) -> _ProjectDemands:
        store, namespace = self._store, namespace_of(project)
        token = revisions.token(project, namespace)
        found = self._demands[project]
        if found.token == token and self._is_current(found.valid_until):
            return found
        now = self._now()
        workloads, problems = found.workloads.parse(store.all(WORKLOAD, namespace))
        for problem in problems:
            _log.warning("invalid Workload", extra={"error": problem})
        state = KueueState(
            now=now,
            pools=tuple(pools.values()),
            cluster_queues=found.queues.parse(store.by_label(CLUSTER_QUEUE, PROJECT_LABEL, project))[0],
            local_queues=found.local_queues.parse(store.all(LOCAL_QUEUE, namespace))[0],
            workloads=workloads,
        )
        requeues = [each.status.requeue_state.requeue_at for each in workloads if not each.finished]
        found.token, found.demands = token, demands_from_workloads(state)
        found.valid_until = min((moment for moment in requeues if moment and moment > now), default=None)
        return found


def _pools_token(pools: Mapping[str, GPUPool]) -> _Token:
    return tuple((pool.metadata.uid, pool.metadata.generation) for pool in pools.values())
