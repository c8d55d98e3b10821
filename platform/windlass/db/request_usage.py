"""Counted requests to endpoints: a row for each replica of the API, hour and group."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select

from windlass.db.dialect import insert_or_update
from windlass.db.metering_tables import RequestUsageTable
from windlass.db.repository import table_of
from windlass.db.row_scope import ScopedConnection
from windlass.domain.usage import Interval, RequestCounts, RequestUsage

_USAGE = table_of(RequestUsageTable)
_GROUP = [_USAGE.c[name] for name in ("project", "api_key", "endpoint", "model", "number")]
_COUNTS = tuple(RequestCounts.model_fields)


class SqlRequestUsageStore:
    """``ports.RequestUsageStore`` on one connection."""

    def __init__(self, connection: ScopedConnection) -> None:
        self._connection = connection

    def totals(self, interval: Interval, project: str | None) -> list[RequestUsage]:
        conditions = [_USAGE.c.hour >= interval.start, _USAGE.c.hour < interval.end]
        if project is not None:
            conditions.append(_USAGE.c.project == project)
        sums = [func.sum(_USAGE.c[name]).label(name) for name in _COUNTS]
        query = select(*_GROUP, *sums).where(*conditions).group_by(*_GROUP).order_by(*_GROUP)
        return [
            RequestUsage(
                **{column.name: row[column.name] for column in _GROUP},
                counts=RequestCounts(**{name: int(row[name]) for name in _COUNTS}),
            )
            for row in self._connection.execute(query).mappings()
        ]

    def record(self, instance: str, hour: datetime, usages: Sequence[RequestUsage]) -> None:
        if not usages:
            return
        rows = [
            {**usage.model_dump(exclude={"counts"}), **usage.counts.model_dump(), "instance": instance, "hour": hour}
            for usage in usages
        ]
        insert = insert_or_update(self._connection.dialect.name, _USAGE)
        update = {name: insert.excluded[name] for name in _COUNTS}
        keys = [column.name for column in _USAGE.primary_key.columns]
        self._connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=update), rows)
