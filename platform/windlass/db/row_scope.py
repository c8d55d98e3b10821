"""The scope of a transaction: what the policies of row security compare the rows with (docs/adr/0061).

The values are settings of PostgreSQL that end with the transaction. The first ones are sent with its BEGIN, so that
they cost no statement; one that follows later costs a statement, unless a query sets it. SQLite has no policies.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Dialect, func, select

_OPTION: Final = "windlass_transaction"
NO_SCOPE: Final[Mapping[str, Any]] = {_OPTION: None}
"""Options of a connection whose statements are in no transaction."""
UNTIL_COMMIT: Final = True
"""Argument of PostgreSQL's ``set_config``."""
GROUP_SEPARATOR: Final = "\n"
_PLAIN: Final = re.compile(r"[\w .@:|/+=,\n-]{1,4000}")
"""Values that a BEGIN may contain; it has no parameters. Another one is sent by a statement of its own."""


class Setting(StrEnum):
    """The settings of a transaction. A policy names each as ``windlass.<value>``."""

    PROJECT = "project"
    """uid of the project whose rows are read and written."""
    USER = "user"
    """User whose memberships are read, and whose keys are read and written."""
    GROUPS = "groups"
    """Groups whose memberships are read, joined by ``GROUP_SEPARATOR``."""
    PLATFORM = "platform"
    """``on`` for what platform admins read of all projects."""
    FIND_PROJECT = "find_project"
    FIND_KEY = "find_key"
    FIND_RUN = "find_run"
    FIND_WARM_TRAINER = "find_warm_trainer"
    FIND_BASE_MODEL = "find_base_model"
    """Key of what is looked up before its project is known, or over all projects."""

    @property
    def variable(self) -> str:
        """Its name in the database."""
        return f"windlass.{self.value}"


class RowScope:
    """The settings of one transaction, and which of them the server has."""

    def __init__(self, begin: str) -> None:
        """Begin transactions with the statement ``begin``."""
        self._begin = begin
        self._wanted: dict[Setting, str] = {}
        self._sent: dict[Setting, str] = {}

    def want(self, settings: Mapping[Setting, str]) -> None:
        """Set these before the next statement."""
        self._wanted.update(settings)

    def opened(self, setting: Setting, value: str) -> None:
        """Record a setting that a query has set."""
        self._wanted[setting] = self._sent[setting] = value

    def begin(self) -> str:
        """Return the statements that begin the transaction with its settings."""
        self._sent = {name: value for name, value in self._wanted.items() if _PLAIN.fullmatch(value)}
        changes = (f"SET LOCAL windlass.\"{name.value}\" = '{value}'" for name, value in self._sent.items())
        return "; ".join((self._begin, *changes))

    def send(self, connection: Connection) -> None:
        """Send what the server does not have yet; the first call begins the transaction."""
        if not connection.in_transaction():
            connection.begin()
        changes = {name: value for name, value in self._wanted.items() if self._sent.get(name) != value}
        if changes:
            self._sent |= changes
            calls = [func.set_config(name.variable, value, UNTIL_COMMIT) for name, value in changes.items()]
            connection.execute(select(*calls))


def in_scope(connection: Connection, scope: RowScope) -> Connection:
    """Let a connection begin its transaction with the statements of ``scope``; see ``begin_in_scope``."""
    return connection.execution_options(**{_OPTION: scope})


def begin_in_scope(connection: Connection) -> None:
    """Begin the transaction of a connection whose driver begins none; an engine calls it at its event ``begin``."""
    scope = connection.get_execution_options().get(_OPTION)
    if scope is not None:
        connection.exec_driver_sql(scope.begin())


class ScopedConnection:
    """Executes statements in a transaction whose settings it has set before each of them."""

    def __init__(
        self, connection: Connection, scope: RowScope | None, settings: Mapping[Setting, str] | None = None
    ) -> None:
        """Set ``settings`` before each statement; ``scope`` None: the database has no row security."""
        self._connection = connection
        self._scope = scope
        self._settings = dict(settings or {})

    @property
    def dialect(self) -> Dialect:
        """The dialect of the database."""
        return self._connection.dialect

    @property
    def has_row_security(self) -> bool:
        """Whether the database has row security."""
        return self._scope is not None

    def narrowed(self, settings: Mapping[Setting, str]) -> "ScopedConnection":
        """Return a connection that also sets these; the next statement of the transaction has them in any case."""
        if self._scope is not None:
            self._scope.want(settings)
        return ScopedConnection(self._connection, self._scope, {**self._settings, **settings})

    def opened(self, setting: Setting, value: str) -> None:
        """Record a setting that a query has set."""
        if self._scope is not None:
            self._scope.opened(setting, value)

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Execute a statement."""
        self._enter()
        return self._connection.execute(statement, parameters)

    def scalar(self, statement: Any) -> Any:
        """Return the first value of the first row, None without a row."""
        self._enter()
        return self._connection.scalar(statement)

    def scalars(self, statement: Any) -> Any:
        """Return the first values of all rows."""
        self._enter()
        return self._connection.scalars(statement)

    def _enter(self) -> None:
        if self._scope is not None:
            self._scope.want(self._settings)
            self._scope.send(self._connection)
