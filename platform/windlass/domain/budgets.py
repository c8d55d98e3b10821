"""Budgets: what a project may use of GPUs in a calendar month. No I/O."""

from datetime import datetime
from enum import StrEnum
from typing import Final

from windlass.domain.errors import BudgetExceededError
from windlass.domain.jobs import DomainModel
from windlass.domain.reports import JobWarning
from windlass.domain.specs import JobSpec
from windlass.domain.usage import MICRO, Month, month_interval

WARNING_PERCENT: Final = 80
EXHAUSTED_PERCENT: Final = 100
THRESHOLDS: Final = (WARNING_PERCENT, EXHAUSTED_PERCENT)
"""Percentages of a budget that are recorded when the usage of a month reaches them."""
_HOUR: Final = 3600 * MICRO


class ProjectBudget(DomainModel):
    """What a project may use in each calendar month (UTC). A limit of None is none; version 0: never set."""

    project: str
    cost: int | None = None
    """In millionths of the currency unit."""
    gpu_time: int | None = None
    """In microseconds of one GPU."""
    changed_by: str = ""
    changed_at: datetime | None = None
    version: int = 0

    @property
    def is_limited(self) -> bool:
        """Whether it limits anything."""
        return self.cost is not None or self.gpu_time is not None


class BudgetAlert(DomainModel):
    """The usage of a project in a month has reached a percentage of its budget."""

    project: str
    month: Month
    percent: int
    reached_at: datetime


class BudgetState(StrEnum):
    """How much of a budget is used."""

    UNLIMITED = "unlimited"
    OK = "ok"
    WARNING = "warning"
    EXHAUSTED = "exhausted"


class BudgetStatus(DomainModel):
    """A budget with the usage of a month."""

    budget: ProjectBudget
    month: Month
    gpu_time: int
    """Microseconds of one GPU."""
    cost: int
    """Millionths of the currency unit."""

    def has_reached(self, percent: int) -> bool:
        """Return whether the usage has reached a percentage of a limit; a limit of 0 is always reached."""
        return any(100 * used >= percent * limit for used, limit in self._used_and_limits())

    @property
    def used_ratio(self) -> float | None:
        """The used part of the limit that is used the most; None without a limit."""
        ratios = [used / limit if limit else 1.0 for used, limit in self._used_and_limits()]
        return max(ratios, default=None)

    @property
    def state(self) -> BudgetState:
        """How much is used."""
        if not self.budget.is_limited:
            return BudgetState.UNLIMITED
        if self.has_reached(EXHAUSTED_PERCENT):
            return BudgetState.EXHAUSTED
        return BudgetState.WARNING if self.has_reached(WARNING_PERCENT) else BudgetState.OK

    @property
    def resets_at(self) -> datetime:
        """When the next month begins."""
        return month_interval(self.month).end

    def _used_and_limits(self) -> list[tuple[int, int]]:
        pairs = ((self.gpu_time, self.budget.gpu_time), (self.cost, self.budget.cost))
        return [(used, limit) for used, limit in pairs if limit is not None]

    def describe(self) -> str:
        """Return the used and the allowed amounts, such as ``80.0 of 100.0 GPU-hours``."""
        parts = []
        if self.budget.gpu_time is not None:
            parts.append(f"{self.gpu_time / _HOUR:,.1f} of {self.budget.gpu_time / _HOUR:,.1f} GPU-hours")
        if self.budget.cost is not None:
            parts.append(f"{self.cost / MICRO:,.2f} of {self.budget.cost / MICRO:,.2f} (cost)")
        return " and ".join(parts)

    def context(self) -> dict[str, object]:
        """Return the values for programs."""
        budget = self.budget
        return {
            "month": self.month,
            "used_gpu_hours": self.gpu_time / _HOUR,
            "used_cost": self.cost / MICRO,
            "budget_gpu_hours": None if budget.gpu_time is None else budget.gpu_time / _HOUR,
            "budget_cost": None if budget.cost is None else budget.cost / MICRO,
            "resets_at": self.resets_at.isoformat(),
        }


def require_budget(status: BudgetStatus, project: str) -> None:
    """Require that the budget of a project is not used up.

    Raises:
        BudgetExceededError: it is; the error has what is used and who can raise the budget.
    """
    if status.state is not BudgetState.EXHAUSTED:
        return
    raise BudgetExceededError(
        f"project {project} has used its budget of {status.month}: {status.describe()}",
        hint=f"ask a platform admin to raise it (`windlass budget set --project {project}`), "
        f"or wait until {status.resets_at:%Y-%m-%d}",
        context={"project": project, **status.context()},
    )


def budget_warnings(status: BudgetStatus, spec: JobSpec, price: int) -> tuple[JobWarning, ...]:
    """Return what the user of a new job should know about its project's budget.

    Args:
        status: the budget and its use.
        spec: the job.
        price: of a GPU hour of its pool now, in millionths of the currency unit.
    """
    warnings = []
    if status.state is BudgetState.WARNING:
        message = f"the project has used {status.used_ratio or 0:.0%} of its budget of {status.month}: "
        warnings.append(_warning("budget_nearly_used", message + status.describe(), status))
    most = round(spec.max_duration_seconds * MICRO) * spec.resources.gpus
    after = status.model_copy(update={"gpu_time": status.gpu_time + most, "cost": status.cost + most * price // _HOUR})
    if any(used > limit for used, limit in after._used_and_limits()):  # noqa: SLF001 - of the same class
        message = (
            f"with its maximum duration the job could exceed the project's budget of {status.month}: it would then be "
            f"{after.describe()}; running jobs are not stopped by the budget"
        )
        warnings.append(_warning("budget_may_be_exceeded", message, after))
    return tuple(warnings)


def _warning(code: str, message: str, status: BudgetStatus) -> JobWarning:
    return JobWarning(code=code, message=message, context=status.context())
