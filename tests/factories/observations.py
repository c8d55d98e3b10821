"""Builds the input of ``explain`` from raw objects of a cluster, live or recorded."""

from datetime import UTC, datetime
from typing import Any

from windlass.domain.quota import schedule
from windlass.kube.kueue.cluster_objects import KubeEvent, Node, Pod
from windlass.kube.kueue.explain import WorkloadObservation
from windlass.kube.kueue.queues import ClusterQueue, Cohort, LocalQueue
from windlass.kube.kueue.snapshot import KueueState, snapshot_from_cluster
from windlass.kube.kueue.workload import PendingWorkloads, Workload
from windlass.kube.resources import GPUPool

Json = dict[str, Any]


def cluster_state(raw: Json) -> KueueState:
    return KueueState(
        now=datetime.now(UTC),
        pools=tuple(GPUPool.model_validate(one) for one in raw["pools"]),
        cluster_queues=ClusterQueue.parse_all(raw["clusterQueues"]),
        local_queues=LocalQueue.parse_all(raw["localQueues"]),
        cohorts=Cohort.parse_all(raw["cohorts"]),
        workloads=Workload.parse_all(raw["workloads"]),
    )


def observation(raw: Json) -> WorkloadObservation:
    """The observation of the job ``raw["job"]``, ``namespace/name``, with a prediction from the same objects."""
    state = cluster_state(raw)
    workload = next((one for one in state.workloads if one.job == raw["job"]), None)
    predicted = (
        schedule(snapshot_from_cluster(state)).waiting.get(state.jobs.get(workload.key, "")) if workload else None
    )
    pending = raw.get("pendingWorkloads")
    return WorkloadObservation(
        workload=workload,
        state=state,
        pending=PendingWorkloads.model_validate(pending) if pending else None,
        predicted=predicted,
        pods=Pod.parse_all(raw["pods"]),
        nodes={one["metadata"]["name"]: Node.parse(one) for one in raw["nodes"]},
        events=KubeEvent.parse_all(raw["events"]),
    )
