"""Stores of one transaction. A read transaction has the ``Read`` form of each, which cannot write."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from windlass.domain.admission import GpuAllocation, GpuRequest
from windlass.domain.audit import AuditEntry, ChainState, StoredEntry
from windlass.domain.autoscaling import RequestLoad
from windlass.domain.endpoint_traffic import EndpointMinute, TrafficPoint
from windlass.domain.projects import StoredQuota
from windlass.domain.records import Event, Intent, MetricSample, StoredLogChunk, Tombstone
from windlass.domain.series import MetricSeries, StepRange
from windlass.domain.usage import Interval, RequestUsage

T = TypeVar("T")
F_contra = TypeVar("F_contra", bound=Mapping[str, object], contravariant=True)
"""The filter of a repository."""


class ReadRepository(Protocol[T, F_contra]):
    """The entities of one kind in one scope. The scope is fixed when the repository is created, not by a query.

    ``F_contra`` is the filter of the kind, a typed dictionary of ``windlass.ports.filters``.
    """

    def get(self, where: F_contra) -> T:
        """Return the entity that matches.

        Raises:
            NotFoundError: none in this scope.
        """
        ...

    def find(self, where: F_contra) -> T | None:
        """Return the entity that matches, or None."""
        ...

    def all(self, where: F_contra | None = None) -> list[T]:
        """Return all matches in key order; only for small tables or a selective ``where``."""
        ...

    def count(self, where: F_contra | None = None) -> int:
        """Return the number of matches."""
        ...

    def page(
        self, limit: int, after: str | int | None, where: F_contra | None = None, *, newest_first: bool = False
    ) -> list[T]:
        """Return at most ``limit`` matches after the key ``after`` (keyset pagination on the last key column)."""
        ...

    def older(self, before: F_contra, limit: int, where: F_contra | None = None, *, after: T | None = None) -> list[T]:
        """Return at most ``limit`` matches whose time is less than that of the one field of ``before``, oldest first.

        ``after`` is the last entity of the previous call.
        """
        ...


class Repository(ReadRepository[T, F_contra], Protocol[T, F_contra]):
    """A repository in a write transaction."""

    def add(self, entity: T) -> None:
        """Insert a new entity.

        Raises:
            ConflictError: its key, or a unique name, is taken.
        """
        ...

    def save(self, entity: T) -> T:
        """Replace the stored entity, increment its ``version``, and return the stored entity.

        Raises:
            PreconditionFailedError: the stored version is another one.
            NotFoundError: none in this scope.
        """
        ...

    def delete(self, where: F_contra) -> int:
        """Delete all matches and return their number."""
        ...

    def delete_older(self, before: F_contra, limit: int, where: F_contra | None = None) -> int:
        """Delete at most ``limit`` entities as of ``older``; return their number."""
        ...


class ReadAuditChain(Protocol):
    """The sealed entries of the audit log, in the order of their positions."""

    def state(self) -> ChainState:
        """Return the ends of the chain."""
        ...

    def count_unsealed(self) -> int:
        """Return the number of entries that are not sealed yet."""
        ...

    def oldest_unsealed(self) -> datetime | None:
        """Return the time of the oldest entry that is not sealed yet, None if all are."""
        ...

    def sealed(self, after: int, limit: int) -> list[StoredEntry]:
        """Return at most ``limit`` entries after a position. It fails for no content of a row."""
        ...

    def at(self, position: int) -> StoredEntry | None:
        """Return the entry at a position, None if there is none."""
        ...


class AuditChain(ReadAuditChain, Protocol):
    """The chain in a transaction that may change it."""

    def lock(self) -> ChainState:
        """Return the ends of the chain, and keep other writers of it out until the end of the transaction."""
        ...

    def unsealed(self, limit: int) -> list[AuditEntry]:
        """Return at most ``limit`` entries that are not sealed, in the order of their ids."""
        ...

    def append(self, entries: Sequence[AuditEntry]) -> None:
        """Store the places of entries that follow the head of the chain; the last one is the new head."""
        ...

    def remove_older(self, time: datetime, limit: int) -> int:
        """Remove at most ``limit`` of the first entries, up to one that is not older than ``time``; return how many.

        The anchor of the chain is the last removed entry.
        """
        ...


class ReadOutbox(Protocol):
    """Intents that a worker executes after the commit.

    A worker leases an intent before it executes it and renews the lease while it does. Each lease increments a fencing
    counter, which guards every later change of the intent. When a lease has expired is decided by ``LeaseObserver``.
    """

    def next_due(
        self, *, skip_kinds: Collection[str] = (), skip_queues: Collection[tuple[str, str]] = ()
    ) -> Intent | None:
        """Return the oldest due intent without a lease; ``skip_queues`` are pairs of kind and project to leave out."""
        ...

    def next_due_at(self) -> datetime | None:
        """Return when the next delayed intent is due, None when none is delayed."""
        ...

    def oldest(self) -> datetime | None:
        """Return since when the oldest due intent has been due, None when none is due."""
        ...

    def subjects(self, kind: str) -> list[str]:
        """Return the subjects of all intents of a kind, leased or not."""
        ...

    def leased(self) -> list[Intent]:
        """Return the intents with a lease, expired leases included."""
        ...


class Outbox(ReadOutbox, Protocol):
    """The outbox in a write transaction."""

    def put(self, kind: str, project: str, subject: str, after: timedelta = timedelta()) -> None:
        """Add the intent ``kind`` on ``subject``, due after ``after``.

        The same intent exists at most once. One that is being handled is handled again afterwards, because the change
        that it is put for may come too late for the worker; one that waits keeps its time.
        An intent without a delay is due whatever the wall clock says.
        """
        ...

    def lease(self, intent: Intent, holder: str) -> Intent | None:
        """Lease the intent and count a try; None when it is gone or another worker has leased it since."""
        ...

    def renew(self, intents: Collection[Intent]) -> None:
        """Renew these leases; no effect on one that another worker has taken over."""
        ...

    def complete(self, intent: Intent) -> bool:
        """Delete the intent; False when another worker has leased it since, or when it was put again and is due."""
        ...


class ReadAdmissionStore(Protocol):
    """What the scheduler reads of jobs and runs, without their specs, and a number that changes with it."""

    def sequence(self) -> int:
        """Return the number of committed transactions that have changed an input of the scheduler."""
        ...

    def requests(self) -> list[GpuRequest]:
        """Return the requests of all jobs that wait or are active."""
        ...

    def quotas(self) -> list[StoredQuota]:
        """Return the quotas of all projects."""
        ...

    def allocations(self) -> list[GpuAllocation]:
        """Return the allocations of all active runs."""
        ...


class AdmissionStore(ReadAdmissionStore, Protocol):
    """What the scheduler reads, in a write transaction."""

    def advance(self) -> int:
        """Increment and return the sequence number in this transaction."""
        ...


class ReadJobTelemetryStore(Protocol):
    """Events, metrics and logs of jobs. Every method raises ``NotFoundError`` for a job outside its scope."""

    def newest_event(self, job: str) -> Event | None:
        """Return the event with the highest sequence number, None when there is none."""
        ...

    def events(self, job: str, after: int, limit: int) -> list[Event]:
        """Return events after a sequence number, oldest first."""
        ...

    def series(self, job: str, names: Sequence[str], steps: StepRange, points: int) -> list[MetricSeries]:
        """Return the series by name, each with at most ``points`` points of the steps; an empty ``names`` means all."""
        ...

    def metric_points(self, job: str, name: str, after: int, limit: int) -> list[MetricSample]:
        """Return at most ``limit`` points of one series after a step, in order."""
        ...

    def log_length(self, job: str) -> int:
        """Return the length of the job's log in bytes."""
        ...

    def log_chunks(self, job: str, offset: int, limit: int) -> list[StoredLogChunk]:
        """Return chunks that end after ``offset``, in order."""
        ...

    def newest_batch(self, job: str, attempt: int, source: str) -> int:
        """Return the highest sequence number that ``accept_batch`` recorded, 0 when there is none."""
        ...


