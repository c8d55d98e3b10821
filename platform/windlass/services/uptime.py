"""The time in which heartbeats could be stored: while nobody can store them, no attempt times out."""

from dataclasses import dataclass, field

from windlass.ports import Clock, Database

_REFRESH_SECONDS = 2.0
_MAX_GAP_SECONDS = 6.0
"""Longest time between two refreshes that counts as up: a busy server refreshes late."""


@dataclass
class ApiUptime:
    """The clock of heartbeat timeouts of one replica of the API; it stops during outages.

    Each replica refreshes a row of the database. While it cannot, because the database is away, is a standby or has a
    full disk, or because the process does not run, it could store no heartbeat either, and this clock does not advance.
    """

    database: Database
    clock: Clock
    _seconds: float = field(default=0.0, init=False)
    _refreshed_at: float | None = field(default=None, init=False)

    def step(self) -> float:
        """Refresh the row; return the seconds until the next refresh."""
        with self.database.write() as uow:
            uow.uptime.refresh()
        now = self.clock.monotonic()
        if self._refreshed_at is not None and now - self._refreshed_at <= _MAX_GAP_SECONDS:
            self._seconds += now - self._refreshed_at
        self._refreshed_at = now
        return _REFRESH_SECONDS

    def seconds(self) -> float:
        """Return the seconds of uptime until the last refresh."""
        return self._seconds
