"""The view of a cluster that keeps itself: watches, what they mean, and what is asked beside them."""

import threading
import time
from collections.abc import Hashable, Iterator
from typing import Final, NamedTuple

from windlass.domain.errors import UnavailableError
from windlass.domain.mirror import Mirror
from windlass.kube.client import Client
from windlass.kube.inquiry import Inquiry
from windlass.kube.kinds import CLUSTER_QUEUE, COHORT, EVENT, LOCAL_QUEUE, NODE, POD, POOL, PROJECT, WORKLOAD
from windlass.kube.kueue.facts import Event, Node, Pod
from windlass.kube.kueue.pods import lacks_image
from windlass.kube.kueue.queues import Cohort, LocalQueue
from windlass.kube.kueue.snapshot import ClusterState
from windlass.kube.kueue.workload import PendingWorkloads
from windlass.kube.mirroring import (
    Sight,
    mirror_of,
    read_pool,
    read_project,
    read_queue,
    read_workload,
    waiting,
)
from windlass.kube.objects import Kind
from windlass.kube.readings import Readings
from windlass.kube.slimming import PODS_OF_WORKLOADS, slim
from windlass.kube.store import Store
from windlass.kube.watching import Health, Keeper, Pace, Source
from windlass.ports import Clock

REQUIRED: Final = (POOL, PROJECT, CLUSTER_QUEUE, LOCAL_QUEUE, COHORT, WORKLOAD)
"""What a Mirror cannot be without."""
OURS: Final = (POOL, PROJECT)
"""Without their definitions there is no cluster of Windlass: it is not taken for one without projects."""
SOURCES: Final = (*(Source(kind) for kind in REQUIRED), Source(POD, PODS_OF_WORKLOADS), Source(NODE))
_LINE: Final = "/apis/visibility.kueue.x-k8s.io/v1beta2/clusterqueues/{}/pendingworkloads"
_BETWEEN_LOOKS: Final = 0.25
"""Seconds. Changes come in swarms: who waits for news has it so often at most."""
_REST: Final = 4.0
"""So many times the processor's time of a look is rested after it: the larger a cluster, the rarer its looks."""
_MOST_EVENTS: Final = 20
"""Pods without their image whose events are asked for at a time: more of them fail for the same reason."""


class _PodName(NamedTuple):
    namespace: str
    name: str
    uid: str