class JobTelemetryStore(ReadJobTelemetryStore, Protocol):
    """The telemetry of jobs in a write transaction."""

    def append_event(self, event: Event) -> Event:
        """Append the event with the job's next sequence number; return it with that number."""
        ...

    def add_metrics(self, points: Sequence[MetricSample]) -> None:
        """Store points; a stored point (same job, name, step) is replaced by that of a newer attempt."""
        ...

    def drop_metrics_above(self, job: str, step: int) -> None:
        """Delete the points after a step: a resumed attempt reports them again."""
        ...

    def append_log(self, chunk: StoredLogChunk) -> None:
        """Append a chunk; its ``start`` must be the current length of the log."""
        ...

    def delete_history(self, job: str, limit: int) -> int:
        """Delete at most ``limit`` pieces of the log and events, all but the newest event; return their number."""
        ...

    def accept_batch(self, job: str, attempt: int, source: str, sequence: int) -> bool:
        """Record the sequence number of a report batch; False for a duplicate or an outdated batch."""
        ...


class UptimeStore(Protocol):
    """The row that every replica of the API refreshes."""

    def refresh(self) -> None:
        """Change the row."""
        ...


class ReadRequestLoadStore(Protocol):
    """The load of endpoints, as the replicas of the API report it; empty while there is none."""

    def all(self) -> list[RequestLoad]:
        """Return the last report of every instance."""
        ...


