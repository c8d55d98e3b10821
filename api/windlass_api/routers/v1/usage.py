"""Routes of usage and budgets."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Response

from windlass.domain.projects import Permission
from windlass.domain.text import TextConstraints
from windlass.domain.usage import MICRO, Month
from windlass.services.budgets import AllBudgets, Budgets
from windlass.services.usage import AllUsage, Usage, UsageDimension, UsageGroup
from windlass.wire.base import Page
from windlass.wire.usage import BudgetIn, BudgetOut, UsageGroupOut, UsageOut
from windlass_api import routing
from windlass_api.dependencies import IfMatch, RequestContext, require_global, require_project
from windlass_api.paging import paginate, paginate_items
from windlass_api.parameters import CursorText, Limit, ProjectName
from windlass_api.usage_mapping import budget_out, job_usage_out, usage_csv, usage_group_out

router = routing.router(prefix="/v1")

UsageMonth = Annotated[Month, Path(description="month in UTC, such as `2026-11`")]
GroupBy = Annotated[
    list[UsageDimension], Query(max_length=len(UsageDimension), description="what to group by; may be repeated")
]
GroupCursor = Annotated[
    Annotated[str, TextConstraints(max_length=1000)] | None, Query(description="`next_cursor` of the previous page")
]
ExportFormat = Annotated[Literal["csv", "json"], Query(alias="format", description="format of the document")]
Read = Annotated[RequestContext, require_project(Permission.USAGE_READ)]
ReadAll = Annotated[RequestContext, require_global(Permission.USAGE_READ_ALL)]

_OF_PROJECT = [UsageDimension.POOL, UsageDimension.KEY, UsageDimension.MODEL]
_OF_ALL = [UsageDimension.PROJECT, UsageDimension.POOL]
_EVERYTHING = list(UsageDimension)
_EXPORT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {}, "application/json": {}}, "description": "the document"}
}


@router.get("/projects/{project}/usage", operation_id="listUsage", tags=["usage"])
def list_usage(project: ProjectName, ctx: Read, limit: Limit = 50, cursor: CursorText = None) -> Page[UsageOut]:
    """List GPU-seconds, their split and their cost for each job, newest first."""
    return paginate(ctx.project_service(Usage).page, limit, cursor, lambda usage: usage.job, job_usage_out)


@router.get("/projects/{project}/usage/months/{month}", operation_id="listMonthUsage", tags=["usage"])
def list_month_usage(
    project: ProjectName,
    month: UsageMonth,
    ctx: Read,
    group_by: GroupBy = _OF_PROJECT,
    limit: Limit = 50,
    cursor: GroupCursor = None,
) -> Page[UsageGroupOut]:
    """List the project's GPU time, cost, requests and tokens in a month, by group."""
    return _page(ctx.project_service(Usage).of_month(month, group_by), limit, cursor)


@router.get(
    "/projects/{project}/usage/months/{month}/export",
    operation_id="exportMonthUsage",
    tags=["usage"],
    responses=_EXPORT,
    response_class=Response,
)
def export_month_usage(
    project: ProjectName,
    month: UsageMonth,
    ctx: Read,
    group_by: GroupBy = _EVERYTHING,
    export_format: ExportFormat = "csv",
) -> Response:
    """Get the project's usage in a month as one CSV or JSON document, by group."""
    return _export(ctx.project_service(Usage).of_month(month, group_by), f"{project}-{month}", export_format)


@router.get("/usage/months/{month}", operation_id="listAllMonthUsage", tags=["usage"])
def list_all_month_usage(
    month: UsageMonth, ctx: ReadAll, group_by: GroupBy = _OF_ALL, limit: Limit = 50, cursor: GroupCursor = None
) -> Page[UsageGroupOut]:
    """List the usage of all projects in a month, by group."""
    return _page(ctx.service(AllUsage).of_month(month, group_by), limit, cursor)


@router.get(
    "/usage/months/{month}/export",
    operation_id="exportAllMonthUsage",
    tags=["usage"],
    responses=_EXPORT,
    response_class=Response,
)
def export_all_month_usage(
    month: UsageMonth, ctx: ReadAll, group_by: GroupBy = _EVERYTHING, export_format: ExportFormat = "csv"
) -> Response:
    """Get the usage of all projects in a month as one CSV or JSON document, by group."""
    return _export(ctx.service(AllUsage).of_month(month, group_by), month, export_format)


@router.get("/budgets", operation_id="listBudgets", tags=["budgets"])
def list_budgets(
    ctx: Annotated[RequestContext, require_global(Permission.BUDGETS_READ_ALL)],
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[BudgetOut]:
    """List the budgets of all projects with what is used of them."""
    return paginate(ctx.service(AllBudgets).page, limit, cursor, lambda view: view.project.id, budget_out)


@router.get("/projects/{project}/budget", operation_id="getBudget", tags=["budgets"])
def get_budget(
    project: ProjectName, response: Response, ctx: Annotated[RequestContext, require_project(Permission.BUDGETS_READ)]
) -> BudgetOut:
    """Get the project's budget and what is used of it; without one, the limits are null."""
    return budget_out(ctx.project_service(Budgets).get(), response)


@router.put("/projects/{project}/budget", operation_id="putBudget", tags=["budgets"])
def put_budget(
    project: ProjectName,
    body: BudgetIn,
    response: Response,
    version: IfMatch,
    ctx: Annotated[RequestContext, require_project(Permission.BUDGETS_WRITE)],
) -> BudgetOut:
    """Set the project's budget of each month. Running jobs go on, whatever the new limits are."""
    view = ctx.project_service(Budgets).put(
        version,
        cost=None if body.cost is None else round(body.cost * MICRO),
        gpu_time=None if body.gpu_hours is None else round(body.gpu_hours * 3600 * MICRO),
    )
    return budget_out(view, response)


def _page(groups: Sequence[UsageGroup], limit: int, cursor: str | None) -> Page[UsageGroupOut]:
    return paginate_items(groups, limit, cursor, lambda group: "/".join(group.key), usage_group_out)


def _export(groups: Sequence[UsageGroup], name: str, export_format: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="usage-{name}.{export_format}"'}
    if export_format == "csv":
        return Response(usage_csv(groups), media_type="text/csv", headers=headers)
    items = [usage_group_out(group) for group in groups]
    content = Page[UsageGroupOut](items=items).model_dump_json()
    return Response(content, media_type="application/json", headers=headers)
