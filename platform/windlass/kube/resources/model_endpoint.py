"""ModelEndpoint: a served name in a project's namespace."""

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from windlass.kube.resources.base import Column, Condition, Part, Resource, ResourceName, Rule, Scale, Wish, keyed

Quantity = Annotated[str, StringConstraints(max_length=20, pattern=r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti)?$")]


class Traffic(Wish):
    """One share of the traffic: a model's version or alias."""

    model: ResourceName
    version: Annotated[int | None, Field(ge=1, le=2**31 - 1)] = None
    alias: ResourceName | None = None
    weight: Annotated[int, Field(ge=0, le=100)] = 100
    """Share in per cent."""


class ReplicaResources(Wish):
    """What one replica asks for."""

    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    cpu: Quantity = "1"
    memory: Quantity = "2Gi"


class ModelEndpointSpec(Wish):
    """What to serve, and how far to scale it."""

    traffic: Annotated[tuple[Traffic, ...], Field(min_length=1, max_length=8)]
    """Model versions or aliases with their shares, which add up to 100."""
    min_replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Fewest replicas; 0 lets it sleep when nobody asks."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    target_ongoing_requests: Annotated[int, Field(ge=1, le=10_000)] = 2
    """Requests at once per replica; more scale up."""
    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = 16
    """Classification: requests answered together."""
    pool: ResourceName | None = None
    """Pool of the replicas' GPUs; not needed without GPUs."""
    resources: ReplicaResources = ReplicaResources()
    stopped: bool = False
    """Release every replica and keep the endpoint."""


class ResolvedVersion(Part):
    """What a share of the traffic means now. The control plane writes it; the operator renders from it."""

    model: ResourceName
    number: int
    weight: int
    uri: Annotated[str, StringConstraints(max_length=2048)]
    manifest_sha256: Annotated[str, Field(alias="manifestSha256"), StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ModelEndpointStatus(Part):
    """What is served."""

    resolved: Annotated[tuple[ResolvedVersion, ...], Field(max_length=8)] = ()
    live: Annotated[tuple[ResolvedVersion, ...], Field(max_length=8)] = ()
    """Versions that answer now."""
    url: str = ""
    ready_replicas: int = 0
    observed_generation: int = 0
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=keyed("type"))] = ()


class ModelEndpoint(Resource):
    """A served name: traffic split over model versions, a replica range, autoscaling."""

    plural: ClassVar = "modelendpoints"
    singular: ClassVar = "modelendpoint"
    short_names: ClassVar = ("mep",)
    namespaced: ClassVar = True
    columns: ClassVar = (
        Column("Model", ".spec.traffic[0].model"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Replicas", ".status.readyReplicas", "integer"),
        Column("Min", ".spec.minReplicas", "integer", wide=True),
        Column("Max", ".spec.maxReplicas", "integer", wide=True),
        Column("URL", ".status.url"),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
        Column("Age", ".metadata.creationTimestamp", "date"),
    )
    rules: ClassVar = (
        Rule("self.metadata.name.size() <= 40", "the name of an endpoint has at most 40 characters"),
        Rule("!self.metadata.name.contains('.')", "the name of an endpoint holds no dot"),
        Rule("self.spec.minReplicas <= self.spec.maxReplicas", "minReplicas is above maxReplicas", ".spec.minReplicas"),
        Rule(
            "self.spec.traffic.map(t, t.weight).sum() == 100",
            "the weights of traffic must add up to 100",
            ".spec.traffic",
        ),
        Rule(
            "self.spec.traffic.all(t, has(t.version) != has(t.alias))",
            "each entry of traffic names either a version or an alias",
            ".spec.traffic",
        ),
        Rule(
            "self.spec.resources.gpus == 0 || has(self.spec.pool)",
            "resources.gpus needs a pool: name the GPUPool that the replicas run on",
            ".spec.pool",
        ),
    )
    scale: ClassVar = Scale(".spec.minReplicas", ".status.readyReplicas")

    spec: ModelEndpointSpec
    status: ModelEndpointStatus = ModelEndpointStatus()
