"""A view of the cluster that informers keep up to date; what cannot be watched is polled."""

import threading
import time
from collections.abc import Hashable, Iterable, Iterator
from typing import Final, NamedTuple

from windlass.domain.cluster_sync import ObservedClusterState
from windlass.domain.errors import UnavailableError
from windlass.kube.cache.deleted_objects import DeletedObjects
from windlass.kube.cache.informer import InformerHandlers, SharedInformer, WatchStatus, WatchTarget, WatchTimings
from windlass.kube.cache.parse_cache import ParseCache
from windlass.kube.cache.polling_cache import PollingCache
from windlass.kube.cache.store import Change, Store
from windlass.kube.cache.transform import PODSET_LABEL, transform
from windlass.kube.client import KubeClient
from windlass.kube.kinds import (
    CLUSTER_QUEUE,
    COHORT,
    EVENT,
    LOCAL_QUEUE,
    NODE,
    POD,
    POOL,
    PROJECT,
    RAY_JOB,
    RAY_SERVICE,
    WORKLOAD,
)
from windlass.kube.kueue.cluster_objects import KubeEvent, Node, Pod, RayJob
from windlass.kube.kueue.parse import parse_cluster_queue, parse_workload
from windlass.kube.kueue.pods import lacks_image
from windlass.kube.kueue.queues import Cohort, LocalQueue
from windlass.kube.kueue.reservations import DeletedWorkload
from windlass.kube.kueue.snapshot import KueueState
from windlass.kube.kueue.workload import PendingWorkloads
from windlass.kube.names import APPLICATION_ANNOTATION, ENDPOINT_LABEL, RUN_LABEL
from windlass.kube.objects import Kind, Object
from windlass.kube.projection import (
    ClusterObservation,
    observed_state,
    parse_pool,
    parse_project,
    pending_by_queue,
)
from windlass.ports import Clock

REQUIRED_KINDS: Final = (POOL, PROJECT, CLUSTER_QUEUE, LOCAL_QUEUE, COHORT, WORKLOAD)
"""An ObservedClusterState needs all of them."""
WINDLASS_KINDS: Final = (POOL, PROJECT)
"""Without their CRDs the state is unavailable, not empty."""
WATCH_TARGETS: Final = (
    *(WatchTarget(kind) for kind in REQUIRED_KINDS),
    WatchTarget(POD, PODSET_LABEL),
    WatchTarget(RAY_JOB, RUN_LABEL),
    WatchTarget(RAY_SERVICE, ENDPOINT_LABEL),
    WatchTarget(NODE),
)
_PENDING_WORKLOADS_PATH: Final = "/apis/visibility.kueue.x-k8s.io/v1beta2/clusterqueues/{}/pendingworkloads"
_MIN_INTERVAL: Final = 0.25
"""Seconds between two observations: bounds the rate in a burst of changes."""
_CPU_FACTOR: Final = 4.0
"""The pause after an observation, as a multiple of its CPU time: bounds the load in large clusters."""
_MAX_EVENT_QUERIES: Final = 20
"""Pods without an image whose events are fetched at a time; the others usually fail for the same reason."""


class _PodName(NamedTuple):
    namespace: str
    name: str
    uid: str