class WatchedCluster:
    """Implements ``windlass.ports.ClusterView``.

    ``limit``: seconds without a word of the API server after which what is known is no longer told; longer than the
    pace's silence. Pods, nodes, lines and events are told as far as they can be read.
    """

    def __init__(self, client: Client, clock: Clock, pace: Pace | None = None, *, limit: float = 150.0) -> None:
        self._client, self._clock, self._limit = client, clock, limit
        self._news, self._stopped = threading.Event(), threading.Event()
        self._next_look = 0.0
        self._one_look = threading.Lock()
        self._store = Store(slim)
        self._keeper = Keeper(client, self._store, SOURCES, lambda _: self._news.set(), pace)
        self._lines: Inquiry[str, PendingWorkloads] = Inquiry(self._ask_line, self._news.set, name="ask lines")
        self._events: Inquiry[_PodName, tuple[Event, ...]] = Inquiry(
            self._ask_events, self._news.set, name="ask events"
        )
        self._pools, self._projects = Readings(read_pool), Readings(read_project)
        self._queues, self._doors = Readings(read_queue), Readings(LocalQueue.parse)
        self._cohorts, self._workloads = Readings(Cohort.parse), Readings(read_workload)
        self._pods, self._nodes = Readings(Pod.parse), Readings(Node.parse)

    def start(self) -> None:
        """Begin to list, watch and ask, in threads of its own; what was stopped does not start again."""
        self._keeper.start()
        self._lines.start()
        self._events.start()

    def stop(self) -> None:
        """End the threads, and whoever waits."""
        self._stopped.set()
        self._news.set()
        self._keeper.stop()
        self._lines.stop()
        self._events.stop()

    def wait(self, seconds: float) -> bool:
        """Wait for news since the last ``look``; False when there were none in time, or the view was stopped.

        Of a swarm of news it lets the first one pass, and holds back after each look: for a quarter of a second, and
        four times as long as the look kept a processor busy.
        """
        until = time.monotonic() + seconds
        if not self._news.wait(max(0.0, seconds)):
            return False
        now = time.monotonic()
        pause = min(self._next_look, until) - now
        return not self._stopped.wait(pause) if pause > 0 else not self._stopped.is_set()

    def look(self) -> Mirror:
        """Return the present state.

        Raises:
            UnavailableError: not everything has been read yet, or the API server has not been heard of for too long.
        """
        with self._one_look:
            self._news.clear()
            began, worked = time.monotonic(), time.thread_time()
            try:
                health = self._keeper.health()
                self._demand(health)
                return mirror_of(self._sight(health))
            finally:
                rest = _REST * (time.thread_time() - worked)
                self._next_look = max(began + _BETWEEN_LOOKS, time.monotonic() + rest)

    def health(self) -> dict[Kind, Health]:
        """Return what is known of each kind that is watched."""
        return self._keeper.health()

    def _demand(self, health: dict[Kind, Health]) -> None:
        for kind in REQUIRED:
            one = health[kind]
            because = f": {one.problem}" if one.problem else ""
            if not one.read:
                raise UnavailableError(f"The cluster has not been read yet, {kind} is missing{because}")
            if one.silent > self._limit:
                raise UnavailableError(f"The cluster has said nothing of {kind} for {one.silent:.0f} s{because}")
            if kind in OURS and not one.served:
                raise UnavailableError(f"The cluster does not serve {kind}: the definitions are not installed")

    def _sight(self, health: dict[Kind, Health]) -> Sight:
        store = self._store
        pools, odd_pools = self._pools.take(store.all(POOL))
        projects, odd_projects = self._projects.take(store.all(PROJECT))
        queues, odd_queues = self._queues.take(store.all(CLUSTER_QUEUE))
        doors, odd_doors = self._doors.take(store.all(LOCAL_QUEUE))
        cohorts, odd_cohorts = self._cohorts.take(store.all(COHORT))
        workloads, odd_workloads = self._workloads.take(store.all(WORKLOAD))
        pods, _ = self._pods.take(store.all(POD))
        nodes, _ = self._nodes.take(store.all(NODE))
        state = ClusterState(
            now=self._clock.now(),
            pools=tuple(one.resource for one in sorted(pools, key=lambda one: one.pool.name)),
            cluster_queues=queues,
            local_queues=doors,
            cohorts=cohorts,
            workloads=workloads,
        )
        self._lines.want(waiting(state))
        self._events.want(dict.fromkeys(_without_image(pods), ""))
        odd = (*odd_pools, *odd_projects, *odd_queues, *odd_doors, *odd_cohorts, *odd_workloads)
        return Sight(
            state=state,
            pools=sorted(pools, key=lambda one: one.pool.name),
            projects=sorted(projects, key=lambda one: one.project.name),
            lines=self._lines.answers(),
            pods=pods if self._readable(health[POD]) else None,
            nodes={one.metadata.name: one for one in nodes} if self._readable(health[NODE]) else None,
            events=[event for answer in self._events.answers().values() for event in answer],
            notes=(*self._gaps(health), *odd),
        )

    def _gaps(self, health: dict[Kind, Health]) -> Iterator[str]:
        for kind, one in health.items():
            if not one.served:
                yield f"The cluster does not serve {kind}"
            elif not self._readable(one) and one.problem:
                yield f"{kind} cannot be read: {one.problem}"

    def _readable(self, one: Health) -> bool:
        return one.read and one.silent <= self._limit

    def _ask_line(self, queue: str, state: Hashable) -> tuple[PendingWorkloads, bool]:
        """Ask Kueue who waits before a queue; the last word if it has all that wait."""
        raw = self._client.read(_LINE.format(queue))
        line = PendingWorkloads.model_validate(raw)
        expected = {key for key, _ in state} if isinstance(state, frozenset) else set()
        return line, expected <= {one.key for one in line.items}

    def _ask_events(self, pod: _PodName, _: Hashable) -> tuple[tuple[Event, ...], bool]:
        """Ask what happened to a pod; the last word if somebody warned of something."""
        listed = self._client.list(EVENT, pod.namespace, fields=f"involvedObject.uid={pod.uid}")
        events = Event.parse_all(listed.items)
        return events, any(one.warning for one in events)


def _without_image(pods: tuple[Pod, ...]) -> list[_PodName]:
    found = [one.metadata for one in pods if lacks_image(one)]
    return [_PodName(one.namespace, one.name, one.uid) for one in found[:_MOST_EVENTS]]
