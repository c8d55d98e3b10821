"""Budgets of projects: set by platform admins, read by members, checked for each new job and GPU of an endpoint."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from windlass.domain.budgets import (
    EXHAUSTED_PERCENT,
    THRESHOLDS,
    BudgetAlert,
    BudgetStatus,
    ProjectBudget,
    budget_warnings,
    require_budget,
)
from windlass.domain.jobs import DomainModel
from windlass.domain.projects import Project
from windlass.domain.reports import JobWarning
from windlass.domain.specs import JobSpec
from windlass.domain.usage import Month, month_of, to_micros
from windlass.ports import ReadUnitOfWork, UnitOfWork
from windlass.services.base import SYSTEM, BaseService, ProjectService, WorkerDependencies, record_audit
from windlass.services.projects import check_version
from windlass.services.settlement import has_ended, settle_ended, unsettled_usage

STEP_SECONDS: Final = 15.0
_log = logging.getLogger(__name__)


class BudgetView(DomainModel):
    """A project's budget with its use, and the thresholds that were reached in the month."""

    project: Project
    status: BudgetStatus
    alerts: tuple[BudgetAlert, ...] = ()


def read_status(uow: ReadUnitOfWork, budget: ProjectBudget, month: Month, now: datetime) -> BudgetStatus:
    """Return what a project has used of its budget in a month, now."""
    repos = uow.project(budget.project)
    sums = [
        *repos.gpu_usage.all({"month": month}),
        *unsettled_usage(uow, repos, now, month, with_parts=False),
    ]
    return BudgetStatus(
        budget=budget,
        month=month,
        gpu_time=sum(each.parts.total for each in sums),
        cost=sum(each.cost for each in sums),
    )


def check_budget(uow: ReadUnitOfWork, project: Project, spec: JobSpec, now: datetime) -> tuple[JobWarning, ...]:
    """Check the budget of a project for a new job; return what its user should know.

    Raises:
        BudgetExceededError: the project has used its budget of this month.
    """
    budget = uow.project(project.id).budgets.find({})
    if budget is None or not budget.is_limited:
        return ()
    status = read_status(uow, budget, month_of(now), now)
    require_budget(status, project.name)
    pool = uow.pools.find({"name": spec.resources.pool})
    return budget_warnings(status, spec, to_micros(pool.price_per_gpu_hour) if pool is not None else 0)


def check_endpoint_budget(uow: ReadUnitOfWork, project: str, now: datetime) -> None:
    """Check the budget of a project for an endpoint that is to hold more GPUs than before.

    Raises:
        BudgetExceededError: the project has used its budget of this month.
    """
    budget = uow.project(project).budgets.find({})
    if budget is not None and budget.is_limited:
        require_budget(read_status(uow, budget, month_of(now), now), uow.projects.get({"id": project}).name)


def _view(uow: ReadUnitOfWork, project: Project, budget: ProjectBudget | None, now: datetime) -> BudgetView:
    month, repos = month_of(now), uow.project(project.id)
    return BudgetView(
        project=project,
        status=read_status(uow, budget or ProjectBudget(project=project.id), month, now),
        alerts=tuple(repos.budget_alerts.all({"month": month})),
    )


def _views(uow: ReadUnitOfWork, budgets: Sequence[ProjectBudget], now: datetime) -> list[BudgetView]:
    """Return the budgets of projects that exist."""
    projects = {each.id: each for each in uow.projects.all({"id": [budget.project for budget in budgets]})}
    return [_view(uow, projects[budget.project], budget, now) for budget in budgets if budget.project in projects]


@dataclass(frozen=True)
class Budgets(ProjectService):
    """The budget of one project."""

    def get(self) -> BudgetView:
        """Return the budget; one that was never set has no limits and version 0."""
        with self.deps.database.read() as uow:
            budget = uow.project(self.project).budgets.find({})
            project = uow.projects.get({"id": self.project})
            return _view(uow, project, budget, self.deps.clock.now())

    def put(self, version: int, *, cost: int | None, gpu_time: int | None) -> BudgetView:
        """Set the limits; None removes one. Running jobs go on, whatever the new limits are.

        Raises:
            PreconditionFailedError: the stored budget has another version.
        """
        now = self.deps.clock.now()
        with self.deps.database.write() as uow:
            repos = uow.project(self.project)
            project = uow.projects.get({"id": self.project})
            stored = repos.budgets.find({})
            budget = stored or ProjectBudget(project=self.project)
            check_version("budget", budget.version, version)
            update = {"cost": cost, "gpu_time": gpu_time, "changed_at": now}
            budget = budget.model_copy(update={**update, "changed_by": self.caller.principal.user})
            if stored is None:
                budget = budget.model_copy(update={"version": 1})
                repos.budgets.add(budget)
            else:
                budget = repos.budgets.save(budget)
            self.audit(uow, "budget.put", self.project, project.name, self.project, before=stored, after=budget)
            return _view(uow, project, budget, now)


@dataclass(frozen=True)
class AllBudgets(BaseService):
    """The budgets of all projects, for platform admins."""

    def page(self, limit: int, after: str | None) -> list[BudgetView]:
        """List the budgets that were set, by the id of the project."""
        now = self.deps.clock.now()
        with self.deps.database.read() as uow:
            return _views(uow, uow.platform().budgets.page(limit, after), now)


@dataclass
class Metering:
    """Settles ended GPU reservations, and records when a project reaches a threshold of its budget."""

    deps: WorkerDependencies
    publish: Callable[[Sequence[BudgetView]], None] = field(default=lambda _: None)
    """Gets the budgets with limits after each step."""

    def step(self) -> float:
        """Do what is due; return the seconds until the next step."""
        now = self.deps.clock.now()
        with self.deps.database.read() as uow:
            due = has_ended(uow, now)
        while due:
            with self.deps.database.write() as uow:
                due = settle_ended(uow, now)
        with self.deps.database.read() as uow:
            budgets = [budget for budget in uow.all_projects().budgets.all() if budget.is_limited]
            views = _views(uow, budgets, now)
        reached = [view for view in views if _new_alerts(view)]
        if reached:
            with self.deps.database.write() as uow:
                for view in reached:
                    self._record(uow, view, now)
        self.publish(views)
        return STEP_SECONDS

    def _record(self, uow: UnitOfWork, view: BudgetView, now: datetime) -> None:
        project, status = view.project, view.status
        alerts = uow.project(project.id).budget_alerts
        for percent in _new_alerts(view):
            alert = BudgetAlert(project=project.id, month=status.month, percent=percent, reached_at=now)
            if alerts.find({"month": alert.month, "percent": percent}) is None:
                alerts.add(alert)
                action = "budget.exhausted" if percent >= EXHAUSTED_PERCENT else "budget.warning"
                record_audit(self.deps, uow, SYSTEM, action, project.id, project.name, project=project.id)
                extra = {"project": project.name, "percent": percent, "used": status.describe()}
                _log.warning("a project has reached a threshold of its budget", extra=extra)


def _new_alerts(view: BudgetView) -> list[int]:
    known = {alert.percent for alert in view.alerts}
    return [percent for percent in THRESHOLDS if percent not in known and view.status.has_reached(percent)]
