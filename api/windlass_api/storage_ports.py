"""The database and the object store of a server, from the settings."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from windlass.database_settings import DatabaseSettings
from windlass.db.engines import postgres_engine, sqlite_engine
from windlass.db.migrate import migrate, require_current
from windlass.db.row_security import bypass_problem
from windlass.db.session import SqlDatabase
from windlass.domain.errors import InvalidError
from windlass.domain.transfers import COMPLETE_SECONDS
from windlass.encryption_settings import EncryptionSettings
from windlass.ports import Clock, Database, ObjectStore, UrlSigner
from windlass.services.data_keys import ProjectKeys
from windlass.settings import LimitSettings, S3Settings
from windlass.storage.local import LocalObjectStore
from windlass.storage.master_keys import FileMasterKeys
from windlass.storage.s3 import S3ObjectStore
from windlass.storage.s3_client import S3Bucket, outage_breaker
from windlass.storage.s3_signer import S3UrlSigner

_log = logging.getLogger(__name__)

SQLITE_FILE = "windlass.db"
STORE_FOLDER = "store"


def open_database(
    settings: DatabaseSettings,
    url: SecretStr | None,
    clock: Clock,
    data_directory: Callable[[], Path],
    *,
    serves_api: bool = True,
) -> tuple[SqlDatabase, str]:
    """Open PostgreSQL, or without a URL SQLite in the data directory, which is migrated.

    Args:
        settings: limits of the connections.
        url: PostgreSQL in the role of this process.
        clock: the clock of the outbox.
        data_directory: returns the data directory, or raises an error if this process may have none.
        serves_api: whether the process serves the API.

    Returns:
        The database, and why row security does not restrict the API on PostgreSQL, if so.

    Raises:
        InvalidError: the database has another schema version, or the URL is malformed.
    """
    if url is None:
        engine = sqlite_engine(data_directory() / SQLITE_FILE)
        migrate(engine)
        return SqlDatabase(engine, clock), ""
    engine = postgres_engine(**_connection(settings, url))
    require_current(engine)
    problem = ""
    if serves_api:
        with engine.connect() as connection:
            problem = bypass_problem(connection)
    if problem:
        _log.warning("row security does not restrict the API", extra={"problem": problem})
    return SqlDatabase(engine, clock), problem


def migrate_database(settings: DatabaseSettings) -> None:
    """Migrate PostgreSQL as the owner of the tables, for a server that no migration precedes."""
    if settings.of_owner is not None:
        engine = postgres_engine(**_connection(settings, settings.of_owner))
        migrate(engine)
        engine.dispose()


def _connection(settings: DatabaseSettings, url: SecretStr) -> dict[str, Any]:
    return {
        "url": url.get_secret_value(),
        "connections": settings.connections,
        "statement_seconds": settings.statement_seconds,
        "lock_seconds": settings.lock_seconds,
    }


@dataclass(frozen=True)
class StorePorts:
    """The object store, and what gives other processes access to single objects of it."""

    store: ObjectStore
    signer: UrlSigner | None
    """None for a folder, which they read by path."""
    data_keys: ProjectKeys | None = None
    """None for a folder, whose files are not encrypted."""


def project_keys(database: Database, clock: Clock) -> ProjectKeys:
    """Return the data keys of the projects, with the master keys of the settings.

    Raises:
        InvalidError: the file of the master keys is not valid.
    """
    path = EncryptionSettings().master_keys_file
    return ProjectKeys(database, None if path is None else FileMasterKeys.read(path), clock)


def open_store(
    settings: S3Settings, limits: LimitSettings, data_directory: Callable[[], Path], data_keys: ProjectKeys
) -> StorePorts:
    """Open the bucket, or without one a folder of the data directory.

    Args:
        settings: the bucket and its credentials.
        limits: the disk space that the folder leaves free.
        data_directory: as for ``open_database``.
        data_keys: the keys of the encrypted projects.

    Raises:
        InvalidError: the bucket cannot be used, or there are master keys and no bucket.
    """
    if not settings.bucket:
        if data_keys.masters is not None:
            raise InvalidError(
                "WINDLASS_ENCRYPTION_MASTER_KEYS_FILE is set, but the object store is a folder",
                hint="set WINDLASS_S3_BUCKET, or encrypt the disk instead",
            )
        local = LocalObjectStore(data_directory() / STORE_FOLDER, limits.min_free_disk_bytes)
        local.delete_drafts()
        return StorePorts(local, None)
    connect = partial(S3Bucket.connect, settings, breaker=outage_breaker())
    store = S3ObjectStore(connect(), extending=connect(attempts=2), data_keys=data_keys)
    store.bucket.check()
    public = S3Bucket.connect(settings, public=True) if settings.public_endpoint else None
    completing = connect(reply_seconds=COMPLETE_SECONDS)
    signer = S3UrlSigner(store, public, settings.url_seconds, settings.part_bytes, completing)
    return StorePorts(store, signer, data_keys)
