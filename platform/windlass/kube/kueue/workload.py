"""Kueue's Workload, which requests or holds quota (``kueue.x-k8s.io/v1beta2``, as of Kueue 0.19)."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from windlass.domain.warm_trainers import warm_trainer_key
from windlass.kube.kinds import RAY_SERVICE
from windlass.kube.kueue.models import KubeCondition, KubeModel, KubeObject, find_condition, parse_quantity
from windlass.kube.names import SLICE_REPLACEMENT_ANNOTATION, project_of

_REQUEUED_BEHIND = frozenset({"AdmissionCheck", "PodsReadyTimeout"})
"""Evictions after which Kueue queues a workload by the time of the eviction."""
_TRAINER_NAME = re.compile(r"^(job-(?P<job>[0-9a-hjkmnp-tv-z]{26})-r[0-9]+|warm-[0-9a-hjkmnp-tv-z]{26})$")


class ContainerResources(KubeModel):
    """A container's resources; a limit without a request is also the request."""

    requests: Mapping[str, Any] = {}
    limits: Mapping[str, Any] = {}

    def requested(self, resource: str) -> int:
        """Return how much of an extended resource the container requests."""
        return parse_quantity(self.requests.get(resource, self.limits.get(resource, 0)))


class Container(KubeModel):
    """A container of a pod template."""

    name: str = ""
    restart_policy: str = ""
    resources: ContainerResources = ContainerResources()


class PodSpec(KubeModel):
    """A pod template's spec."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()

    def requested(self, resource: str) -> int:
        """Return the pod's effective request: sidecars run with the containers, other init containers before them."""
        sidecars = 0
        init_peak = 0
        for container in self.init_containers:
            if container.restart_policy == "Always":
                sidecars += container.resources.requested(resource)
            else:
                init_peak = max(init_peak, sidecars + container.resources.requested(resource))
        return max(init_peak, sidecars + sum(container.resources.requested(resource) for container in self.containers))


class PodTemplate(KubeModel):
    """A pod template."""

    spec: PodSpec = PodSpec()


class PodSet(KubeModel):
    """Identical pods of a workload."""

    name: str = "main"
    count: int = 1
    template: PodTemplate = PodTemplate()


class WorkloadSpec(KubeModel):
    """The spec of a Workload."""

    queue_name: str = ""
    priority: int = 0
    active: bool = True
    pod_sets: tuple[PodSet, ...] = ()


class PodSetAssignment(KubeModel):
    """The assignment of a pod set: flavors by resource, and the total usage of its pods."""

    name: str = "main"
    count: int = 1
    flavors: Mapping[str, str] = {}
    resource_usage: Mapping[str, Any] = {}


class WorkloadAdmission(KubeModel):
    """The quota that a workload holds."""

    cluster_queue: str
    pod_set_assignments: tuple[PodSetAssignment, ...] = ()


class ReclaimablePod(KubeModel):
    """Pods of a set that have ended and released their quota."""

    name: str
    count: int = 0


class AdmissionCheckState(KubeModel):
    """The state of an admission check."""

    name: str
    state: str = "Pending"
    message: str = ""


class RequeueState(KubeModel):
    """When Kueue requeues the workload after an eviction."""

    count: int = 0
    requeue_at: datetime | None = None


class WorkloadStatus(KubeModel):
    """The status of a Workload."""

    conditions: tuple[KubeCondition, ...] = ()
    admission: WorkloadAdmission | None = None
    reclaimable_pods: tuple[ReclaimablePod, ...] = ()
    admission_checks: tuple[AdmissionCheckState, ...] = ()
    requeue_state: RequeueState = RequeueState()


