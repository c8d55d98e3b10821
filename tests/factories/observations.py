"""From raw objects of a cluster, read now or recorded, to what ``explain`` reads."""

from datetime import UTC, datetime
from typing import Any

from windlass.domain.quota import schedule
from windlass.kube.kueue.explain import Observation
from windlass.kube.kueue.facts import Event, Node, Pod
from windlass.kube.kueue.queues import ClusterQueue, Cohort, LocalQueue
from windlass.kube.kueue.snapshot import ClusterState, take_snapshot
from windlass.kube.kueue.workload import PendingWorkloads, Workload
from windlass.kube.resources import GPUPool

Json = dict[str, Any]


def cluster_state(raw: Json) -> ClusterState:
    return ClusterState(
        now=datetime.now(UTC),
        pools=tuple(GPUPool.model_validate(one) for one in raw["pools"]),
        cluster_queues=ClusterQueue.parse_all(raw["clusterQueues"]),
        local_queues=LocalQueue.parse_all(raw["localQueues"]),
        cohorts=Cohort.parse_all(raw["cohorts"]),
        workloads=Workload.parse_all(raw["workloads"]),
    )


def observation(raw: Json) -> Observation:
    """What is known of the job ``raw["job"]``, ``namespace/name``; what is foreseen follows from the same objects."""
    state = cluster_state(raw)
    mine = next((one for one in state.workloads if one.job == raw["job"]), None)
    foreseen = schedule(take_snapshot(state)).waiting.get(state.jobs.get(mine.key, "")) if mine else None
    line = raw.get("line")
    return Observation(
        workload=mine,
        state=state,
        line=PendingWorkloads.model_validate(line) if line else None,
        foreseen=foreseen,
        pods=Pod.parse_all(raw["pods"]),
        nodes={one["metadata"]["name"]: Node.parse(one) for one in raw["nodes"]},
        events=Event.parse_all(raw["events"]),
    )
