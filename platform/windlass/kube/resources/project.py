"""Project: a tenant with members and a quota per pool."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from windlass.kube.resources.base import Column, Condition, Part, Resource, ResourceName, Rule, Wish, keyed

Gpus = Annotated[int, Field(ge=0, le=1_000_000)]


class Member(Wish):
    """A user or a group with a role in the project."""

    kind: Literal["User", "Group"] = "User"
    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """As the cluster's authentication names it."""
    role: Literal["viewer", "editor", "owner"]
    """viewer reads and predicts; editor also trains and deploys; owner also manages members."""


class ProjectQuota(Wish):
    """The project's share of one pool."""

    pool: ResourceName
    nominal: Gpus
    """GPUs that are the project's own: idle ones may be lent, and come back when the project needs them."""
    borrowing_limit: Gpus | None = None
    """Most GPUs that it may borrow from its cohort; no limit without it."""
    lending_limit: Gpus | None = None
    """Most of its own GPUs that it lends while they are idle; all of them without it."""


class JobPolicy(Wish):
    """Bounds for the project's jobs."""

    max_gpus: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Most GPUs that one job may ask for."""
    max_duration_seconds: Annotated[int, Field(ge=60, le=31_536_000)] = 604_800
    """Longest that a job may train."""
    priority_ceiling: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Highest priority that a job of the project may have: what it may push itself before others of its cohort."""


class EndpointPolicy(Wish):
    """Bounds for the project's endpoints."""

    max_endpoints: Annotated[int, Field(ge=0, le=1000)] = 20
    max_replicas: Annotated[int, Field(ge=0, le=1000)] = 10
    """Most replicas of one endpoint."""


class ProjectSpec(Wish):
    """Who works in the project, and what it may use."""

    display_name: Annotated[str, StringConstraints(max_length=200)] = ""
    cohort: ResourceName | None = None
    """Projects of one cohort lend each other idle quota. Without it nothing is lent or borrowed."""
    members: Annotated[tuple[Member, ...], Field(max_length=500, json_schema_extra=keyed("kind", "name"))] = ()
    quotas: Annotated[
        tuple[ProjectQuota, ...],
        Field(max_length=64, json_schema_extra=keyed("pool")),
    ] = ()
    """One entry a pool. A pool that is not named here is not the project's to use."""
    jobs: JobPolicy = JobPolicy()
    endpoints: EndpointPolicy = EndpointPolicy()
    when_deleted: Literal["Wait", "Cancel"] = "Wait"
    """What a deletion does with live jobs: wait until they have ended, or cancel them."""


class Loan(Part):
    """GPUs between this project and another one of its cohort."""

    project: ResourceName
    gpus: int


class QuotaUse(Part):
    """One line of the ledger."""

    pool: ResourceName
    nominal: int
    used: int = 0
    """GPUs that admitted workloads hold."""
    overcommitted: int = 0
    """GPUs held beyond what the quota allows now, after it was lowered; nothing new starts until it is zero."""
    borrowed_from: tuple[Loan, ...] = ()
    lent_to: tuple[Loan, ...] = ()
    reclaimable: int = 0
    """Lent GPUs that come back, by preemption, as soon as the project asks for them."""
    pending: int = 0
    """Workloads that wait."""


class ProjectStatus(Part):
    """What became of the wish."""

    namespace: str = ""
    quotas: Annotated[
        tuple[QuotaUse, ...],
        Field(max_length=64, json_schema_extra=keyed("pool")),
    ] = ()
    used: int = 0
    """GPUs in use over all pools."""
    nominal: int = 0
    """GPUs of its own over all pools."""
    pending: int = 0
    """Workloads that wait over all pools."""
    observed_generation: int = 0
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=keyed("type"))] = ()


class Project(Resource):
    """A tenant: its members, its namespace and its share of each pool."""

    plural: ClassVar = "projects"
    singular: ClassVar = "project"
    short_names: ClassVar = ("wlp",)
    columns: ClassVar = (
        Column("Cohort", ".spec.cohort"),
        Column("Nominal", ".status.nominal", "integer"),
        Column("Used", ".status.used", "integer"),
        Column("Pending", ".status.pending", "integer"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Namespace", ".status.namespace", wide=True),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
        Column("Age", ".metadata.creationTimestamp", "date"),
    )
    rules: ClassVar = (
        Rule("self.metadata.name.size() <= 40", "the name of a project has at most 40 characters"),
        Rule("!self.metadata.name.contains('.')", "the name of a project holds no dot"),
        Rule(
            "self.spec.quotas.all(q, !has(q.lendingLimit) || q.lendingLimit <= q.nominal)",
            "lendingLimit is above nominal: a project cannot lend more than its own GPUs",
            ".spec.quotas",
        ),
        Rule(
            "has(self.spec.cohort) || self.spec.quotas.all(q, !has(q.borrowingLimit) && !has(q.lendingLimit))",
            "borrowingLimit and lendingLimit need a cohort: without one nothing is borrowed or lent",
            ".spec.quotas",
        ),
    )

    spec: ProjectSpec = ProjectSpec()
    status: ProjectStatus = ProjectStatus()
