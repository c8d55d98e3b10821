"""Engines and transactions. SQLite: WAL, writers take their turn from the start; PostgreSQL: its own isolation."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from windlass.db import mirror_tables as m
from windlass.db import tables as t
from windlass.db.journal import SqlJournal
from windlass.db.outbox import SqlOutbox
from windlass.db.rows import Rows, table_of
from windlass.domain.datasets import Dataset, DatasetVersion, Upload
from windlass.domain.endpoints import Endpoint
from windlass.domain.errors import StorageFullError, UnavailableError
from windlass.domain.jobs import Attempt, Job, Run
from windlass.domain.mirror import Mirrored, QueueQuota, QuotaChange, StoredClaim
from windlass.domain.models import CatalogueModel, Model, ModelVersion
from windlass.domain.projects import ApiKey, Member, Pool, Project, StoredQuota, Wait
from windlass.domain.records import AuditEntry, Checkpoint, LineageEdge, Replay
from windlass.ports import Clock, JobJournal, Outbox, ProjectData, Repository, UnitOfWork

_BUSY_MILLISECONDS = 30_000
_CONNECTIONS = 64
"""More than the threads that ask: 40 of the API, and those of the worker. Each needs one, so that nobody waits."""
_UNREACHABLE = ("database is locked", "unable to open database file", "disk I/O error")
"""What SQLite calls an operational error and time may heal; a missing table is one too, and is a bug."""


def sqlite_engine(path: Path, *, connections: int = _CONNECTIONS, patience: float = 5.0) -> Engine:
    """Open (or make) a SQLite file. A commit is on disk when it returns (WAL with synchronous=FULL).

    Who finds all connections in use waits for one for ``patience`` seconds. Errors name no bound value, since logs
    must not hold what users have sent.
    """
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"check_same_thread": False, "timeout": 30},
        hide_parameters=True,
        pool_size=min(5, connections),
        max_overflow=max(0, connections - 5),
        pool_timeout=patience,
    )

    @event.listens_for(engine, "connect")
    def _connect(raw: sqlite3.Connection, _: Any) -> None:
        raw.isolation_level = None  # transactions are begun by hand below, not by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MILLISECONDS}"):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A deferred transaction that later writes fails at once with "database is locked", whatever the timeout.
        writes = connection.get_execution_options().get("writes", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


class SqlProjectData:
    """``ports.ProjectData`` on one connection; ``project`` None sees all projects."""

    def __init__(self, connection: Connection, project: str | None) -> None:
        scope = {} if project is None else {"project": project}

        def rows(table: Any, kind: Any, noun: str) -> Rows[Any]:
            return Rows(connection, table_of(table), kind, noun, scope)

        self.members: Repository[Member] = rows(t.MemberTable, Member, "member")
        self.quotas: Repository[StoredQuota] = rows(t.QuotaTable, StoredQuota, "quota")
        self.quota_changes: Repository[QuotaChange] = rows(m.QuotaChangeTable, QuotaChange, "quota change")
        self.waits: Repository[Wait] = rows(t.WaitTable, Wait, "wait")
        self.datasets: Repository[Dataset] = rows(t.DatasetTable, Dataset, "dataset")
        self.dataset_versions: Repository[DatasetVersion] = rows(
            t.DatasetVersionTable, DatasetVersion, "dataset version"
        )
        self.uploads: Repository[Upload] = rows(t.UploadTable, Upload, "upload")
        self.jobs: Repository[Job] = rows(t.JobTable, Job, "job")
        self.runs: Repository[Run] = rows(t.RunTable, Run, "run")
        self.attempts: Repository[Attempt] = rows(t.AttemptTable, Attempt, "attempt")
        self.checkpoints: Repository[Checkpoint] = rows(t.CheckpointTable, Checkpoint, "checkpoint")
        self.models: Repository[Model] = rows(t.ModelTable, Model, "model")
        self.model_versions: Repository[ModelVersion] = rows(t.ModelVersionTable, ModelVersion, "model version")
        self.endpoints: Repository[Endpoint] = rows(t.EndpointTable, Endpoint, "endpoint")
        self.lineage: Repository[LineageEdge] = rows(t.LineageTable, LineageEdge, "lineage edge")
        self.replays: Repository[Replay] = rows(t.ReplayTable, Replay, "idempotency record")
        self.journal: JobJournal = SqlJournal(connection, project)


class SqlUnitOfWork:
    """``ports.UnitOfWork`` on one connection."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self.projects: Repository[Project] = Rows(connection, table_of(t.ProjectTable), Project, "project")
        self.keys: Repository[ApiKey] = Rows(connection, table_of(t.ApiKeyTable), ApiKey, "key")
        self.pools: Repository[Pool] = Rows(connection, table_of(t.PoolTable), Pool, "pool")
        self.base_models: Repository[CatalogueModel] = Rows(
            connection, table_of(t.BaseModelTable), CatalogueModel, "base model"
        )
        self.audit: Repository[AuditEntry] = Rows(connection, table_of(t.AuditTable), AuditEntry, "audit entry")
        self.mirrored: Repository[Mirrored] = Rows(connection, table_of(m.MirroredTable), Mirrored, "mirror")
        self.queue_quotas: Repository[QueueQuota] = Rows(
            connection, table_of(m.QueueQuotaTable), QueueQuota, "queue's quota"
        )
        self.claims: Repository[StoredClaim] = Rows(connection, table_of(m.ClaimTable), StoredClaim, "claim")
        self.outbox: Outbox = SqlOutbox(connection, clock)

    def of(self, project: str) -> ProjectData:
        return SqlProjectData(self._connection, project)

    def everywhere(self) -> ProjectData:
        return SqlProjectData(self._connection, None)


class SqlDatabase:
    """``ports.Database`` over one engine."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        # SQLite has one writer, and its busy handler polls without order: threads of this process queue here instead.
        self._turn: Any = threading.Lock() if engine.dialect.name == "sqlite" else nullcontext()

    @contextmanager
    def read(self) -> Iterator[UnitOfWork]:
        with _translated(), self._engine.connect().execution_options(writes=False) as connection:
            yield SqlUnitOfWork(connection, self._clock)

    @contextmanager
    def write(self) -> Iterator[UnitOfWork]:
        with self._turn, _translated(), self._engine.connect() as connection:
            yield SqlUnitOfWork(connection, self._clock)
            connection.commit()  # an exception in the block skips this, and closing rolls back

    def close(self) -> None:
        """Release every connection."""
        self._engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PoolTimeoutError as error:
        raise UnavailableError("every connection to the database is in use", hint="repeat the request") from error
    except DBAPIError as error:
        text = str(error.orig)
        if "database or disk is full" in text or "No space left" in text:
            raise StorageFullError(
                "the database's disk is full; nothing was written", hint="free some space and repeat the request"
            ) from error
        ours = isinstance(error.orig, sqlite3.Error)
        if isinstance(error, OperationalError) and (not ours or any(sign in text for sign in _UNREACHABLE)):
            raise UnavailableError("the database does not answer", hint="repeat the request") from error
        raise
