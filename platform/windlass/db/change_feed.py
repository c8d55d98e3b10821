"""Reports committed changes to the loops that react to them, also those of other processes (LISTEN and NOTIFY)."""

import logging
import secrets
import threading
from collections.abc import Callable, Collection
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, Engine, func, select

from windlass.kit.backoff import Backoff

_log = logging.getLogger(__name__)

Kinds = frozenset[type[BaseModel]]
Callback = Callable[[Kinds], None]

_CHANNEL = "windlass_changes"
_POLL_SECONDS = 1.0
_BACKOFF = Backoff(first=0.5, maximum=10.0)


class LocalChangeFeed:
    """The changes of this process, which is the only one that writes to the database."""

    def __init__(self) -> None:
        self._subscribers: list[tuple[Kinds, Callback]] = []

    def subscribe(self, kinds: Collection[type[BaseModel]], callback: Callback) -> None:
        """Call ``callback`` after a commit that changes one of these classes, with those that changed."""
        self._subscribers.append((frozenset(kinds), callback))

    def announce(self, connection: Connection, kinds: Collection[type[BaseModel]]) -> None:
        """Prepare to report what a transaction has changed to other processes, before its commit."""
        del connection, kinds

    def committed(self, kinds: Collection[type[BaseModel]]) -> None:
        """Report what a transaction has changed to the subscribers of this process."""
        for wanted, callback in self._subscribers:
            if changed := wanted.intersection(kinds):
                callback(changed)

    def listen(self) -> None:
        """Start to receive the changes of other processes."""

    def close(self) -> None:
        """Stop to receive."""


class PostgresChangeFeed(LocalChangeFeed):
    """The changes of all processes that use the database.

    The server delivers a notification when its transaction commits. Notifications are lost while the connection is
    interrupted: after each connection, everything may have changed. Only classes with subscribers are announced; every
    process subscribes to the same ones, whether it listens or not.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._sender = secrets.token_hex(4)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def _names(self) -> dict[str, type[BaseModel]]:
        return {kind.__name__: kind for kinds, _ in self._subscribers for kind in kinds}

    def announce(self, connection: Connection, kinds: Collection[type[BaseModel]]) -> None:
        names = sorted({kind.__name__ for kind in kinds} & self._names().keys())
        if names:
            connection.execute(select(func.pg_notify(_CHANNEL, " ".join((self._sender, *names)))))

    def listen(self) -> None:
        self._thread = threading.Thread(target=self._run, name="change-feed", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        import psycopg  # noqa: PLC0415 - SQLite needs no driver of PostgreSQL

        failures = 0
        while not self._stopping.wait(_BACKOFF.delay(failures)):
            try:
                with self._connect() as connection:
                    connection.execute(f"LISTEN {_CHANNEL}")
                    failures = 0
                    self.committed(self._names().values())
                    while not self._stopping.is_set():
                        for notification in connection.notifies(timeout=_POLL_SECONDS):
                            self._receive(notification.payload)
            except psycopg.Error as error:
                failures += 1
                # the loops also scan periodically, so nothing is lost but time
                _log.warning("changes of other processes are not received", extra={"error": str(error)})

    def _connect(self) -> Any:
        import psycopg  # noqa: PLC0415 - SQLite needs no driver of PostgreSQL

        _, parameters = self._engine.dialect.create_connect_args(self._engine.url)
        return psycopg.connect(**parameters, autocommit=True, application_name="windlass change feed")

    def _receive(self, payload: str) -> None:
        sender, *names = payload.split(" ")
        if sender != self._sender:
            known = self._names()
            self.committed([known[name] for name in names if name in known])


def change_feed(engine: Engine) -> LocalChangeFeed:
    """Return the feed of a database."""
    return LocalChangeFeed() if engine.dialect.name == "sqlite" else PostgresChangeFeed(engine)
