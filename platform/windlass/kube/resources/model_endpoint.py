"""ModelEndpoint: the cluster form of an endpoint. The control plane writes its spec, the operators serve it.

Members of a project have no permission to write it: it names files and images that the control plane has checked.
"""

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from windlass.domain.artifacts import SHA256_PATTERN
from windlass.domain.specs import Task
from windlass.kube.resources.base import (
    CelRule,
    Condition,
    CrdModel,
    CustomResource,
    PrinterColumn,
    ResourceName,
    SpecModel,
    map_list,
)

MAX_REMOVED_PODS = 64
"""Pods of a version that are deleted at the same time."""
MAX_SERVED_VERSIONS = 32
"""Versions before and after a change, each with the image before and after an upgrade."""
Quantity = Annotated[str, StringConstraints(max_length=20, pattern=r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti)?$")]
CpuQuantity = Annotated[str, StringConstraints(max_length=20, pattern=r"^[0-9]+(\.[0-9]+)?m?$")]
_Dns1035 = Annotated[str, StringConstraints(max_length=40, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]


class ReplicaResources(SpecModel):
    """Resource requests of one replica, beside its GPUs."""

    cpu: CpuQuantity = "1"
    """CPU cores, as a quantity."""
    memory: Quantity = "2Gi"
    """Memory, as a quantity."""


class HeadResources(SpecModel):
    """Resource requests of the Ray head of a model version, which runs no replicas."""

    cpu: CpuQuantity = "500m"
    """CPU cores, as a quantity."""
    memory: Quantity = "2Gi"
    """Memory, as a quantity."""


class ServedVersion(SpecModel):
    """A model version with the settings of its replicas: one RayService."""

    service: _Dns1035
    """Name of its RayService."""
    key: Annotated[str, StringConstraints(max_length=80, pattern=r"^[a-z0-9-]+$")]
    """Its Ray Serve application, the last segment of its URL."""
    task: Annotated[Task, Field(json_schema_extra={"type": "string"})]
    """What the model does."""
    model: Annotated[str, StringConstraints(max_length=60)]
    """Name and number of the model version, as tickets@3."""
    uri: Annotated[str, StringConstraints(max_length=2048)]
    """Location of the version's files."""
    digest: Annotated[str, StringConstraints(max_length=64, pattern=SHA256_PATTERN)]
    """Digest of the manifest of the files; others are not loaded."""
    image: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    """Image of the pods."""
    ray_version: Annotated[str, StringConstraints(max_length=20)]
    """Ray version of the image."""
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Number of replicas now; 0: it is scaled to zero and has no RayService."""
    draining: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of pods beyond the replicas, from which Ray Serve removes the replicas."""
    removed_pods: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=253)], ...], Field(max_length=2 * MAX_REMOVED_PODS)
    ] = ()
    """Names of pods without a replica, which are deleted."""
    gpus: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of each replica."""
    pool: ResourceName | None = None
    """GPUPool of the replicas' GPUs; only with GPUs."""
    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = 16
    """Maximum number of requests per batch (classification)."""
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 5.0
    """Time to wait for a full batch, in milliseconds (classification)."""


class ModelEndpointSpec(SpecModel):
    """The served versions and the resources of their replicas."""

    project: ResourceName
    """Name of the project."""
    endpoint: ResourceName
    """Name of the endpoint in the project."""
    versions: Annotated[
        tuple[ServedVersion, ...],
        Field(min_length=1, max_length=MAX_SERVED_VERSIONS, json_schema_extra=map_list("service")),
    ]
    """Versions that serve, and those that are to replace them."""
    internal_url: Annotated[str, StringConstraints(max_length=512, pattern="^https?://")]
    """Where replicas ask for their files."""
    resources: ReplicaResources = ReplicaResources()
    head: HeadResources = HeadResources()


class ModelEndpointStatus(CrdModel):
    """The state of the served versions."""

    ready_replicas: int = 0
    """Replicas that serve requests."""
    observed_generation: int = 0
    """Generation of the spec that this status describes."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=map_list("type"))] = ()
    """Latest observations, one per type."""


class ModelEndpoint(CustomResource):
    """A served endpoint: one RayService for each model version that serves, or is to serve."""

    plural: ClassVar = "modelendpoints"
    singular: ClassVar = "modelendpoint"
    short_names: ClassVar = ("mep",)
    namespaced: ClassVar = True
    columns: ClassVar = (
        PrinterColumn("Model", ".spec.versions[0].model"),
        PrinterColumn("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        PrinterColumn("Replicas", ".status.readyReplicas", "integer"),
        PrinterColumn("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
        PrinterColumn("Age", ".metadata.creationTimestamp", "date"),
    )
    rules: ClassVar = (
        CelRule("self.metadata.name.size() <= 40", "the name of an endpoint must have at most 40 characters"),
        CelRule("!self.metadata.name.contains('.')", "the name of an endpoint must not contain a dot"),
        CelRule(
            "self.spec.versions.all(version, version.gpus == 0 || has(version.pool))",
            "a version with gpus requires pool: the GPUPool of its replicas",
            ".spec.versions",
        ),
    )

    spec: ModelEndpointSpec
    status: ModelEndpointStatus = ModelEndpointStatus()
