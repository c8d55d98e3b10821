"""``windlass budget``: what a project may use of GPUs in each month."""

from typing import Annotated

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.wire.usage import BudgetAlertOut, BudgetOut

app = command_group("Show and set what a project may use of GPUs in each month.")


def _of_limit(used: float, limit: float | None, digits: int) -> str:
    return f"{used:,.{digits}f} of " + ("no limit" if limit is None else f"{limit:,.{digits}f}")


def _alert(alert: BudgetAlertOut) -> str:
    return f"{alert.percent} % on {alert.reached_at:%Y-%m-%d %H:%M} UTC"


_COLUMNS = (
    Column[BudgetOut]("project", lambda budget: budget.project),
    Column[BudgetOut]("state", lambda budget: budget.state),
    Column[BudgetOut]("used", lambda budget: None if budget.used_ratio is None else f"{budget.used_ratio:.1%}"),
    Column[BudgetOut]("gpu hours", lambda budget: _of_limit(budget.used_gpu_hours, budget.gpu_hours, 1)),
    Column[BudgetOut]("cost", lambda budget: _of_limit(budget.used_cost, budget.cost, 2)),
    Column[BudgetOut]("month", lambda budget: budget.month),
)
_DETAILS = (
    *_COLUMNS,
    Column[BudgetOut]("resets at", lambda budget: f"{budget.resets_at:%Y-%m-%d} UTC"),
    Column[BudgetOut]("reached", lambda budget: [_alert(alert) for alert in budget.alerts]),
    Column[BudgetOut]("set by", lambda budget: budget.changed_by or None),
)


def _name(budget: BudgetOut) -> str:
    return budget.project


@app.command("get")
@command
def get(session: Session) -> None:
    """Show the project's budget and what is used of it in this month."""
    session.show(session.client.budgets.get(), _DETAILS, _name)


@app.command("list")
@command
def list_budgets(session: Session) -> None:
    """List the budgets of all projects (platform admins)."""
    session.list(session.client.budgets.all(), _COLUMNS, _name)


@app.command("set")
@command
def set_budget(
    session: Session,
    gpu_hours: Annotated[float | None, typer.Option(min=0, help="Hours of GPUs (or CPU slots) in each month.")] = None,
    cost: Annotated[float | None, typer.Option(min=0, help="Cost in each month, by the prices of the pools.")] = None,
    no_gpu_hours: Annotated[bool, typer.Option("--no-gpu-hours", help="Remove the limit of GPU hours.")] = False,
    no_cost: Annotated[bool, typer.Option("--no-cost", help="Remove the limit of the cost.")] = False,
) -> None:
    """Set the project's budget of each month (platform admins). What is not given stays as it is."""
    for value, removed, name in ((gpu_hours, no_gpu_hours, "gpu-hours"), (cost, no_cost, "cost")):
        if value is not None and removed:
            raise typer.BadParameter(f"--{name} contradicts --no-{name}")
    if gpu_hours is None and cost is None and not no_gpu_hours and not no_cost:
        raise typer.BadParameter("nothing to set: give --gpu-hours or --cost")
    budgets = session.client.budgets
    stored = budgets.get()
    hours = stored.gpu_hours if gpu_hours is None and not no_gpu_hours else gpu_hours
    money = stored.cost if cost is None and not no_cost else cost
    session.show(budgets.set(gpu_hours=hours, cost=money, if_match=stored.version), _DETAILS, _name)
