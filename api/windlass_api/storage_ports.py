"""The database and the object store of a server, from the settings."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from windlass.db.engines import postgres_engine, sqlite_engine
from windlass.db.migrate import migrate, require_current
from windlass.db.session import SqlDatabase
from windlass.domain.transfers import COMPLETE_SECONDS
from windlass.ports import Clock, ObjectStore, UrlSigner
from windlass.settings import DatabaseSettings, LimitSettings, S3Settings
from windlass.storage.local import LocalObjectStore
from windlass.storage.s3 import S3ObjectStore
from windlass.storage.s3_client import S3Bucket, outage_breaker
from windlass.storage.s3_signer import S3UrlSigner

SQLITE_FILE = "windlass.db"
STORE_FOLDER = "store"


def open_database(
    settings: DatabaseSettings, clock: Clock, data_directory: Callable[[], Path], *, migrates: bool
) -> SqlDatabase:
    """Open PostgreSQL, or without a URL SQLite in the data directory.

    Args:
        settings: the connection.
        clock: the clock of the outbox.
        data_directory: returns the data directory, or raises an error if this process may have none.
        migrates: whether this server migrates PostgreSQL; if not, ``python -m windlass.db upgrade`` does it before the
            start of the replicas. SQLite is always migrated.

    Raises:
        InvalidError: the database has another schema version.
    """
    if settings.url is None:
        engine = sqlite_engine(data_directory() / SQLITE_FILE)
    else:
        engine = postgres_engine(
            settings.url.get_secret_value(),
            connections=settings.connections,
            statement_seconds=settings.statement_seconds,
            lock_seconds=settings.lock_seconds,
        )
    if settings.url is None or migrates:
        migrate(engine)
    else:
        require_current(engine)
    return SqlDatabase(engine, clock)


@dataclass(frozen=True)
class StorePorts:
    """The object store, and what gives other processes access to single objects of it."""

    store: ObjectStore
    signer: UrlSigner | None
    """None for a folder, which they read by path."""


def open_store(settings: S3Settings, limits: LimitSettings, data_directory: Callable[[], Path]) -> StorePorts:
    """Open the bucket, or without one a folder of the data directory.

    Args:
        settings: the bucket and its credentials.
        limits: the disk space that the folder leaves free.
        data_directory: as for ``open_database``.

    Raises:
        InvalidError: the bucket cannot be used.
    """
    if not settings.bucket:
        local = LocalObjectStore(data_directory() / STORE_FOLDER, limits.min_free_disk_bytes)
        local.delete_drafts()
        return StorePorts(local, None)
    connect = partial(S3Bucket.connect, settings, breaker=outage_breaker())
    store = S3ObjectStore(connect(), extending=connect(attempts=2))
    store.bucket.check()
    public = S3Bucket.connect(settings, public=True) if settings.public_endpoint else None
    completing = connect(reply_seconds=COMPLETE_SECONDS)
    return StorePorts(store, S3UrlSigner(store, public, settings.url_seconds, settings.part_bytes, completing))
