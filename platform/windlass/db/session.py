"""Transactions. On PostgreSQL, writers are serializable and readers have one snapshot; SQLite has one writer."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import blake2b
from typing import Any, Final

from pydantic import BaseModel
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from windlass.db import audit_tables as a
from windlass.db import cluster_tables as c
from windlass.db import identity_tables as i
from windlass.db import metering_tables as m
from windlass.db import tables as t
from windlass.db.admission import SqlAdmissionStore
from windlass.db.audit_chain import SqlAuditChain
from windlass.db.change_feed import change_feed
from windlass.db.endpoint_traffic import SqlEndpointTrafficStore
from windlass.db.errors import translate_errors
from windlass.db.lookups import SqlMemberships, SqlRunLookup, read_cohorts
from windlass.db.outbox import SqlOutbox
from windlass.db.project_data import Rows, SqlAllProjectsData, SqlPlatformData, SqlProjectData
from windlass.db.request_loads import SqlRequestLoadStore
from windlass.db.request_usage import SqlRequestUsageStore
from windlass.db.row_scope import NO_SCOPE, RowScope, ScopedConnection, Setting, in_scope
from windlass.db.tombstones import SqlTombstoneStore
from windlass.db.uptime import SqlUptimeStore
from windlass.domain.audit import AuditEntry
from windlass.domain.cluster_sync import ClusterSyncStatus, QueueQuota, StoredDemand
from windlass.domain.identity import UserAccount, UserSession
from windlass.domain.jobs import Run
from windlass.domain.models import CatalogueModel
from windlass.domain.projects import ApiKey, Member, Pool, Project
from windlass.domain.usage import PoolPrice
from windlass.kit.fair_lock import FairLock, FairLocks
from windlass.ports import (
    AdmissionStore,
    AllProjectsData,
    AuditChain,
    Changes,
    Clock,
    CommitHook,
    EndpointTrafficStore,
    Outbox,
    PlatformData,
    ProjectData,
    ReadAuditChain,
    ReadRepository,
    RequestLoadStore,
    RequestUsageStore,
    TombstoneStore,
    UptimeStore,
    WorkerReadUnitOfWork,
    WorkerUnitOfWork,
)
from windlass.ports import filters as f

_READ_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "sqlite": {"writes": False},
    "postgresql": {"isolation_level": "AUTOCOMMIT"},  # of the driver: ``begin_in_scope`` begins the transactions
}
_WRITE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "sqlite": {"writes": True},
    "postgresql": {"isolation_level": "AUTOCOMMIT"},
}
_BEGIN_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITE: Final = "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE"
_BEGIN_SEAL: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
"""A serializable sealer of audit entries could make the transactions that write them fail."""


class SqlUnitOfWork:
    """``ports.WorkerUnitOfWork`` on one connection."""

    projects = Rows[Project, f.ProjectFilter](
        t.ProjectTable, Project, "project", lookups={"name": Setting.FIND_PROJECT}, deleted_at=None
    )
    keys = Rows[ApiKey, f.KeyFilter](i.ApiKeyTable, ApiKey, "key", lookups={"id": Setting.FIND_KEY})
    users = Rows[UserAccount, f.UserFilter](i.UserAccountTable, UserAccount, "user")
    sessions = Rows[UserSession, f.SessionFilter](i.UserSessionTable, UserSession, "session")
    pools = Rows[Pool, f.PoolFilter](t.PoolTable, Pool, "pool")
    pool_prices = Rows[PoolPrice, f.PoolPriceFilter](m.PoolPriceTable, PoolPrice, "price")
    base_models = Rows[CatalogueModel, f.BaseModelFilter](t.BaseModelTable, CatalogueModel, "base model")
    audit = Rows[AuditEntry, f.AuditFilter](a.AuditTable, AuditEntry, "audit entry")
    cluster_sync_status = Rows[ClusterSyncStatus, f.ClusterSyncFilter](
        c.ClusterSyncStatusTable, ClusterSyncStatus, "cluster sync status"
    )
    queue_quotas = Rows[QueueQuota, f.QuotaFilter](c.QueueQuotaTable, QueueQuota, "queue's quota")
    demands = Rows[StoredDemand, f.DemandFilter](c.DemandTable, StoredDemand, "demand")

    def __init__(self, connection: ScopedConnection, clock: Clock) -> None:
        self.connection = connection
        self.changes = Changes()
        self.scope: Mapping[str, Any] = {}
        self.audit_chain: ReadAuditChain = SqlAuditChain(connection)
        self.admission: AdmissionStore = SqlAdmissionStore(connection)
        self.outbox: Outbox = SqlOutbox(connection, clock, self.changes)
        self.tombstones: TombstoneStore = SqlTombstoneStore(connection, self.changes)
        self.request_loads: RequestLoadStore = SqlRequestLoadStore(connection, self.changes)
        self.request_usage: RequestUsageStore = SqlRequestUsageStore(connection)
        self.endpoint_traffic: EndpointTrafficStore = SqlEndpointTrafficStore(connection)
        self.uptime: UptimeStore = SqlUptimeStore(connection)
        self._runs: ReadRepository[Run, f.RunFilter] = SqlRunLookup(connection, self.changes)

    def project(self, project: str) -> ProjectData:
        return SqlProjectData(self.connection, self.changes, project)

    def memberships(self, user: str, groups: Collection[str] = ()) -> ReadRepository[Member, f.MemberFilter]:
        return SqlMemberships(self.connection, self.changes, user, groups)

    def platform(self) -> PlatformData:
        return SqlPlatformData(self.connection, self.changes)

    def cohorts(self) -> dict[str, str | None]:
        return read_cohorts(self.connection)

    def find_run(self, run: str) -> Run | None:
        return self._runs.find({"id": run})

    def find_run_of_warm_trainer(self, name: str) -> Run | None:
        return self._runs.find({"warm_trainer": name})

    def all_projects(self) -> AllProjectsData:
        return SqlAllProjectsData(self.connection, self.changes)


@contextmanager
def _advisory(connection: Connection, lock: str | None) -> Iterator[None]:
    """Hold an advisory lock of the session: its transaction must get its snapshot after the lock.

    It ends with the connection, so a process that dies holds no lock.
    """
    if lock is None or connection.dialect.name == "sqlite":
        yield
        return
    key = int.from_bytes(blake2b(lock.encode(), digest_size=8).digest(), "big", signed=True)
    connection.exec_driver_sql("SELECT pg_advisory_lock(%s)", (key,))
    connection.commit()
    try:
        yield
    finally:
        _unlock(connection, key)


def _unlock(connection: Connection, key: int) -> None:
    """Release an advisory lock. A connection that cannot is closed, and the server releases the lock with it."""
    if connection.invalidated or connection.closed:
        return
    try:
        connection.rollback()  # no effect after a commit
        connection.execution_options(**NO_SCOPE).exec_driver_sql("SELECT pg_advisory_unlock(%s)", (key,))
        connection.commit()
    except DBAPIError:
        connection.invalidate()


class SqlDatabase:
    """``ports.WorkerDatabase`` over one engine."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._reader = engine.execution_options(**_READ_OPTIONS[engine.dialect.name])
        self._writer = engine.execution_options(**_WRITE_OPTIONS[engine.dialect.name])
        self._clock = clock
        self._hooks: list[CommitHook] = []
        self._feed = change_feed(engine)
        # SQLite has one writer, and its busy handler is not fair: writers of this process wait for this lock instead.
        self._write_lock = FairLock()
        self._locks = FairLocks()

    @contextmanager
    def read(self) -> Iterator[WorkerReadUnitOfWork]:
        with translate_errors(), self._reader.connect() as connection:
            uow: WorkerUnitOfWork = SqlUnitOfWork(self._scoped(connection, _BEGIN_READ), self._clock)
            yield uow

    @contextmanager
    def write(self, lock: str | None = None) -> Iterator[WorkerUnitOfWork]:
        with (
            self._exclusion(lock),
            translate_errors(),
            self._writer.connect() as connection,
            _advisory(connection, lock),
        ):
            uow = SqlUnitOfWork(self._scoped(connection, _BEGIN_WRITE), self._clock)
            yield uow
            hooks = self._hooks if uow.changes.kinds else ()
            after_commit = [call for hook in hooks if (call := hook.prepare(uow, uow.changes))]
            self._feed.announce(connection, uow.changes.kinds)
            connection.commit()  # an exception in the block skips this, and closing rolls back
            for call in after_commit:  # under the lock, so in the order of the commits
                call()
            self._feed.committed(uow.changes.kinds)

    def _exclusion(self, lock: str | None) -> AbstractContextManager[None]:
        """Return the lock of this process: a thread that waits for it uses no connection."""
        if self._engine.dialect.name == "sqlite":
            return self._write_lock
        return nullcontext() if lock is None else self._locks.held(lock)

    @contextmanager
    def audit_chain(self) -> Iterator[AuditChain]:
        with self._exclusion(None), translate_errors(), self._writer.connect() as connection:
            yield SqlAuditChain(self._scoped(connection, _BEGIN_SEAL))
            connection.commit()  # as in ``write``

    @staticmethod
    def _scoped(connection: Connection, begin: str) -> ScopedConnection:
        if connection.dialect.name == "sqlite":
            return ScopedConnection(connection, None)
        scope = RowScope(begin)
        return ScopedConnection(in_scope(connection, scope), scope)

    def add_commit_hook(self, hook: CommitHook) -> None:
        self._hooks.append(hook)

    def subscribe(
        self, kinds: Collection[type[BaseModel]], callback: Callable[[frozenset[type[BaseModel]]], None]
    ) -> None:
        self._feed.subscribe(kinds, callback)

    def listen(self) -> None:
        self._feed.listen()

    def close(self) -> None:
        """Close all connections."""
        self._feed.close()
        self._engine.dispose()
