"""Deletes expired files and rows, and what is left of deleted jobs and projects, in short steps.

Level-triggered: each sweep starts from the stored state, so a crash loses no deletion.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from windlass.domain.errors import WindlassError
from windlass.domain.jobs import Job
from windlass.domain.models import BaseModelState
from windlass.domain.records import Tombstone
from windlass.domain.storage_layout import (
    BASE_MODELS,
    artifacts_prefix,
    checkpoints_prefix,
    job_prefix,
    log_key,
    project_prefix,
)
from windlass.ports import AllProjectsData, RunFolders, UnitOfWork
from windlass.ports.filters import GpuReservationFilter, JobFilter
from windlass.services.base import WorkerDependencies
from windlass.services.job_events import record_event
from windlass.services.quotas import QUEUE_TIME_WINDOW
from windlass.services.settlement import settle

_SESSION_RETENTION = timedelta(days=30)
_KEY_RETENTION = timedelta(days=365)
"""How long a key stays listed after it expires or is revoked: the usage of months names it."""
_QUOTA_CHANGE_RETENTION = timedelta(days=30)
"""How long a quota change stays readable after it is applied or refused."""
_SWEEP_SECONDS = 60.0
_HISTORY_DELETED = "history_deleted"
_JOBS = 50
"""Jobs of one step."""
CHUNK_ROWS = 5000
"""Rows that one transaction deletes. Other writers wait for at most one such transaction."""
_STEP_SECONDS = 1.0
"""Time after which a step ends and the next one continues."""


@dataclass
class Retention:
    """Deletes the files of ended jobs after a retention period, and the rows and files of deleted jobs and projects.

    An ended job keeps its metrics and its registered model version. Its run folders, checkpoints and unregistered
    artifacts are kept for ``retention``, for debugging, its events and log for ``history_retention``.
    """

    deps: WorkerDependencies
    folders: RunFolders
    retention: timedelta
    history_retention: timedelta
    idempotency_ttl: timedelta
    """How long an idempotency record is kept."""
    audit_retention: timedelta | None = None
    """How long an audit entry is kept; None keeps it."""
    traffic_retention: timedelta = timedelta(days=7)
    """How long the requests to endpoints by minute are kept."""
    _next_sweep_at: float = field(default=0.0, init=False)
    _last_cleaned: Job | None = field(default=None, init=False)
    """The last job of the current pass, so that a job whose deletion fails does not block the later ones."""
    _last_history: Job | None = field(default=None, init=False)
    """The same for the pass that deletes events and logs."""

    def step(self) -> float:
        """Sweep once a minute, or at once while work is left; return the seconds until the next sweep."""
        now = self.deps.clock.monotonic()
        if now >= self._next_sweep_at:
            self._next_sweep_at = now + _SWEEP_SECONDS
            if self.sweep():
                self._next_sweep_at = now
        return max(0.0, self._next_sweep_at - self.deps.clock.monotonic())

    def sweep(self) -> bool:
        """Delete a bounded part of what has expired; return whether more is left.

        Raises:
            WindlassError, OSError: the first error; the other deletions are done.
        """
        now = self.deps.clock.now()
        errors: list[Exception] = []
        more = self._clean_up_jobs(now, errors)
        more |= self._delete_histories(now, errors)
        more |= self._remove_deleted(errors)
        more |= self._delete_expired_rows(now)
        if not more:
            self._delete_orphaned_folders()
            self._delete_import_drafts()
        if errors:
            raise errors[0]
        return more

    def _clean_up_jobs(self, now: datetime, errors: list[Exception]) -> bool:
        expired, pending = JobFilter(finished_at=now - self.retention), JobFilter(cleaned_up_at=None)
        self._last_cleaned, more = self._for_each_job(
            expired, pending, self._last_cleaned, lambda job: self._clean_up_job(job, now), errors
        )
        return more

    def _delete_histories(self, now: datetime, errors: list[Exception]) -> bool:
        expired, pending = JobFilter(finished_at=now - self.history_retention), JobFilter(history_deleted_at=None)
        self._last_history, more = self._for_each_job(
            expired, pending, self._last_history, lambda job: self._delete_history(job, now), errors
        )
        return more

    def _for_each_job(
        self,
        expired: JobFilter,
        pending: JobFilter,
        after: Job | None,
        handle: Callable[[Job], None],
        errors: list[Exception],
    ) -> tuple[Job | None, bool]:
        """Handle ended jobs for a while; return the last one, None at the end of the pass, and whether more follow."""
        with self.deps.database.read() as uow:
            jobs = uow.all_projects().jobs.older(expired, _JOBS, pending, after=after)
        deadline = time.monotonic() + _STEP_SECONDS
        for job in jobs:
            try:
                handle(job)
            except (WindlassError, OSError) as error:
                errors.append(error)
            if time.monotonic() > deadline:
                return job, True
        return (jobs[-1], True) if len(jobs) == _JOBS else (None, False)

    def _delete_history(self, job: Job, now: datetime) -> None:
        """Delete the events and the log in chunks; an event records it, and keeps the last number."""
        with self.deps.database.write() as uow:
            repos = uow.project(job.project)
            if repos.runs.find({"job": job.id, "ended_at": None}) is not None:
                return  # the run's processes may still write
            newest = repos.telemetry.newest_event(job.id)
            if newest is None or newest.code != _HISTORY_DELETED:
                message = f"the events and the log were deleted {self.history_retention.days} days after the end"
                record_event(repos, job, now, _HISTORY_DELETED, message)
        deleted = 1
        while deleted:
            with self.deps.database.write() as uow:
                deleted = uow.project(job.project).telemetry.delete_history(job.id, CHUNK_ROWS)
        self.deps.store.delete(log_key(job))
        self._mark(job, {"history_deleted_at": now})

    def _mark(self, job: Job, update: Mapping[str, datetime]) -> None:
        with self.deps.database.write() as uow:
            jobs = uow.project(job.project).jobs
            current = jobs.find({"id": job.id})
            if current is not None:
                jobs.save(current.model_copy(update=update))

    def _delete_expired_rows(self, now: datetime) -> bool:
        expiries: list[Callable[[UnitOfWork, AllProjectsData], int]] = [
            lambda _, repos: repos.idempotency_records.delete_older(
                {"created_at": now - self.idempotency_ttl}, CHUNK_ROWS
            ),
            lambda _, repos: repos.queue_times.delete_older({"admitted_at": now - QUEUE_TIME_WINDOW}, CHUNK_ROWS),
            lambda uow, _: uow.sessions.delete_older({"expires_at": now - _SESSION_RETENTION}, CHUNK_ROWS),
            # A key of the settings that was revoked would be created again by the next start.
            lambda uow, _: uow.keys.delete_older(
                {"expires_at": now - _KEY_RETENTION}, CHUNK_ROWS, {"platform_role": None}
            ),
            lambda uow, _: uow.keys.delete_older(
                {"revoked_at": now - _KEY_RETENTION}, CHUNK_ROWS, {"platform_role": None}
            ),
            lambda _, repos: repos.quota_changes.delete_older({"ended_at": now - _QUOTA_CHANGE_RETENTION}, CHUNK_ROWS),
            lambda uow, _: uow.endpoint_traffic.delete_older(now - self.traffic_retention, CHUNK_ROWS),
        ]
        more = False
        if self.audit_retention is not None:
            with self.deps.database.audit_chain() as chain:
                more |= chain.remove_older(now - self.audit_retention, CHUNK_ROWS) == CHUNK_ROWS
        for delete_expired in expiries:
            with self.deps.database.write() as uow:
                more |= delete_expired(uow, uow.all_projects()) == CHUNK_ROWS
        return more

    def _remove_deleted(self, errors: list[Exception]) -> bool:
        with self.deps.database.read() as uow:
            tombstones = uow.tombstones.all(_JOBS)
        deadline = time.monotonic() + _STEP_SECONDS
        for deleted in tombstones:
            try:
                if not self._remove(deleted, deadline):
                    return True
            except (WindlassError, OSError) as error:
                errors.append(error)
        return len(tombstones) >= _JOBS and not errors

    def _remove(self, deleted: Tombstone, deadline: float) -> bool:
        """Delete rows in chunks, then the files, then the marked row; return False when the time is over.

        The GPU time is settled in the same transactions: it stays in the usage of the project.
        """
        rows = 1
        while rows:
            if time.monotonic() > deadline:
                return False
            with self.deps.database.write() as uow:
                self._settle(uow, deleted)
                rows = uow.tombstones.delete_rows(deleted, CHUNK_ROWS)
        project, job = deleted.project, deleted.job
        self.deps.store.delete(project_prefix(project) if job is None else job_prefix(project, job))
        with self.deps.database.write() as uow:
            uow.tombstones.remove(deleted)
        return True

    def _settle(self, uow: UnitOfWork, deleted: Tombstone) -> None:
        where: GpuReservationFilter = {"settlement": None}
        if deleted.job is not None:
            where["job"] = deleted.job
        repos = uow.project(deleted.project)
        settle(uow, repos, repos.gpu_reservations.all(where), self.deps.clock.now())

    def _clean_up_job(self, job: Job, now: datetime) -> None:
        with self.deps.database.write() as uow:
            repos = uow.project(job.project)
            runs = repos.runs.all({"job": job.id})
            if any(run.ended_at is None for run in runs):
                return  # the run's processes may still write
            registered = repos.model_versions.find({"job": job.id})
            repos.checkpoints.delete({"job": job.id})  # rows before files: a visible checkpoint is complete
        for run in runs:
            self.folders.delete(run.name)
        store = self.deps.store
        store.delete(checkpoints_prefix(job))
        folder = artifacts_prefix(job) + "/"
        # Lists the folder instead of counting attempts: a killed trainer leaves ``.<attempt>.<hex>.tmp``.
        for name in {key.removeprefix(folder).partition("/")[0] for key in store.keys(artifacts_prefix(job))}:
            if registered is None or name != str(registered.attempt):
                store.delete(folder + name)
        self._mark(job, {"cleaned_up_at": now})

    def _delete_orphaned_folders(self) -> None:
        """Delete the folders of runs without a row: their project was deleted."""
        names = self.folders.names()
        with self.deps.database.read() as uow:
            known = {run.name for run in uow.all_projects().runs.all({"name": names})}
        for name in names:
            if name not in known:
                self.folders.delete(name)

    def _delete_import_drafts(self) -> None:
        """Delete ``base-models/.<id>.<hex>.tmp`` of imports that were killed; a running import keeps its draft."""
        folder = f"{BASE_MODELS}/"
        names = {key.removeprefix(folder).partition("/")[0] for key in self.deps.store.keys(BASE_MODELS)}
        drafts = [name for name in names if name.startswith(".")]
        if not drafts:
            return
        with self.deps.database.read() as uow:
            importing = {entry.id for entry in uow.base_models.all({"state": BaseModelState.IMPORTING})}
        for name in drafts:
            if name.split(".")[1] not in importing:
                self.deps.store.delete(folder + name)
