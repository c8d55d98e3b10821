"""The load of the applications of endpoints, a row for each replica of the API that has any."""

from collections.abc import Mapping

from sqlalchemy import delete, select

from windlass.db.dialect import insert_or_update
from windlass.db.repository import table_of, to_model
from windlass.db.row_scope import ScopedConnection
from windlass.db.worker_tables import RequestLoadTable
from windlass.domain.autoscaling import RequestLoad
from windlass.ports import Changes

_LOADS = table_of(RequestLoadTable)


class SqlRequestLoadStore:
    """``ports.RequestLoadStore`` on one connection."""

    def __init__(self, connection: ScopedConnection, changes: Changes) -> None:
        self._connection = connection
        self._changes = changes

    def all(self) -> list[RequestLoad]:
        query = select(_LOADS).order_by(_LOADS.c.instance)
        return [to_model(RequestLoad, row) for row in self._connection.execute(query).mappings()]

    def record(self, instance: str, ongoing: Mapping[str, float]) -> None:
        first = insert_or_update(self._connection.dialect.name, _LOADS).values(
            instance=instance, sequence=1, ongoing=dict(ongoing)
        )
        again = {"sequence": _LOADS.c.sequence + 1, "ongoing": first.excluded.ongoing}
        self._connection.execute(first.on_conflict_do_update(index_elements=[_LOADS.c.instance], set_=again))
        self._changes.kinds.add(RequestLoad)

    def remove(self, instance: str) -> None:
        self._connection.execute(delete(_LOADS).where(_LOADS.c.instance == instance))
        self._changes.kinds.add(RequestLoad)
