"""The row that every replica of the API refreshes."""

from windlass.db.dialect import insert_or_update
from windlass.db.repository import table_of
from windlass.db.row_scope import ScopedConnection
from windlass.db.worker_tables import ApiUptimeTable

_UPTIME = table_of(ApiUptimeTable)
_ONLY_ROW = 1


class SqlUptimeStore:
    """``ports.UptimeStore`` on one connection."""

    def __init__(self, connection: ScopedConnection) -> None:
        self._connection = connection

    def refresh(self) -> None:
        first = insert_or_update(self._connection.dialect.name, _UPTIME).values(id=_ONLY_ROW, refreshes=1)
        again = {"refreshes": _UPTIME.c.refreshes + 1}
        self._connection.execute(first.on_conflict_do_update(index_elements=[_UPTIME.c.id], set_=again))
