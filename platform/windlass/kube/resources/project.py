"""Project: a tenant with members and a quota per pool."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

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

Gpus = Annotated[int, Field(ge=0, le=1_000_000)]


class ProjectMember(SpecModel):
    """A user or a group with a role in the project."""

    kind: Literal["User", "Group"] = "User"
    """Whether the name is that of a user or of a group."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    """The name as known to the identity provider of Windlass, or the user of an API key."""
    role: Literal["viewer", "editor", "admin"]
    """viewer: read and predict; editor: also train and deploy; admin: also manage members."""


class ProjectQuota(SpecModel):
    """The project's quota of one pool."""

    pool: ResourceName
    """Name of the GPUPool."""
    nominal: Gpus
    """Nominal quota in GPUs: idle ones may be lent, and are reclaimed when the project needs them."""
    borrowing_limit: Gpus | None = None
    """Maximum number of GPUs to borrow from the cohort; unlimited if not set."""
    lending_limit: Gpus | None = None
    """Maximum number of idle GPUs to lend; all of them if not set."""


class JobPolicy(SpecModel):
    """Limits for the project's jobs."""

    max_gpus: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Maximum number of GPUs per job."""
    max_duration_seconds: Annotated[int, Field(ge=60, le=31_536_000)] = 604_800
    """Maximum training time of a job."""
    priority_ceiling: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Maximum priority of the project's jobs: bounds how far they can get ahead of others in the cohort."""


class ProjectWarmTrainers(SpecModel):
    """Trainers of one GPU that wait for jobs in idle quota of a pool, so that a job begins to train at once."""

    pool: ResourceName
    """Name of the GPUPool."""
    count: Annotated[int, Field(ge=0, le=100)] = 1
    """How many wait. They are created when GPUs are idle, and are the first to be preempted."""


class EndpointPolicy(SpecModel):
    """Limits for the project's endpoints."""

    max_endpoints: Annotated[int, Field(ge=0, le=1000)] = 20
    """Maximum number of endpoints of the project; the newest ones above it are not served."""
    max_replicas: Annotated[int, Field(ge=0, le=1000)] = 10
    """Maximum number of replicas per endpoint."""


class ProjectSpec(SpecModel):
    """Members, quotas and limits of the project."""

    display_name: Annotated[str, StringConstraints(max_length=200)] = ""
    """Name shown to people."""
    cohort: ResourceName | None = None
    """Projects of one cohort lend each other idle quota. If not set, nothing is lent or borrowed."""
    members: Annotated[
        tuple[ProjectMember, ...], Field(max_length=500, json_schema_extra=map_list("kind", "name"))
    ] = ()
    """Users and groups with a role in the project."""
    quotas: Annotated[
        tuple[ProjectQuota, ...],
        Field(max_length=64, json_schema_extra=map_list("pool")),
    ] = ()
    """One entry per pool. The project cannot use other pools."""
    jobs: JobPolicy = JobPolicy()
    warm_trainers: Annotated[
        tuple[ProjectWarmTrainers, ...],
        Field(max_length=64, json_schema_extra=map_list("pool")),
    ] = ()
    """Trainers that wait for jobs, per pool."""
    endpoints: EndpointPolicy = EndpointPolicy()
    when_deleted: Literal["Wait", "Cancel"] = "Wait"
    """How a deletion treats running jobs: wait until they end, or cancel them."""


class Loan(CrdModel):
    """GPUs lent to or borrowed from another project of the cohort."""

    project: ResourceName
    """Name of the other project."""
    gpus: int
    """Number of GPUs."""


class QuotaUse(CrdModel):
    """Quota and usage of one pool."""

    pool: ResourceName
    """Name of the GPUPool."""
    nominal: int
    """Nominal quota in GPUs."""
    used: int = 0
    """GPUs of admitted workloads."""
    overcommitted: int = 0
    """GPUs in use above the current quota, after it was reduced; no workload starts until it is zero."""
    borrowed_from: tuple[Loan, ...] = ()
    """GPUs borrowed from other projects."""
    lent_to: tuple[Loan, ...] = ()
    """GPUs lent to other projects."""
    reclaimable: int = 0
    """Lent GPUs that are reclaimed by preemption when the project needs them."""
    pending: int = 0
    """Pending workloads."""


class ProjectStatus(CrdModel):
    """Namespace and quota usage of the project."""

    namespace: str = ""
    """Namespace of the project's jobs and endpoints."""
    quotas: Annotated[
        tuple[QuotaUse, ...],
        Field(max_length=64, json_schema_extra=map_list("pool")),
    ] = ()
    """Quota and usage per pool."""
    used: int = 0
    """GPUs in use over all pools."""
    nominal: int = 0
    """Nominal quota over all pools."""
    pending: int = 0
    """Pending workloads over all pools."""
    observed_generation: int = 0
    """Generation of the spec that this status describes."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=map_list("type"))] = ()
    """Latest observations, one per type."""


class Project(CustomResource):
    """A tenant: members, a namespace, and a quota per pool."""

    plural: ClassVar = "projects"
    singular: ClassVar = "project"
    short_names: ClassVar = ("wlp",)
    columns: ClassVar = (
        PrinterColumn("Cohort", ".spec.cohort"),
        PrinterColumn("Nominal", ".status.nominal", "integer"),
        PrinterColumn("Used", ".status.used", "integer"),
        PrinterColumn("Pending", ".status.pending", "integer"),
        PrinterColumn("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        PrinterColumn("Namespace", ".status.namespace", wide=True),
        PrinterColumn("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
        PrinterColumn("Age", ".metadata.creationTimestamp", "date"),
    )
    rules: ClassVar = (
        CelRule("self.metadata.name.size() <= 40", "the name of a project must have at most 40 characters"),
        CelRule("!self.metadata.name.contains('.')", "the name of a project must not contain a dot"),
        CelRule(
            "self.spec.quotas.all(q, !has(q.lendingLimit) || q.lendingLimit <= q.nominal)",
            "lendingLimit exceeds nominal: a project cannot lend more than its nominal quota",
            ".spec.quotas",
        ),
        CelRule(
            "has(self.spec.cohort) || self.spec.quotas.all(q, !has(q.borrowingLimit) && !has(q.lendingLimit))",
            "borrowingLimit and lendingLimit require a cohort",
            ".spec.quotas",
        ),
        CelRule(
            "self.spec.warmTrainers.all(w, self.spec.quotas.exists(q, q.pool == w.pool))",
            "warmTrainers needs a quota of the same pool",
            ".spec.warmTrainers",
        ),
    )

    spec: ProjectSpec = ProjectSpec()
    status: ProjectStatus = ProjectStatus()
