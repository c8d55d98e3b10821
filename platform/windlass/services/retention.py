"""Removes what nobody needs any more. Level-based: it looks at what is there, so nothing has to be remembered."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from windlass.domain.artifacts import MANIFEST_NAME
from windlass.domain.errors import WindlassError
from windlass.domain.jobs import Job, JobState
from windlass.ports import RunFolders
from windlass.services.backing import Backing
from windlass.services.projects import LIVE_JOBS
from windlass.services.quotas import WAIT_WINDOW
from windlass.services.runs import artifact_prefix, checkpoint_prefix

_ENDED = tuple(state for state in JobState if state.terminal)
_CHANGES = timedelta(days=30)
"""How long the change of a quota can be asked for after its end."""
_PAUSE = timedelta(minutes=1)


@dataclass
class Retention:
    """Keeps the disk from growing with each job that has ever run.

    A job that has ended keeps its log, its events and what it registered. Its run folders, its checkpoints and
    artifacts that nobody registered stay for ``kept``, so that a failure can be looked into.
    """

    backing: Backing
    folders: RunFolders
    kept: timedelta
    replays: timedelta
    """How long an idempotency key stands for what it made."""
    _due: datetime | None = field(default=None, init=False)

    def step(self) -> bool:
        """Sweep, at most once a minute; nothing that another loop waits for comes of it."""
        now = self.backing.clock.now()
        if self._due is None or now >= self._due:
            self._due = now + _PAUSE
            self.sweep()
        return False

    def sweep(self) -> None:
        """Look at everything once.

        Raises:
            WindlassError, OSError: the first of what could not be removed; the rest was.
        """
        now = self.backing.clock.now()
        with self.backing.database.read() as work:
            ended = work.everywhere().jobs.all(state=_ENDED, tidied_at=None)
        failures: list[Exception] = []
        for job in ended:
            if (job.finished_at or job.changed_at) + self.kept <= now:
                try:
                    self._tidy(job, now)
                except (WindlassError, OSError) as error:
                    failures.append(error)
        self._drop_strays()
        self._drop_pruned()
        with self.backing.database.write() as work:
            everywhere = work.everywhere()
            everywhere.replays.delete_older("created_at", now - self.replays)
            everywhere.waits.delete_older("at", now - WAIT_WINDOW)
            everywhere.quota_changes.delete_older("ended_at", now - _CHANGES)
        if failures:
            raise failures[0]

    def _tidy(self, job: Job, now: datetime) -> None:
        with self.backing.database.write() as work:
            inside = work.of(job.project)
            runs = inside.runs.all(job=job.id)
            if any(run.ended_at is None for run in runs):
                return  # its processes may still write
            registered = inside.model_versions.find(job=job.id)
            inside.checkpoints.delete(job=job.id)  # the rows first: what is visible is whole
        for run in runs:
            self.folders.forget(run.name)
        store = self.backing.store
        store.delete(checkpoint_prefix(job))
        for attempt in range(1, job.attempt + 1):
            if registered is None or registered.attempt != attempt:
                store.delete(f"{artifact_prefix(job)}/{attempt}")
        with self.backing.database.write() as work:
            jobs = work.of(job.project).jobs
            found = jobs.find(id=job.id)
            if found is not None:
                jobs.save(found.model_copy(update={"tidied_at": now}))

    def _drop_strays(self) -> None:
        """Remove folders of runs that no row names: their project was deleted."""
        names = self.folders.names()
        with self.backing.database.read() as work:
            known = {run.name for run in work.everywhere().runs.all(name=names)}
        for name in names:
            if name not in known:
                self.folders.forget(name)

    def _drop_pruned(self) -> None:
        """Remove the rows of checkpoints whose files a live job's trainer has pruned."""
        with self.backing.database.read() as work:
            everywhere = work.everywhere()
            live = [job.id for job in everywhere.jobs.all(state=LIVE_JOBS) if job.attempt]
            kept = everywhere.checkpoints.all(job=live)
        gone = [one for one in kept if not self.backing.store.size(f"{one.prefix}/{MANIFEST_NAME}")]
        if gone:
            with self.backing.database.write() as work:
                for one in gone:
                    work.of(one.project).checkpoints.delete(job=one.job, step=one.step, prefix=one.prefix)