class RequestLoadStore(ReadRequestLoadStore, Protocol):
    """The load of endpoints in a write transaction."""

    def record(self, instance: str, ongoing: Mapping[str, float]) -> None:
        """Replace the report of an instance, and increment its sequence number."""
        ...

    def remove(self, instance: str) -> None:
        """Delete the report of an instance; no error when there is none."""
        ...


class ReadRequestUsageStore(Protocol):
    """The requests to endpoints that the replicas of the API have counted."""

    def totals(self, interval: Interval, project: str | None) -> list[RequestUsage]:
        """Return the sums by group of the hours that begin in an interval, of a project or of all."""
        ...


class RequestUsageStore(ReadRequestUsageStore, Protocol):
    """The counted requests in a write transaction."""

    def record(self, instance: str, hour: datetime, usages: Sequence[RequestUsage]) -> None:
        """Replace the counts of an instance for an hour and these groups; the same call again changes nothing."""
        ...


class ReadEndpointTrafficStore(Protocol):
    """The requests to endpoints by minute."""

    def points(self, project: str, endpoint: str, interval: Interval, step: timedelta) -> list[TrafficPoint]:
        """Return the sums of each step that has requests, in order; steps are counted from 1970."""
        ...


class EndpointTrafficStore(ReadEndpointTrafficStore, Protocol):
    """The same in a write transaction."""

    def record(self, instance: str, minutes: Iterable[EndpointMinute]) -> None:
        """Replace the counts of an instance for these minutes; the same call again changes nothing."""
        ...

    def delete_older(self, before: datetime, limit: int) -> int:
        """Delete at most ``limit`` rows of the minutes before a time; return their number."""
        ...


class ReadTombstoneStore(Protocol):
    """Deleted projects and jobs. No repository returns them; their rows are deleted in chunks afterwards."""

    def all(self, limit: int) -> list[Tombstone]:
        """Return at most ``limit`` deleted jobs and ``limit`` deleted projects."""
        ...


class TombstoneStore(ReadTombstoneStore, Protocol):
    """The tombstones in a write transaction."""

    def mark(self, deleted: Tombstone, now: datetime) -> None:
        """Mark a job or a project as deleted; the name of a project is free."""
        ...

    def delete_rows(self, deleted: Tombstone, limit: int) -> int:
        """Delete at most ``limit`` rows that belong to it; return their number, 0 when none is left."""
        ...

    def remove(self, deleted: Tombstone) -> None:
        """Delete the marked row itself."""
        ...
