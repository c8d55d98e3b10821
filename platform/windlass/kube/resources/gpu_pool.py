"""GPUPool: a named class of accelerator nodes."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from windlass.kube.resources.base import (
    CelRule,
    Condition,
    CrdModel,
    CustomResource,
    LabelKey,
    LabelValue,
    PrinterColumn,
    ResourceName,
    SpecModel,
    map_list,
)


class Taint(SpecModel):
    """A taint of the pool's nodes, which the pods of Windlass tolerate."""

    key: LabelKey
    """Key of the taint."""
    value: LabelValue = ""
    """Value of the taint; empty: any value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    """Effect of the taint on pods that do not tolerate it."""


GpuMemory = Annotated[str, StringConstraints(max_length=10, pattern=r"^[1-9][0-9]{0,6}(Mi|Gi)$")]


class GPUPoolSpec(SpecModel):
    """The nodes of the pool, and limits for its jobs."""

    node_labels: Annotated[dict[LabelKey, LabelValue], Field(min_length=1, max_length=8)]
    """Labels of the pool's nodes; no node of another pool may have all of them."""
    taints: Annotated[tuple[Taint, ...], Field(max_length=8, json_schema_extra=map_list("key", "effect"))] = ()
    """Taints of the pool's nodes, which the pods of the pool's jobs tolerate."""
    resource_name: Annotated[
        str, StringConstraints(min_length=3, max_length=253, pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    ] = "nvidia.com/gpu"
    """Extended resource of the nodes' device plugin."""
    gpu_type: Annotated[str, StringConstraints(max_length=100)] = ""
    """Description of the GPU model, as "NVIDIA A100 80GB"."""
    price_per_gpu_hour: Annotated[str, StringConstraints(max_length=16, pattern=r"^[0-9]{1,6}(\.[0-9]{1,4})?$")] = "0"
    """Price of one GPU per hour, as a quoted decimal number in the installation's currency."""
    gpu_memory: GpuMemory | None = None
    """Memory of one GPU, as 80Gi, to refuse jobs that need more; default: the nodes' label nvidia.com/gpu.memory."""
    max_gpus_per_job: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Maximum number of GPUs per job; unlimited if not set."""


class PoolUse(CrdModel):
    """GPUs of a pool that one project uses."""

    project: ResourceName
    """Name of the project."""
    gpus: int
    """Number of GPUs."""


class GPUPoolStatus(CrdModel):
    """Capacity and usage of the pool."""

    nodes: int = 0
    """Nodes with the pool's labels."""
    ready_nodes: int = 0
    """Nodes that take pods of the pool: Ready, not cordoned, without a taint that the pool does not tolerate."""
    capacity: int = 0
    """GPUs of all nodes, including nodes that take no pods."""
    allocatable: int = 0
    """GPUs that can be used: those of the ready nodes."""
    gpu_memory: str = ""
    """Memory of one GPU: that of the spec, or the least of the nodes' labels; empty: not known."""
    nominal: int = 0
    """Sum of the projects' nominal quotas; if it exceeds allocatable, not all of them can be used at once."""
    in_use: int = 0
    """GPUs of admitted workloads."""
    used_by: Annotated[tuple[PoolUse, ...], Field(max_length=10_000)] = ()
    """GPUs in use by project, largest first."""
    observed_generation: int = 0
    """Generation of the spec that this status describes."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=map_list("type"))] = ()
    """Latest observations, one per type."""


class GPUPool(CustomResource):
    """A named class of accelerator nodes. Projects have quotas per pool; a job runs in one pool."""

    plural: ClassVar = "gpupools"
    singular: ClassVar = "gpupool"
    short_names: ClassVar = ("pool", "pools")
    columns: ClassVar = (
        PrinterColumn("Type", ".spec.gpuType"),
        PrinterColumn("Nodes", ".status.nodes", "integer"),
        PrinterColumn("Capacity", ".status.capacity", "integer"),
        PrinterColumn("Nominal", ".status.nominal", "integer"),
        PrinterColumn("In use", ".status.inUse", "integer"),
        PrinterColumn("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        PrinterColumn("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
        PrinterColumn("Age", ".metadata.creationTimestamp", "date"),
    )
    rules: ClassVar = (
        CelRule("self.metadata.name.size() <= 40", "the name of a pool must have at most 40 characters"),
        CelRule("!self.metadata.name.contains('.')", "the name of a pool must not contain a dot"),
    )

    spec: GPUPoolSpec
    status: GPUPoolStatus = GPUPoolStatus()
