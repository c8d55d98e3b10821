"""The objects of a workload outside Kueue: its RayJob, its pods, their nodes, and events."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import AliasChoices, Field

from windlass.kube.kueue.models import KubeCondition, KubeModel, KubeObject, find_condition, parse_quantity
from windlass.kube.kueue.workload import PodSpec


class RayClusterStatus(KubeModel):
    """The status of a RayCluster."""

    conditions: tuple[KubeCondition, ...] = ()


class RayJobStatus(KubeModel):
    """The status of a RayJob: ``job_deployment_status`` is KubeRay's view, ``job_status`` Ray's view of the trainer."""

    job_status: str = ""
    job_deployment_status: str = ""
    reason: str = ""
    message: str = ""
    ray_cluster_name: str = ""
    ray_cluster_status: RayClusterStatus = RayClusterStatus()


class RayJob(KubeObject):
    """The Ray cluster and the trainer of a run."""

    status: RayJobStatus = RayJobStatus()

    @property
    def failed(self) -> bool:
        """Whether it has ended without success."""
        status = self.status
        return status.job_deployment_status in {"Failed", "ValidationFailed"} or (
            status.job_deployment_status == "Complete" and status.job_status != "SUCCEEDED"
        )


class ContainerStateWaiting(KubeModel):
    """Why a container waits."""

    reason: str = ""
    message: str = ""


class ContainerStateTerminated(KubeModel):
    """How a container ended."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""


class ContainerState(KubeModel):
    """At most one is set; none before the kubelet reports."""

    waiting: ContainerStateWaiting | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(KubeModel):
    """The status of a container as the kubelet reports it."""

    name: str = ""
    image: str = ""
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    """The state before the last restart."""


class PlacedPodSpec(PodSpec):
    """The spec of a pod: its requests, and its node once it has one."""

    node_name: str = ""


class PodStatus(KubeModel):
    """The status of a pod."""

    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    conditions: tuple[KubeCondition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(KubeObject):
    """A pod of a workload."""

    spec: PlacedPodSpec = PlacedPodSpec()
    status: PodStatus = PodStatus()

    def condition(self, kind: str) -> KubeCondition | None:
        """Return the condition of a type, or None."""
        return find_condition(self.status.conditions, kind)

    @property
    def containers(self) -> tuple[ContainerStatus, ...]:
        """All its containers, in start order."""
        return (*self.status.init_container_statuses, *self.status.container_statuses)


class NodeTaint(KubeModel):
    """A taint of a node."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def __str__(self) -> str:
        """Return it as kubectl writes it: ``dedicated=infra:NoSchedule``."""
        return f"{self.key}{'=' + self.value if self.value else ''}:{self.effect}"


class Toleration(KubeModel):
    """A toleration of a key and effect; without a value it tolerates all values."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def tolerates(self, taint: NodeTaint) -> bool:
        """Return whether a pod with this toleration tolerates the taint."""
        return (self.key, self.effect) == (taint.key, taint.effect) and self.value in {"", taint.value}


class NodeSpec(KubeModel):
    """The spec of a node."""

    unschedulable: bool = False
    taints: tuple[NodeTaint, ...] = ()


class NodeStatus(KubeModel):
    """The status of a node."""

    conditions: tuple[KubeCondition, ...] = ()
    capacity: Mapping[str, Any] = {}
    allocatable: Mapping[str, Any] = {}


class Node(KubeObject):
    """A node."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        """Whether the node is Ready."""
        condition = find_condition(self.status.conditions, "Ready")
        return condition is not None and condition.true

    def capacity(self, resource: str) -> int:
        """Return how much of a resource the node has."""
        return parse_quantity(self.status.capacity.get(resource, 0))

    def allocatable(self, resource: str) -> int:
        """Return how much of a resource the node offers to pods."""
        return parse_quantity(self.status.allocatable.get(resource, 0))

    def obstacle(self, tolerations: Sequence[Toleration]) -> str:
        """Return why no pod with these tolerations is placed on the node; empty if nothing prevents it."""
        if not self.ready:
            return "is not ready"
        if self.spec.unschedulable:
            return "is cordoned"
        for taint in self.spec.taints:
            if taint.effect != "PreferNoSchedule" and not any(each.tolerates(taint) for each in tolerations):
                return f"has the taint {taint}, which the pool does not tolerate"
        return ""


class ObjectReference(KubeModel):
    """The object of an event."""

    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class KubeEvent(KubeObject):
    """An event of ``v1`` or ``events.k8s.io/v1``."""

    type: str = "Normal"
    reason: str = ""
    message: str = Field(default="", validation_alias=AliasChoices("message", "note"))
    regarding: ObjectReference = Field(
        default=ObjectReference(), validation_alias=AliasChoices("regarding", "involvedObject", "involved_object")
    )
    event_time: datetime | None = None
    last_timestamp: datetime | None = Field(
        default=None, validation_alias=AliasChoices("lastTimestamp", "deprecatedLastTimestamp", "last_timestamp")
    )

    @property
    def warning(self) -> bool:
        """Whether its type is Warning."""
        return self.type == "Warning"

    @property
    def when(self) -> datetime | None:
        """When it last occurred, None if unknown."""
        return self.last_timestamp or self.event_time or self.metadata.creation_timestamp
