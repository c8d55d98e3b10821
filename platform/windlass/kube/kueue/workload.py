"""Kueue's Workload: what wants or holds quota (``kueue.x-k8s.io/v1beta2``, as Kueue 0.19 writes it)."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from windlass.kube.kueue.reading import Condition, Observed, Reading, find, whole

_RUN_NAME = re.compile(r"^job-([0-9a-hjkmnp-tv-z]{26})-r[0-9]+$")


class Resources(Reading):
    """A container's resources; a limit without a request is also the request."""

    requests: Mapping[str, Any] = {}
    limits: Mapping[str, Any] = {}

    def asked(self, resource: str) -> int:
        """Return how many of an extended resource the container asks for."""
        return whole(self.requests.get(resource, self.limits.get(resource, 0)))


class Container(Reading):
    """A container of a pod template."""

    name: str = ""
    restart_policy: str = ""
    resources: Resources = Resources()


class PodSpec(Reading):
    """A pod template's spec."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()

    def asked(self, resource: str) -> int:
        """Return what the scheduler counts for the pod: sidecars run beside the containers, other inits before them."""
        beside = 0
        most_before = 0
        for one in self.init_containers:
            if one.restart_policy == "Always":
                beside += one.resources.asked(resource)
            else:
                most_before = max(most_before, beside + one.resources.asked(resource))
        return max(most_before, beside + sum(one.resources.asked(resource) for one in self.containers))


class PodTemplate(Reading):
    """A pod template."""

    spec: PodSpec = PodSpec()


class PodSet(Reading):
    """Equal pods of a workload."""

    name: str = "main"
    count: int = 1
    template: PodTemplate = PodTemplate()


class WorkloadSpec(Reading):
    """What was asked for."""

    queue_name: str = ""
    priority: int = 0
    active: bool = True
    pod_sets: tuple[PodSet, ...] = ()


class PodSetAssignment(Reading):
    """What a pod set was given: flavors by resource, and the quantity of all its pods together."""

    name: str = "main"
    count: int = 1
    flavors: Mapping[str, str] = {}
    resource_usage: Mapping[str, Any] = {}


class Admission(Reading):
    """The quota that a workload holds."""

    cluster_queue: str
    pod_set_assignments: tuple[PodSetAssignment, ...] = ()


class PodSetCount(Reading):
    """Pods of a set that have ended and gave their share back."""

    name: str
    count: int = 0


class CheckState(Reading):
    """An admission check of the workload."""

    name: str
    state: str = "Pending"
    message: str = ""


class RequeueState(Reading):
    """When Kueue looks at the workload again after a time-out."""

    count: int = 0
    requeue_at: datetime | None = None


class WorkloadStatus(Reading):
    """What Kueue says of it."""

    conditions: tuple[Condition, ...] = ()
    admission: Admission | None = None
    reclaimable_pods: tuple[PodSetCount, ...] = ()
    admission_checks: tuple[CheckState, ...] = ()
    requeue_state: RequeueState = RequeueState()


class Workload(Observed):
    """A job in Kueue's eyes."""

    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of a type, or None."""
        return find(self.status.conditions, kind)

    def _is(self, kind: str) -> bool:
        found = self.condition(kind)
        return found is not None and found.true

    @cached_property
    def finished(self) -> bool:
        """Whether it ended, and asks for nothing any more."""
        return self._is("Finished")

    @cached_property
    def reserves(self) -> bool:
        """Whether it holds quota; its pods may not run yet."""
        return self._is("QuotaReserved") and self.status.admission is not None

    @cached_property
    def admitted(self) -> bool:
        """Whether its pods may run."""
        return self._is("Admitted")

    @cached_property
    def evicted(self) -> bool:
        """Whether it was told to stop and has not been admitted since. It holds its quota until its pods are gone."""
        return self._is("Evicted")

    @cached_property
    def job(self) -> str:
        """What people know it by: the id of Windlass's job, else ``namespace/name`` of its owner or of itself."""
        owner = self.metadata.owner
        name = owner.name if owner else self.metadata.name
        if run := _RUN_NAME.match(name):
            return f"job_{run[1]}"
        return f"{self.metadata.namespace}/{name}" if self.metadata.namespace else name

    def asked(self, resource: str) -> int:
        """Return how many of a resource all its pods ask for."""
        return sum(one.count * one.template.spec.asked(resource) for one in self.spec.pod_sets)

    def held(self, resource: str) -> int:
        """Return how many of a resource it holds quota for; pods that have ended gave theirs back."""
        if self.status.admission is None:
            return 0
        ended = {one.name: one.count for one in self.status.reclaimable_pods}
        total = 0
        for given in self.status.admission.pod_set_assignments:
            amount = whole(given.resource_usage.get(resource, 0))
            live = max(0, given.count - ended.get(given.name, 0))
            total += amount * live // given.count if given.count else 0
        return total

    def flavors(self, resource: str) -> frozenset[str]:
        """Return the flavors it was given for a resource."""
        given = self.status.admission.pod_set_assignments if self.status.admission else ()
        return frozenset(one.flavors[resource] for one in given if resource in one.flavors)


class PendingWorkload(Observed):
    """A line of the visibility API's answer; positions count from 0."""

    priority: int = 0
    local_queue_name: str = ""
    position_in_cluster_queue: int = 0
    position_in_local_queue: int = 0


class PendingWorkloads(Reading):
    """The answer of ``.../clusterqueues/NAME/pendingworkloads``: who waits, in the order of the queue."""

    items: tuple[PendingWorkload, ...] = ()

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {one.key: one.position_in_cluster_queue for one in self.items}

    def position(self, key: str) -> int | None:
        """Return the place of ``namespace/name`` in its ClusterQueue, from 0."""
        return self._places.get(key)

    @cached_property
    def head(self) -> str | None:
        """``namespace/name`` of who is next."""
        return min(self._places, key=self._places.__getitem__, default=None)


def by_key(workloads: Iterable[Workload]) -> dict[str, Workload]:
    """Return workloads by ``namespace/name``."""
    return {one.key: one for one in workloads}