class Workload(KubeObject):
    """A job, as Kueue queues it."""

    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()

    def condition(self, kind: str) -> KubeCondition | None:
        """Return the condition of a type, or None."""
        return find_condition(self.status.conditions, kind)

    def _is(self, kind: str) -> bool:
        condition = self.condition(kind)
        return condition is not None and condition.true

    @cached_property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self._is("Finished")

    @cached_property
    def quota_reserved(self) -> bool:
        """Whether it holds quota; its pods may have to wait for admission checks."""
        return self._is("QuotaReserved") and self.status.admission is not None

    @cached_property
    def admitted(self) -> bool:
        """Whether its pods may run."""
        return self._is("Admitted")

    @property
    def replaced_slice(self) -> str | None:
        """``namespace/name`` of the workload that it takes the place of, with more pods, when it is admitted."""
        return self.metadata.annotations.get(SLICE_REPLACEMENT_ANNOTATION)

    @cached_property
    def evicted(self) -> bool:
        """Whether it was evicted and not admitted since. It holds its quota until its pods are gone."""
        return self._is("Evicted")

    @cached_property
    def queued_at(self) -> datetime | None:
        """When it was queued, by which Kueue orders it: some evictions put it behind the others."""
        evicted = self.condition("Evicted")
        if evicted is not None and evicted.true and evicted.reason in _REQUEUED_BEHIND:
            return evicted.last_transition_time
        return self.metadata.creation_timestamp

    @cached_property
    def of_job(self) -> bool:
        """Whether it belongs to the RayJob of a Windlass job, or of a warm trainer."""
        return self.metadata.owner is not None and _TRAINER_NAME.match(self.metadata.owner.name) is not None

    @cached_property
    def ray_service(self) -> str | None:
        """The uid of its RayService; None if it belongs to something else."""
        owner = self.metadata.owner
        return owner.uid if owner is not None and owner.kind == RAY_SERVICE.kind else None

    @cached_property
    def job(self) -> str:
        """The id of its job, or the key of its warm trainer; else ``namespace/name`` of its owner or of itself."""
        owner = self.metadata.owner
        name = owner.name if owner else self.metadata.name
        if trainer := _TRAINER_NAME.match(name):
            job, project = trainer["job"], project_of(self.metadata.namespace)
            return f"job_{job}" if job else warm_trainer_key(project or self.metadata.namespace, name)
        return f"{self.metadata.namespace}/{name}" if self.metadata.namespace else name

    def requested(self, resource: str) -> int:
        """Return how much of a resource all its pods request."""
        return sum(pod_set.count * pod_set.template.spec.requested(resource) for pod_set in self.spec.pod_sets)

    def largest_pods(self, resource: str) -> tuple[int, int]:
        """Return how many of its pods request the most of a resource, and how much each of them does."""
        requests = [(pod_set.template.spec.requested(resource), pod_set.count) for pod_set in self.spec.pod_sets]
        most = max((amount for amount, _ in requests), default=0)
        return sum(count for amount, count in requests if amount == most), most

    def reserved(self, resource: str) -> int:
        """Return how much quota of a resource it holds.

        Pods that have ended released theirs, as have those by which an elastic workload became smaller: Kueue changes
        the counts of its pod sets, not those of its admission.
        """
        if self.status.admission is None:
            return 0
        wanted = {pods.name: pods.count for pods in self.spec.pod_sets}
        ended = {pods.name: pods.count for pods in self.status.reclaimable_pods}
        total = 0
        for assignment in self.status.admission.pod_set_assignments:
            amount = parse_quantity(assignment.resource_usage.get(resource, 0))
            name, admitted = assignment.name, assignment.count
            live = max(0, min(admitted, wanted.get(name, admitted) - ended.get(name, 0)))
            total += amount * live // admitted if admitted else 0
        return total

    def flavors(self, resource: str) -> frozenset[str]:
        """Return the flavors assigned for a resource."""
        assignments = self.status.admission.pod_set_assignments if self.status.admission else ()
        return frozenset(item.flavors[resource] for item in assignments if resource in item.flavors)


class PendingWorkload(KubeObject):
    """An item of the visibility API; positions count from 0."""

    priority: int = 0
    local_queue_name: str = ""
    position_in_cluster_queue: int = 0
    position_in_local_queue: int = 0


class PendingWorkloads(KubeModel):
    """The response of ``.../clusterqueues/NAME/pendingworkloads``, in queue order."""

    items: tuple[PendingWorkload, ...] = ()

    @cached_property
    def _positions(self) -> Mapping[str, int]:
        return {item.key: item.position_in_cluster_queue for item in self.items}

    def position(self, key: str) -> int | None:
        """Return the position of ``namespace/name`` in its ClusterQueue, from 0."""
        return self._positions.get(key)

    @cached_property
    def head(self) -> str | None:
        """``namespace/name`` of the first workload."""
        return min(self._positions, key=self._positions.__getitem__, default=None)


def by_key(workloads: Iterable[Workload]) -> dict[str, Workload]:
    """Return workloads by ``namespace/name``."""
    return {workload.key: workload for workload in workloads}
