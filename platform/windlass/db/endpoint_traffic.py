"""Requests to endpoints by minute: a row for each replica of the API, endpoint and minute."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, func, literal, select, type_coerce

from windlass.db.columns import Instant
from windlass.db.dialect import insert_or_update
from windlass.db.metering_tables import LATENCY_COLUMNS, EndpointTrafficTable
from windlass.db.repository import delete_rows, table_of
from windlass.db.row_scope import ScopedConnection
from windlass.domain.endpoint_traffic import EndpointMinute, TrafficCounts, TrafficPoint
from windlass.domain.usage import Interval

_TRAFFIC = table_of(EndpointTrafficTable)
_OUTCOMES = ("succeeded", "rejected", "failed", "cancelled")
_COUNTS = (*_OUTCOMES, *LATENCY_COLUMNS)


class SqlEndpointTrafficStore:
    """``ports.EndpointTrafficStore`` on one connection."""

    def __init__(self, connection: ScopedConnection) -> None:
        self._connection = connection

    def points(self, project: str, endpoint: str, interval: Interval, step: timedelta) -> list[TrafficPoint]:
        minute = type_coerce(_TRAFFIC.c.minute, BigInteger)
        # rendered as a constant: PostgreSQL does not see that two parameters of one value are the same expression
        width = literal(step // timedelta.resolution, BigInteger, literal_execute=True)
        start = type_coerce(minute - minute % width, Instant).label("start")
        conditions = (
            _TRAFFIC.c.project == project,
            _TRAFFIC.c.endpoint == endpoint,
            _TRAFFIC.c.minute >= interval.start,
            _TRAFFIC.c.minute < interval.end,
        )
        sums = [func.sum(_TRAFFIC.c[name]).label(name) for name in _COUNTS]
        query = select(start, *sums).where(*conditions).group_by(start).order_by(start)
        return [
            TrafficPoint(at=row["start"], counts=_counts_of(row)) for row in self._connection.execute(query).mappings()
        ]

    def record(self, instance: str, minutes: Iterable[EndpointMinute]) -> None:
        rows = [
            {
                **each.model_dump(exclude={"counts"}),
                **each.counts.model_dump(exclude={"latencies"}),
                **dict(zip(LATENCY_COLUMNS, each.counts.latencies, strict=True)),
                "instance": instance,
            }
            for each in minutes
        ]
        if not rows:
            return
        insert = insert_or_update(self._connection.dialect.name, _TRAFFIC)
        update = {name: insert.excluded[name] for name in _COUNTS}
        keys = [column.name for column in _TRAFFIC.primary_key.columns]
        self._connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=update), rows)

    def delete_older(self, before: datetime, limit: int) -> int:
        return delete_rows(self._connection, _TRAFFIC, [_TRAFFIC.c.minute < before], limit)


def _counts_of(row: Any) -> TrafficCounts:
    outcomes = {name: int(row[name]) for name in _OUTCOMES}
    return TrafficCounts(**outcomes, latencies=tuple(int(row[name]) for name in LATENCY_COLUMNS))
