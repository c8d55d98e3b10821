"""What the rest of the cluster knows of a workload: its pods, their nodes, and events."""

from datetime import datetime

from pydantic import AliasChoices, Field

from windlass.kube.kueue.reading import Condition, Observed, Reading, find


class Waiting(Reading):
    """Why a container does not run."""

    reason: str = ""
    message: str = ""


class Terminated(Reading):
    """How a container ended."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""


class ContainerState(Reading):
    """One of three; none is set before the kubelet has looked."""

    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(Reading):
    """A container as the kubelet sees it."""

    name: str = ""
    image: str = ""
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()


class PodSpec(Reading):
    """Where a pod was put."""

    node_name: str = ""


class PodStatus(Reading):
    """How a pod is."""

    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Observed):
    """A pod of a workload."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of a type, or None."""
        return find(self.status.conditions, kind)

    @property
    def containers(self) -> tuple[ContainerStatus, ...]:
        """All its containers, in the order in which they start."""
        return (*self.status.init_container_statuses, *self.status.container_statuses)


class NodeSpec(Reading):
    """A node's wish."""

    unschedulable: bool = False


class NodeStatus(Reading):
    """How a node is."""

    conditions: tuple[Condition, ...] = ()


class Node(Observed):
    """A machine."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        """Whether its kubelet reports that it works."""
        found = find(self.status.conditions, "Ready")
        return found is not None and found.true


class Regarding(Reading):
    """What an event is about."""

    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class Event(Observed):
    """Something that happened to an object, as ``v1`` or ``events.k8s.io/v1`` tells it."""

    type: str = "Normal"
    reason: str = ""
    message: str = Field(default="", validation_alias=AliasChoices("message", "note"))
    regarding: Regarding = Field(
        default=Regarding(), validation_alias=AliasChoices("regarding", "involvedObject", "involved_object")
    )
    event_time: datetime | None = None
    last_timestamp: datetime | None = Field(
        default=None, validation_alias=AliasChoices("lastTimestamp", "deprecatedLastTimestamp", "last_timestamp")
    )

    @property
    def warning(self) -> bool:
        """Whether it tells of trouble."""
        return self.type == "Warning"

    @property
    def when(self) -> datetime | None:
        """When it happened last, as far as it says."""
        return self.last_timestamp or self.event_time or self.metadata.creation_timestamp
