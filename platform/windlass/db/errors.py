"""Translates errors of the databases. Nothing else in the platform knows their codes."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from windlass.domain.errors import (
    ConflictError,
    StorageFullError,
    TransactionConflictError,
    UnavailableError,
    WindlassError,
)

_TRANSIENT_SQLITE_ERRORS = ("database is locked", "unable to open database file", "disk I/O error")
"""SQLite operational errors that a retry may solve. Others, such as a missing table, are bugs."""

_CONFLICTS = frozenset({"40001", "40P01"})
"""SQLSTATEs of a serialization failure and of a deadlock: nothing was written, and a repetition may succeed."""
_DISK_FULL = frozenset({"53100", "58030"})
_TRANSIENT = frozenset({"25006", "25P03", "55P03", "57014"})
"""The server is a standby, or ended a transaction that was idle or waited for too long."""
_TRANSIENT_CLASSES = frozenset({"08", "53", "57"})
"""SQLSTATE classes: connection exception, insufficient resources, operator intervention such as a restart."""


def sqlstate(error: DBAPIError) -> str | None:
    """Return the SQLSTATE that PostgreSQL reported; None for an error of the driver, and for SQLite."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise the error of the platform for an error of the database; one that is a bug is raised unchanged."""
    try:
        yield
    except PoolTimeoutError as error:
        raise UnavailableError("every connection to the database is in use", hint="repeat the request") from error
    except DBAPIError as error:
        translated = _sqlite_error(error) if isinstance(error.orig, sqlite3.Error) else _postgres_error(error)
        if translated is None:
            raise
        raise translated from error


def _sqlite_error(error: DBAPIError) -> WindlassError | None:
    text = str(error.orig)
    if isinstance(error, IntegrityError):
        return _conflict()
    if "database or disk is full" in text:
        return _disk_full()
    if isinstance(error, OperationalError) and any(pattern in text for pattern in _TRANSIENT_SQLITE_ERRORS):
        return _unavailable()
    return None


def _postgres_error(error: DBAPIError) -> WindlassError | None:
    state = sqlstate(error)
    if state is None:  # of the driver: no connection, or one that was lost
        return _unavailable() if isinstance(error, (OperationalError, InterfaceError)) else None
    if state in _CONFLICTS:
        return TransactionConflictError(
            "a concurrent change of the same data was committed first; nothing was written", hint="repeat the request"
        )
    if isinstance(error, IntegrityError):
        return _conflict()
    if state in _DISK_FULL:
        return _disk_full()
    if state in _TRANSIENT or state[:2] in _TRANSIENT_CLASSES:
        return _unavailable()
    return None


def _conflict() -> ConflictError:
    return ConflictError("the change conflicts with stored data", hint="read the object again, then repeat the request")


def _disk_full() -> StorageFullError:
    return StorageFullError(
        "the database's disk is full; nothing was written", hint="free some space and repeat the request"
    )


def _unavailable() -> UnavailableError:
    return UnavailableError("the database does not answer", hint="repeat the request")