class InformerClusterView:
    """Implements ``windlass.ports.ClusterView``.

    ``max_staleness``: seconds without data from the API server after which the state is unavailable; must exceed the
    idle timeout. Pods, nodes, pending workloads and events are optional.
    """

    def __init__(
        self,
        client: KubeClient,
        clock: Clock,
        timings: WatchTimings | None = None,
        *,
        max_staleness: float = 150.0,
    ) -> None:
        self._client, self._clock, self._max_staleness = client, clock, max_staleness
        self._changed, self._stopped = threading.Event(), threading.Event()
        self._not_before = 0.0
        self._observe_lock = threading.Lock()
        self._store = Store(transform)
        self._deleted_workloads = DeletedObjects(WORKLOAD, clock)
        self._deleted_services = DeletedObjects(RAY_SERVICE, clock)
        handlers = InformerHandlers(self._on_change, on_sync=lambda _: self._changed.set())
        self._informer = SharedInformer(client, self._store, WATCH_TARGETS, handlers, timings)
        self._pending_workloads: PollingCache[str, PendingWorkloads] = PollingCache(
            self._fetch_pending_workloads, self._changed.set, name="poll pending workloads"
        )
        self._events: PollingCache[_PodName, tuple[KubeEvent, ...]] = PollingCache(
            self._fetch_events, self._changed.set, name="poll events"
        )
        self._pools, self._projects = ParseCache(parse_pool), ParseCache(parse_project)
        self._queues, self._local_queues = ParseCache(parse_cluster_queue), ParseCache(LocalQueue.parse)
        self._cohorts, self._workloads = ParseCache(Cohort.parse), ParseCache(parse_workload)
        self._last_workloads = ParseCache(parse_workload)
        self._pods, self._nodes = ParseCache(Pod.parse), ParseCache(Node.parse)
        self._ray_jobs = ParseCache(RayJob.parse)

    def start(self) -> None:
        """Start to list, watch and poll, in threads; a stopped view cannot be restarted."""
        self._informer.start()
        self._pending_workloads.start()
        self._events.start()

    def stop(self) -> None:
        """Stop the threads and wake waiting callers."""
        self._stopped.set()
        self._changed.set()
        self._informer.stop()
        self._pending_workloads.stop()
        self._events.stop()

    def wait(self, seconds: float) -> bool:
        """Wait for a change since the last ``observe``; False after ``seconds`` without one, or if stopped.

        Limits the rate of observations: at least a quarter of a second, and four times the CPU time of the last one,
        pass between two of them.
        """
        deadline = time.monotonic() + seconds
        if not self._changed.wait(max(0.0, seconds)):
            return False
        now = time.monotonic()
        pause = min(self._not_before, deadline) - now
        return not self._stopped.wait(pause) if pause > 0 else not self._stopped.is_set()

    def observe(self) -> ObservedClusterState:
        """Return the current state.

        Raises:
            UnavailableError: not all required kinds are synced, or the API server has been silent for too long.
        """
        with self._observe_lock:
            self._changed.clear()
            started, cpu_started = time.monotonic(), time.thread_time()
            try:
                status = self._informer.status()
                self._require_synced(status)
                return observed_state(self._observation(status))
            finally:
                pause = _CPU_FACTOR * (time.thread_time() - cpu_started)
                self._not_before = max(started + _MIN_INTERVAL, time.monotonic() + pause)

    def status(self) -> dict[Kind, WatchStatus]:
        """Return the sync status of each watched kind."""
        return self._informer.status()

    def _on_change(self, change: Change) -> None:
        self._deleted_workloads.on_change(change)
        self._deleted_services.on_change(change)
        self._changed.set()

    def _require_synced(self, status: dict[Kind, WatchStatus]) -> None:
        for kind in REQUIRED_KINDS:
            watch = status[kind]
            cause = f": {watch.error}" if watch.error else ""
            if not watch.synced:
                raise UnavailableError(f"The cluster state is incomplete: {kind} is not synced yet{cause}")
            if watch.idle_seconds > self._max_staleness:
                raise UnavailableError(
                    f"The cluster state is stale: no data about {kind} for {watch.idle_seconds:.0f} s{cause}"
                )
            if kind in WINDLASS_KINDS and not watch.served:
                raise UnavailableError(f"The cluster does not serve {kind}: the Windlass CRDs are not installed")

    def _observation(self, status: dict[Kind, WatchStatus]) -> ClusterObservation:
        store = self._store
        pools, invalid_pools = self._pools.parse(store.all(POOL))
        projects, invalid_projects = self._projects.parse(store.all(PROJECT))
        queues, invalid_queues = self._queues.parse(store.all(CLUSTER_QUEUE))
        local_queues, invalid_local_queues = self._local_queues.parse(store.all(LOCAL_QUEUE))
        cohorts, invalid_cohorts = self._cohorts.parse(store.all(COHORT))
        workloads, invalid_workloads = self._workloads.parse(store.all(WORKLOAD))
        pods, _ = self._pods.parse(store.all(POD))
        nodes, _ = self._nodes.parse(store.all(NODE))
        ray_jobs, _ = self._ray_jobs.parse(store.all(RAY_JOB))
        state = KueueState(
            now=self._clock.now(),
            pools=tuple(parsed.resource for parsed in sorted(pools, key=lambda parsed: parsed.pool.name)),
            cluster_queues=queues,
            local_queues=local_queues,
            cohorts=cohorts,
            workloads=workloads,
        )
        self._pending_workloads.set_queries(pending_by_queue(state))
        self._events.set_queries(dict.fromkeys(_pods_without_image(pods), ""))
        invalid = (
            *invalid_pools,
            *invalid_projects,
            *invalid_queues,
            *invalid_local_queues,
            *invalid_cohorts,
            *invalid_workloads,
        )
        return ClusterObservation(
            state=state,
            pools=sorted(pools, key=lambda parsed: parsed.pool.name),
            projects=sorted(projects, key=lambda parsed: parsed.project.name),
            pending_workloads=self._pending_workloads.results(),
            deleted_workloads=self._parse_deleted_workloads(),
            pods=pods if self._is_readable(status[POD]) else None,
            nodes={node.metadata.name: node for node in nodes} if self._is_readable(status[NODE]) else None,
            ray_jobs={ray_job.metadata.uid: ray_job for ray_job in ray_jobs},
            apps=_apps([*(each.object for each in self._deleted_services.all()), *store.all(RAY_SERVICE)]),
            events=[event for events in self._events.results().values() for event in events],
            notes=(*self._unavailable_kinds(status), *invalid),
        )

    def _parse_deleted_workloads(self) -> list[DeletedWorkload]:
        deleted = {each.object["metadata"]["uid"]: each for each in self._deleted_workloads.all()}
        workloads, _ = self._last_workloads.parse([each.object for each in deleted.values()])
        return [DeletedWorkload(each, deleted[each.metadata.uid].deleted_at) for each in workloads]

    def _unavailable_kinds(self, status: dict[Kind, WatchStatus]) -> Iterator[str]:
        for kind, watch in status.items():
            if not watch.served:
                yield f"The cluster does not serve {kind}"
            elif not self._is_readable(watch) and watch.error:
                yield f"{kind} cannot be read: {watch.error}"

    def _is_readable(self, watch: WatchStatus) -> bool:
        return watch.synced and watch.idle_seconds <= self._max_staleness

    def _fetch_pending_workloads(self, queue: str, state: Hashable) -> tuple[PendingWorkloads, bool]:
        """Fetch the pending workloads of a ClusterQueue; final if all workloads of ``state`` are among them."""
        raw = self._client.read(_PENDING_WORKLOADS_PATH.format(queue))
        pending = PendingWorkloads.model_validate(raw)
        expected = {key for key, _ in state} if isinstance(state, frozenset) else set()
        return pending, expected <= {workload.key for workload in pending.items}

    def _fetch_events(self, pod: _PodName, _: Hashable) -> tuple[tuple[KubeEvent, ...], bool]:
        """Fetch the events of a pod; final if one is a warning."""
        listed = self._client.list(EVENT, pod.namespace, fields=f"involvedObject.uid={pod.uid}")
        events = KubeEvent.parse_all(listed.items)
        return events, any(event.warning for event in events)


def _apps(services: Iterable[Object]) -> dict[str, str]:
    """Return the application of each RayService that the operators have created, by its uid."""
    keys = ((each["metadata"], each["metadata"].get("annotations") or {}) for each in services)
    return {
        metadata["uid"]: annotations[APPLICATION_ANNOTATION]
        for metadata, annotations in keys
        if APPLICATION_ANNOTATION in annotations
    }


def _pods_without_image(pods: tuple[Pod, ...]) -> list[_PodName]:
    metadata = [pod.metadata for pod in pods if lacks_image(pod)]
    return [_PodName(pod.namespace, pod.name, pod.uid) for pod in metadata[:_MAX_EVENT_QUERIES]]
