"""The usage of projects: by job, and by month and what they used."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from windlass.domain.jobs import DomainModel
from windlass.domain.usage import (
    GpuUsage,
    Month,
    RequestCounts,
    RequestUsage,
    ReservationKind,
    UsageParts,
    month_interval,
)
from windlass.ports import ReadUnitOfWork, ReadUsageData
from windlass.services.base import BaseService, ProjectService, ServiceDependencies
from windlass.services.settlement import read_prices, unsettled_usage, usage_of


class JobUsage(DomainModel):
    """One job's usage at the prices that held at the time."""

    job: str
    pool: str
    parts: UsageParts
    cost: int
    """In millionths of the currency unit."""
    outcome: str


class UsageDimension(StrEnum):
    """What the usage of a month is grouped by."""

    PROJECT = "project"
    POOL = "pool"
    KIND = "kind"
    KEY = "key"
    MODEL = "model"
    ENDPOINT = "endpoint"


class UsageKey(NamedTuple):
    """The values of all dimensions of a group; empty for a dimension that the group has not, or is not grouped by."""

    project: str = ""
    pool: str = ""
    kind: str = ""
    key: str = ""
    model: str = ""
    endpoint: str = ""

    def only(self, dimensions: Iterable[UsageDimension]) -> "UsageKey":
        """Return the key without the other dimensions."""
        return UsageKey(**{each.value: getattr(self, each.value) for each in dimensions})


class UsageGroup(DomainModel):
    """The usage of a group in a month."""

    month: Month
    key: UsageKey
    key_label: str = ""
    """User and name of the API key, if there is one."""
    parts: UsageParts = UsageParts()
    cost: int = 0
    """In millionths of the currency unit."""
    requests: RequestCounts = RequestCounts()


@dataclass(frozen=True)
class Usage(ProjectService):
    """The usage of one project."""

    def page(self, limit: int, after: str | None) -> list[JobUsage]:
        """List the usage of jobs, newest first. A reservation counts from the admission to the release, or to now."""
        now = self.deps.clock.now()
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            jobs = repos.jobs.page(limit, after, newest_first=True)
            reservations = repos.gpu_reservations.all({"job": [job.id for job in jobs]})
            prices = read_prices(uow, (each.pool for each in reservations))
            parts, costs = {job.id: UsageParts() for job in jobs}, {job.id: 0 for job in jobs}
            for reservation, months in usage_of(repos, reservations, prices, now):
                for used in months:
                    parts[reservation.job] += used.parts
                    costs[reservation.job] += used.cost
        return [
            JobUsage(
                job=job.id,
                pool=job.spec.resources.pool,
                parts=parts[job.id],
                cost=costs[job.id],
                outcome=job.state.value,
            )
            for job in jobs
        ]

    def of_month(self, month: Month, dimensions: Sequence[UsageDimension]) -> list[UsageGroup]:
        """Return the usage of the project in a month, by group."""
        with self.deps.database.read() as uow:
            return _groups(self.deps, uow, self.project, month, dimensions)


@dataclass(frozen=True)
class AllUsage(BaseService):
    """The usage of all projects, for platform admins."""

    def of_month(self, month: Month, dimensions: Sequence[UsageDimension]) -> list[UsageGroup]:
        """Return the usage of all projects in a month, by group. A deleted project is shown by its uid."""
        with self.deps.database.read() as uow:
            return _groups(self.deps, uow, None, month, dimensions)


def _groups(
    deps: ServiceDependencies,
    uow: ReadUnitOfWork,
    project: str | None,
    month: Month,
    dimensions: Sequence[UsageDimension],
) -> list[UsageGroup]:
    repos: ReadUsageData = uow.platform() if project is None else uow.project(project)
    sums = [*repos.gpu_usage.all({"month": month}), *unsettled_usage(uow, repos, deps.clock.now(), month)]
    requests = uow.request_usage.totals(month_interval(month), project)
    uids = {each.project for each in sums} | {each.project for each in requests}
    names = {each.id: each.name for each in uow.projects.all({"id": sorted(uids)})}
    groups: dict[UsageKey, UsageGroup] = {}
    for used in sums:
        group = _group(groups, month, _gpu_key(used, names).only(dimensions))
        update = {"parts": group.parts + used.parts, "cost": group.cost + used.cost}
        groups[group.key] = group.model_copy(update=update)
    for counted in requests:
        group = _group(groups, month, _request_key(counted, names).only(dimensions))
        groups[group.key] = group.model_copy(update={"requests": group.requests + counted.counts})
    keys = sorted({group.key.key for group in groups.values() if group.key.key})
    labels = {key.id: key.label for key in uow.keys.all({"id": keys})} if keys else {}
    return [
        group.model_copy(update={"key_label": labels.get(group.key.key, "")}) for _, group in sorted(groups.items())
    ]


def _group(groups: Mapping[UsageKey, UsageGroup], month: Month, key: UsageKey) -> UsageGroup:
    return groups.get(key) or UsageGroup(month=month, key=key)


def _gpu_key(used: GpuUsage, names: Mapping[str, str]) -> UsageKey:
    name = names.get(used.project, used.project)
    return UsageKey(name, used.pool, used.kind.value, used.api_key, used.model, used.endpoint)


def _request_key(counted: RequestUsage, names: Mapping[str, str]) -> UsageKey:
    name = names.get(counted.project, counted.project)
    return UsageKey(name, "", ReservationKind.ENDPOINT.value, counted.api_key, counted.model, counted.endpoint)
