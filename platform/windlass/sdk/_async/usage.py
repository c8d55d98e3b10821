"""Usage and budgets."""

from collections.abc import Sequence
from typing import Literal

from windlass.sdk._async.pages import AsyncPaginator
from windlass.sdk._async.resource import AsyncResource
from windlass.sdk._protocol import Request, decode_text, path, query_params, validate_body
from windlass.wire.usage import BudgetIn, BudgetOut, UsageGroupOut, UsageOut


class AsyncUsage(AsyncResource):
    """GPU time, cost, requests and tokens of the project; with ``all_projects`` of all, for platform admins."""

    def list(self) -> AsyncPaginator[UsageOut]:
        """List the GPU usage of the project's jobs."""
        return self._list(self._path("usage"), UsageOut)

    def month(
        self, month: str, *, group_by: Sequence[str] | None = None, all_projects: bool = False
    ) -> AsyncPaginator[UsageGroupOut]:
        """List the usage of a month such as ``2026-11``, grouped by project, pool, kind, key, model or endpoint."""
        query = {"group_by": None if group_by is None else [*group_by]}
        return self._list(self._month_path(month, all_projects=all_projects), UsageGroupOut, query)

    async def export(
        self,
        month: str,
        *,
        format: Literal["csv", "json"] = "csv",  # noqa: A002 - the name of the query parameter
        group_by: Sequence[str] | None = None,
        all_projects: bool = False,
    ) -> str:
        """Get the usage of a month as a CSV or JSON document."""
        url = self._month_path(month, all_projects=all_projects) + "/export"
        query = query_params({"format": format, "group_by": None if group_by is None else [*group_by]})
        return decode_text(await self._transport.send(Request("GET", url, query=query)))

    def _month_path(self, month: str, *, all_projects: bool) -> str:
        return path("usage", "months", month) if all_projects else self._path("usage", "months", month)


class AsyncBudgets(AsyncResource):
    """The project's budget of each month; ``all`` lists those of all projects."""

    def all(self) -> AsyncPaginator[BudgetOut]:
        """List the budgets of all projects (platform admins)."""
        return self._list(path("budgets"), BudgetOut)

    async def get(self) -> BudgetOut:
        """Get the project's budget and what is used of it."""
        return await self._get(self._path("budget"), BudgetOut)

    async def set(self, *, gpu_hours: float | None, cost: float | None, if_match: int | None = None) -> BudgetOut:
        """Set the project's budget (platform admins). A limit of None means no limit.

        Raises:
            PreconditionFailedError: ``if_match`` is not the current version.
        """
        body = validate_body(BudgetIn, gpu_hours=gpu_hours, cost=cost)
        return await self._put_version(self._path("budget"), BudgetOut, body, if_match)
