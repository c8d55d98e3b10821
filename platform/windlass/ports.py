"""What services and the worker need from the outside, named by role. Adapters implement these, and know no service."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from windlass.domain.artifacts import FileEntry
from windlass.domain.datasets import DataRequest, DataResult, Dataset, DatasetVersion, Upload
from windlass.domain.endpoints import Endpoint, ServedApp, ServingStatus
from windlass.domain.jobs import Attempt, Job, Run
from windlass.domain.mirror import Mirror, QuotaChange
from windlass.domain.models import CatalogueModel, ImportedModel, Model, ModelVersion
from windlass.domain.projects import ApiKey, Member, Pool, Project, StoredQuota
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
from windlass.runtime.context import RunContext

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


class DataProcessor(Protocol):
    """Parses tenant bytes outside this process."""

    def start(self, name: str, request: DataRequest) -> None:
        """Begin, or do nothing when ``name`` was begun before (also by an earlier server)."""
        ...

    def poll(self, name: str) -> DataResult | None:
        """Return the result, or None while it runs.

        Raises:
            UnavailableError: the process died; its last words are in the message. ``start`` may be called again
                after ``forget``.
        """
        ...

    def forget(self, name: str) -> None:
        """Stop it if it runs and drop what is kept of it (not its output)."""
        ...


class ModelImporter(Protocol):
    """Checks, and where it must converts, a base model outside this process."""

    def start(self, name: str, source: Path, target: Path) -> None:
        """Begin to make ``target`` from ``source``, or do nothing when ``name`` was begun before."""
        ...

    def poll(self, name: str) -> ImportedModel | None:
        """Return what was imported, or None while it runs.

        Raises:
            InvalidError: the source is refused; the message says why.
            UnavailableError: the process died.
        """
        ...

    def forget(self, name: str) -> None:
        """Stop it if it runs and drop what is kept of it (not its target)."""
        ...


class BackendState(StrEnum):
    """What a pipeline back end knows of a run."""

    UNKNOWN = "unknown"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    """It obeyed a preempt or cancel command; nothing went wrong."""
    LOST = "lost"


class BackendRun(BaseModel):
    """One run as the back end sees it."""

    model_config = ConfigDict(frozen=True)
    name: str
    state: BackendState
    message: str = ""


class PipelineBackend(Protocol):
    """Runs the compiled pipeline of one job under a deterministic name."""

    def submit(self, context: RunContext) -> None:
        """Start the run, or adopt the one that has this name already: never a second one."""
        ...

    def poll(self, run_name: str) -> BackendRun:
        """Look. ``lost``: its process is gone without a result; ``unknown``: never submitted here."""
        ...

    def kill(self, run_name: str) -> None:
        """End every process of the run at once; returns when they are gone. No error when there is none."""
        ...


class RunFolders(Protocol):
    """What runs leave behind outside of the object store: tokens, logs, spooled reports."""

    def names(self) -> list[str]:
        """Return the names of the runs that have something left."""
        ...

    def forget(self, run_name: str) -> None:
        """End what of the run still lives and remove its leavings; no error when there are none."""
        ...


class RayCluster(Protocol):
    """The Ray that trainers and servers of this mode join."""

    def ensure(self) -> str:
        """Start it if it is not running; return its address.

        Raises:
            UnavailableError: it does not come up; the message has its last words.
        """
        ...

    def stop(self) -> None:
        """End all of its processes."""
        ...


class ServingBackend(Protocol):
    """Serves model versions; level-based: told the whole wish, it converges."""

    def apply(self, apps: Sequence[ServedApp]) -> None:
        """Make ``apps`` the served set: start what is new, remove what is not named, leave the rest alone."""
        ...

    def status(self) -> ServingStatus:
        """Look at what is served now: everything wished, and what is no longer wished until it is gone."""
        ...

    def stop(self) -> None:
        """Remove everything and release the port."""
        ...


class ClusterView(Protocol):
    """Keeps itself informed of a cluster's pools, projects, quotas and workloads."""

    def start(self) -> None:
        """Begin to list and watch, in threads of its own."""
        ...

    def stop(self) -> None:
        """End the threads."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait for news since the last ``look``; False when there were none in time."""
        ...

    def look(self) -> Mirror:
        """Return the present state.

        Raises:
            UnavailableError: not everything has been read yet, or the API server has not been heard of for too long.
        """
        ...


class ProjectResources(Protocol):
    """Writes to projects' resources, beside others who write there: what belongs to them is never taken."""

    def check(self, change: QuotaChange) -> None:
        """Let the API server try the change, and keep nothing of it.

        Raises:
            ConflictError: another manager owns the quota; the message names it.
            InvalidError: a rule of the resource, or of an admission policy, refuses the change.
            NotFoundError: there is no such project any more.
            UnavailableError: the API server cannot answer now.
        """
        ...

    def apply(self, change: QuotaChange) -> None:
        """Make the change; making it again changes nothing. Raises as ``check``."""
        ...
