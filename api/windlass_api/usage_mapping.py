"""Maps usage and budgets to wire models and CSV."""

import csv
import io
from collections.abc import Iterable

from fastapi import Response

from windlass.domain.usage import MICRO, UsageParts
from windlass.kit.spreadsheets import escape_formula
from windlass.services.budgets import BudgetView
from windlass.services.usage import JobUsage, UsageGroup
from windlass.wire.usage import (
    BudgetAlertOut,
    BudgetOut,
    GpuTimeSplitOut,
    RequestCountsOut,
    UsageGroupOut,
    UsageOut,
)
from windlass_api.mapping import set_etag

_HOUR = 3600 * MICRO
_PLAIN_COLUMNS = ("month", "project", "pool", "kind", "key", "key_label", "model", "endpoint", "gpu_seconds", "cost")


def split_out(parts: UsageParts) -> GpuTimeSplitOut:
    """Map what GPU time was used for."""
    return GpuTimeSplitOut(**{name: value / MICRO for name, value in parts})


def job_usage_out(usage: JobUsage) -> UsageOut:
    """Map the usage of a job."""
    return UsageOut(
        job=usage.job,
        pool=usage.pool,
        gpu_seconds=usage.parts.total / MICRO,
        split=split_out(usage.parts),
        cost=usage.cost / MICRO,
        outcome=usage.outcome,
    )


def usage_group_out(group: UsageGroup) -> UsageGroupOut:
    """Map the usage of a group."""
    return UsageGroupOut(
        month=group.month,
        **group.key._asdict(),
        key_label=group.key_label,
        gpu_seconds=group.parts.total / MICRO,
        split=split_out(group.parts),
        cost=group.cost / MICRO,
        requests=RequestCountsOut(total=group.requests.requests, **group.requests.model_dump()),
    )


def usage_csv(groups: Iterable[UsageGroup]) -> str:
    """Return the groups as CSV; no cell is a formula of a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    split, requests = GpuTimeSplitOut.model_fields, RequestCountsOut.model_fields
    titles = [*_PLAIN_COLUMNS, *(f"{name}_gpu_seconds" for name in split)]
    writer.writerow([*titles, "requests", *(f"requests_{name}" for name in requests if name != "total")])
    for group in groups:
        out = usage_group_out(group)
        values = [getattr(out, name) for name in _PLAIN_COLUMNS]
        values += [getattr(out.split, name) for name in split]
        values += [getattr(out.requests, name) for name in requests]
        writer.writerow(map(_cell, values))
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6f}"
    return escape_formula(value) if isinstance(value, str) else value


def budget_out(view: BudgetView, response: Response | None = None) -> BudgetOut:
    """Map a budget with its use."""
    status, budget = view.status, view.status.budget
    set_etag(response, budget.version)
    return BudgetOut(
        project=view.project.name,
        gpu_hours=None if budget.gpu_time is None else budget.gpu_time / _HOUR,
        cost=None if budget.cost is None else budget.cost / MICRO,
        month=status.month,
        used_gpu_hours=status.gpu_time / _HOUR,
        used_cost=status.cost / MICRO,
        used_ratio=status.used_ratio,
        state=status.state.value,
        alerts=[BudgetAlertOut(percent=alert.percent, reached_at=alert.reached_at) for alert in view.alerts],
        resets_at=status.resets_at,
        changed_by=budget.changed_by,
        changed_at=budget.changed_at,
        version=budget.version,
    )
