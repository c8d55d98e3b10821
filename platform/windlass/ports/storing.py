"""Time, transactions and files."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from windlass.domain.artifacts import FileEntry
from windlass.domain.datasets import Dataset, DatasetVersion, Upload
from windlass.domain.endpoints import Endpoint
from windlass.domain.jobs import Attempt, Job, Run
from windlass.domain.mirror import Mirrored, QueueQuota, QuotaChange, StoredClaim
from windlass.domain.models import CatalogueModel, Model, ModelVersion
from windlass.domain.projects import ApiKey, Member, Pool, Project, StoredQuota, Wait
from windlass.domain.records import (
    AuditEntry,
    Checkpoint,
    Event,
    Intent,
    LineageEdge,
    LogChunk,
    MetricPoint,
    Replay,
)

F = TypeVar("F")


class Clock(Protocol):
    """Time, injected so that tests own it."""

    def now(self) -> datetime:
        """Return the current time, aware, UTC."""
        ...


class Repository(Protocol[F]):
    """The facts of one kind in one scope: the scope is bound when the repository is made, never by a query.

    ``where`` compares fields for equality; a tuple or list means any of its values.
    """

    def add(self, fact: F) -> None:
        """Store a new fact.

        Raises:
            ConflictError: its key, or a name that must be unique, is taken.
        """
        ...

    def get(self, **where: Any) -> F:
        """Return the one fact that matches.

        Raises:
            NotFoundError: none in this scope.
        """
        ...

    def find(self, **where: Any) -> F | None:
        """Return the one fact that matches, or None."""
        ...

    def all(self, **where: Any) -> list[F]:
        """Return every match in key order; only for kinds that stay few, or under a narrow ``where``."""
        ...

    def count(self, **where: Any) -> int:
        """Return how many match."""
        ...

    def page(self, limit: int, after: str | int | None, *, newest_first: bool = False, **where: Any) -> list[F]:
        """Return at most ``limit`` matches beyond the key ``after`` (keyset paging on the last key column)."""
        ...

    def save(self, fact: F) -> F:
        """Replace the stored fact, raise its ``version``, and return it as it is now stored.

        Raises:
            PreconditionFailedError: it was changed in between.
            NotFoundError: none in this scope.
        """
        ...

    def delete(self, **where: Any) -> int:
        """Remove every match and return how many there were."""
        ...

    def delete_older(self, field: str, than: datetime) -> int:
        """Remove every fact of the scope whose time in ``field`` is earlier, and return how many there were."""
        ...


class Outbox(Protocol):
    """Intents that the worker carries out after the commit. Claims carry a lease and a fencing counter."""

    def put(self, kind: str, project: str, subject: str, after: timedelta = timedelta()) -> None:
        """Record that ``kind`` must happen to ``subject``, not before ``after`` has passed; once while it stands."""
        ...

    def due(self) -> bool:
        """Tell whether there is an intent to claim now."""
        ...

    def oldest(self) -> datetime | None:
        """Return since when the intent that waits longest could have been claimed, None when none is due."""
        ...

    def claim(self, limit: int, lease: timedelta) -> list[Intent]:
        """Take due intents, oldest first: nobody else gets them until the lease is over."""
        ...

    def done(self, intent: Intent) -> bool:
        """Strike the intent; False when the lease was lost to another claim."""
        ...

    def retry(self, intent: Intent, after: timedelta) -> bool:
        """Give the intent back, due after a pause; False when the lease was lost."""
        ...


class JobJournal(Protocol):
    """What jobs tell, appended at a high rate. Every method raises ``NotFoundError`` for a job out of its scope."""

    def append_event(self, event: Event) -> Event:
        """Append under the job's next sequence number and return it with that number."""
        ...

    def events(self, job: str, after: int, limit: int) -> list[Event]:
        """Return events beyond a sequence number, oldest first."""
        ...

    def add_metrics(self, points: Sequence[MetricPoint]) -> None:
        """Store points; one that stands already (same job, name, step) is replaced by a newer attempt's."""
        ...

    def drop_metrics_above(self, job: str, step: int) -> None:
        """Forget the points beyond a step: a resumed attempt is about to say them again."""
        ...

    def metrics(self, job: str, names: Sequence[str], after: int) -> list[MetricPoint]:
        """Return points beyond a step, by name and step; all names when ``names`` is empty."""
        ...

    def append_log(self, chunk: LogChunk) -> None:
        """Append a chunk; its ``start`` must be the log's present length."""
        ...

    def log_length(self, job: str) -> int:
        """Return the length of the job's log in bytes."""
        ...

    def log_chunks(self, job: str, offset: int, limit: int) -> list[LogChunk]:
        """Return chunks that end beyond ``offset``, in order."""
        ...

    def take_batch(self, job: str, attempt: int, source: str, sequence: int) -> bool:
        """Remember a report batch; False when it, or a later one, was taken before."""
        ...


