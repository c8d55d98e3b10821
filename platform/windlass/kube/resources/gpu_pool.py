"""GPUPool: a named class of accelerator nodes."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from windlass.kube.resources.base import (
    Column,
    Condition,
    LabelKey,
    LabelValue,
    Part,
    Resource,
    ResourceName,
    Rule,
    Wish,
    keyed,
)


class Taint(Wish):
    """A taint of the pool's nodes, which Windlass's pods tolerate."""

    key: LabelKey
    value: LabelValue = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


class GPUPoolSpec(Wish):
    """Which nodes make up the pool, and what a job may take of it."""

    node_labels: Annotated[dict[LabelKey, LabelValue], Field(min_length=1, max_length=8)]
    """Labels that every node of the pool has, and no node of another pool has all of."""
    taints: Annotated[tuple[Taint, ...], Field(max_length=8, json_schema_extra=keyed("key", "effect"))] = ()
    """Taints of the pool's nodes that keep other pods away."""
    resource_name: Annotated[
        str, StringConstraints(min_length=3, max_length=253, pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    ] = "nvidia.com/gpu"
    """Resource that the nodes' device plugin counts GPUs in."""
    gpu_type: Annotated[str, StringConstraints(max_length=100)] = ""
    """What the GPUs are, for people: "NVIDIA A100 80GB"."""
    price_per_gpu_hour: Annotated[str, StringConstraints(max_length=16, pattern=r"^[0-9]{1,6}(\.[0-9]{1,4})?$")] = "0"
    """What one GPU costs an hour, as a decimal number in quotes, in the currency of the installation."""
    max_gpus_per_job: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Most GPUs that one job may ask for; no limit without it."""
    topology_labels: Annotated[tuple[LabelKey, ...], Field(max_length=16)] = ()
    """Node labels from the widest to the narrowest domain (block, rack, host); jobs are placed close together."""


class PoolUse(Part):
    """What one project holds of a pool."""

    project: ResourceName
    gpus: int


class GPUPoolStatus(Part):
    """What the pool has and who holds it."""

    nodes: int = 0
    """Nodes with the pool's labels."""
    ready_nodes: int = 0
    """Those of them that are Ready and may be scheduled to."""
    capacity: int = 0
    """GPUs of all nodes."""
    allocatable: int = 0
    """GPUs of the ready nodes that pods may have."""
    nominal: int = 0
    """GPUs that projects were promised; more than the capacity means that not all of them can have theirs at once."""
    in_use: int = 0
    """GPUs that admitted workloads hold."""
    used_by: Annotated[tuple[PoolUse, ...], Field(max_length=10_000)] = ()
    """The same by project, largest first."""
    observed_generation: int = 0
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=keyed("type"))] = ()


class GPUPool(Resource):
    """A named class of accelerator nodes. Projects get quotas of it; a job names one pool."""

    plural: ClassVar = "gpupools"
    singular: ClassVar = "gpupool"
    short_names: ClassVar = ("pool", "pools")
    columns: ClassVar = (
        Column("Type", ".spec.gpuType"),
        Column("Nodes", ".status.nodes", "integer"),
        Column("Capacity", ".status.capacity", "integer"),
        Column("Nominal", ".status.nominal", "integer"),
        Column("In use", ".status.inUse", "integer"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
        Column("Age", ".metadata.creationTimestamp", "date"),
    )
    rules: ClassVar = (
        Rule("self.metadata.name.size() <= 40", "the name of a pool has at most 40 characters"),
        Rule("!self.metadata.name.contains('.')", "the name of a pool holds no dot"),
    )

    spec: GPUPoolSpec
    status: GPUPoolStatus = GPUPoolStatus()