class ProjectData(Protocol):
    """The repositories of one project."""

    members: Repository[Member]
    quotas: Repository[StoredQuota]
    quota_changes: Repository[QuotaChange]
    waits: Repository[Wait]
    datasets: Repository[Dataset]
    dataset_versions: Repository[DatasetVersion]
    uploads: Repository[Upload]
    jobs: Repository[Job]
    runs: Repository[Run]
    attempts: Repository[Attempt]
    checkpoints: Repository[Checkpoint]
    models: Repository[Model]
    model_versions: Repository[ModelVersion]
    endpoints: Repository[Endpoint]
    lineage: Repository[LineageEdge]
    replays: Repository[Replay]
    journal: JobJournal


class UnitOfWork(Protocol):
    """One transaction."""

    projects: Repository[Project]
    keys: Repository[ApiKey]
    pools: Repository[Pool]
    base_models: Repository[CatalogueModel]
    audit: Repository[AuditEntry]
    mirrored: Repository[Mirrored]
    queue_quotas: Repository[QueueQuota]
    """What the queues of a cluster give, mirrored."""
    claims: Repository[StoredClaim]
    """What the workloads of a cluster want and hold, mirrored."""
    outbox: Outbox

    def of(self, project: str) -> ProjectData:
        """Enter the project with this uid."""
        ...

    def everywhere(self) -> ProjectData:
        """See all projects: for the worker and the scheduler, never for a tenant's request."""
        ...


class Database(Protocol):
    """Opens transactions. ``write`` commits when the block is left without an exception, and only then returns."""

    def read(self) -> AbstractContextManager[UnitOfWork]:
        """Begin a transaction that sees one state and changes nothing."""
        ...

    def write(self) -> AbstractContextManager[UnitOfWork]:
        """Begin a transaction that may change; waits its turn.

        Raises:
            StorageFullError: the disk is full; nothing was written.
        """
        ...


class ObjectStore(Protocol):
    """Files by key: relative POSIX paths made by the control plane, never by a user.

    A key is written once and never changed; a reader sees a whole file or none.
    """

    def put(self, key: str, source: BinaryIO) -> FileEntry:
        """Store the stream's rest under ``key``; visible only when complete.

        Raises:
            StorageFullError: no space; nothing of it is left.
        """
        ...

    def append(self, key: str, offset: int, source: BinaryIO, limit: int) -> int:
        """Add the stream's rest to a staging file of ``offset`` bytes, fsync, and return its new length.

        Raises:
            ConflictError: the file is not ``offset`` bytes long.
            TooLargeError: more than ``limit`` bytes in all; the file keeps its old length.
            StorageFullError: no space; the file keeps what arrived, its length tells where to go on.
        """
        ...

    def open(self, key: str) -> BinaryIO:
        """Open for reading.

        Raises:
            NotFoundError: no such key.
        """
        ...

    def entry(self, key: str) -> FileEntry:
        """Read the file and return its length and sha256."""
        ...

    def size(self, key: str) -> int:
        """Return the length in bytes, 0 when there is no such key."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys below a prefix, sorted."""
        ...

    def delete(self, prefix: str) -> None:
        """Remove a key or everything below a prefix; no error when there is nothing.

        Raises:
            OSError: some of it could not be removed; ask again.
        """
        ...

    def local_path(self, key: str) -> Path:
        """Return where a local process can read the key or prefix (embedded mode)."""
        ...
