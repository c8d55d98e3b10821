"""Polls the runs of jobs, ends those that must stop, and updates jobs when their runs end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from windlass.domain.jobs import ActionOwner, AttemptState, Job, JobState, Reason, Run, RunState, move
from windlass.domain.reasons import CATALOGUE
from windlass.domain.reports import ResultItem, ResultStatus
from windlass.ports import BackendRun, BackendState, PipelineBackend, ProjectData
from windlass.services.attempts import close_attempt, newest_attempt, newest_checkpoint
from windlass.services.base import WorkerDependencies
from windlass.services.gpu_reservations import release_gpus
from windlass.services.job_events import record_event

_RUN_STATES = {
    BackendState.SUCCEEDED: RunState.SUCCEEDED,
    BackendState.FAILED: RunState.FAILED,
    BackendState.STOPPED: RunState.STOPPED,
    BackendState.LOST: RunState.LOST,
}
_PENDING_REPORTS_TIMEOUT = timedelta(minutes=10)
"""How long an ended run stays open because its last reports cannot be stored."""
_NOT_RECONCILED = "run_not_reconciled"

_UNKNOWN_SECONDS = 30.0
"""Time after which a run that the back end does not know, and that nothing submits, is lost."""


@dataclass(frozen=True)
class Scheduling:
    """Reconciles active runs with the pipeline back end.

    A run with a pending stop is killed after the grace period of its reason. A job fails after ``max_lost_runs`` lost
    runs without a new checkpoint: a long training may lose more of them, for example with its nodes.
    """

    deps: WorkerDependencies
    backend: PipelineBackend
    preempt_grace: timedelta
    cancel_grace: timedelta
    max_lost_runs: int
    flush_ended_run: Callable[[Run], str]
    """Stores the reports (metrics, checkpoints, result) that an ended run's processes left on disk.

    Returns which reports cannot be stored now and why, an empty text when none is left.
    """

    def poll_runs(self, waiting: frozenset[str] = frozenset()) -> bool:
        """Poll every active run; close the ended ones and update their jobs. Return whether there was any.

        ``waiting``: ids of runs that wait for their resources. They are paused, and resumed when they do not wait.
        """
        return self._for_each_run(lambda run: self._poll_run(run, waits=run.id in waiting))

    def _poll_run(self, run: Run, *, waits: bool) -> None:
        backend_run = self.backend.poll(run.name)
        if backend_run.state is BackendState.UNKNOWN:
            backend_run = self._check_unknown(run, backend_run)
        else:
            self.deps.leases.forget(("unknown run", run.id))
        if backend_run.state in _RUN_STATES:
            self._close_run(run, backend_run)
        elif self._overdue(run) or (backend_run.paused and run.stop is not None):
            # The next poll finds it lost and closes it.
            self.backend.kill(run.name)
            if backend_run.state is BackendState.UNKNOWN:
                self._close_run(run, backend_run)
        else:
            if backend_run.state is BackendState.RUNNING and waits and not backend_run.paused and run.stop is None:
                self.backend.pause(run.name)
            elif backend_run.paused and not waits:
                self.backend.resume(run.name)
            if backend_run.reason is not None:
                self._set_reason(run, backend_run.reason)
            else:
                self._clear_reason(run)

    def _check_unknown(self, run: Run, backend_run: BackendRun) -> BackendRun:
        """Return LOST for a run that the back end has not known for a while although nothing will submit it.

        Its files are gone, for example because the machine lost power or the database was restored from a backup. What
        is left of it, such as its trainer, is killed first: the job begins another run.
        """
        key = ("unknown run", run.id)
        with self.deps.database.read() as uow:
            if run.id in uow.outbox.subjects("run.submit"):
                self.deps.leases.forget(key)
                return backend_run
        seconds = self.deps.leases.seconds_unchanged(key, backend_run.state, self.deps.clock.monotonic())
        if seconds < _UNKNOWN_SECONDS:
            return backend_run
        self.backend.kill(run.name)
        self.deps.leases.forget(key)
        message = "the pipeline back end does not know the run"
        return BackendRun(name=run.name, state=BackendState.LOST, message=message)

    def stop_all(self) -> None:
        """Kill every run because the server stops; their jobs are queued again."""
        self._for_each_run(self._stop_run)

    def _stop_run(self, run: Run) -> None:
        self.backend.kill(run.name)
        with self.deps.database.write() as uow:
            runs = uow.project(run.project).runs
            current = runs.get({"id": run.id})
            if current.stop is None:
                runs.save(current.model_copy(update={"stop": "shutdown", "stop_at": self.deps.clock.now()}))
        self._close_run(run, self.backend.poll(run.name))

    def _for_each_run(self, handle: Callable[[Run], None]) -> bool:
        """Call ``handle`` for every active run; an error sets the job's reason and does not block the other runs.

        Returns whether there was any.
        """
        with self.deps.database.read() as uow:
            runs = uow.all_projects().runs.all({"ended_at": None})
        errors: list[Exception] = []
        for run in runs:
            try:
                handle(run)
            except Exception as error:  # noqa: BLE001 - the first error is raised after all runs are handled
                errors.append(error)
                self._set_problem(run, _NOT_RECONCILED, f"run {run.number} cannot be reconciled: {error}")
        if errors:
            raise errors[0]
        return bool(runs)

    def record_run_page(self, run_id: str, url: str) -> None:
        """Record where the page of a submitted run is."""
        with self.deps.database.write() as uow:
            run = uow.all_projects().runs.find({"id": run_id})
            if run is not None:
                repos = uow.project(run.project)
                job, now = repos.jobs.get({"id": run.job}), self.deps.clock.now()
                message = f"run {run.number} has the page {url}"
                record_event(repos, job, now, "run_page", message, context={"run": run.number, "url": url})

    def report_submit_failure(self, run_id: str, problem: str, *, give_up: bool) -> None:
        """Set the reason of a run that cannot be submitted; ``give_up`` closes it as lost, which frees its GPUs."""
        with self.deps.database.read() as uow:
            run = uow.all_projects().runs.find({"id": run_id})
        if run is None or run.ended_at is not None:
            return
        message = f"run {run.number} cannot be started: {problem}"
        if give_up and self.backend.poll(run.name).state is BackendState.UNKNOWN:
            self._close_run(run, BackendRun(name=run.name, state=BackendState.LOST, message=message))
        else:
            self._set_problem(run, "start_failed", message)

    def _set_problem(self, run: Run, code: str, message: str) -> None:
        reason = Reason(
            code=code,
            message=message[:2000],
            action_by=ActionOwner.ADMIN,
            action="read the server's log; the server retries automatically",
        )
        self._set_reason(run, reason)

    def _set_reason(self, run: Run, reason: Reason) -> None:
        with self.deps.database.read() as uow:
            if uow.project(run.project).jobs.get({"id": run.job}).reason == reason:
                return
        with self.deps.database.write() as uow:
            jobs = uow.project(run.project).jobs
            job = jobs.get({"id": run.job})
            if not job.state.terminal and job.reason != reason:
                jobs.save(move(job, job.state, self.deps.clock.now(), reason))

    def _clear_reason(self, run: Run) -> None:
        """Remove the reason of a problem with this run that is over."""
        with self.deps.database.read() as uow:
            job = uow.project(run.project).jobs.get({"id": run.job})
        if job.reason is None or job.reason.code != _NOT_RECONCILED:
            return
        with self.deps.database.write() as uow:
            jobs = uow.project(run.project).jobs
            job = jobs.get({"id": run.job})
            if not job.state.terminal and job.reason is not None and job.reason.code == _NOT_RECONCILED:
                jobs.save(job.model_copy(update={"reason": None}))

    def _overdue(self, run: Run) -> bool:
        if run.stop is None or run.stop_at is None:
            return False
        grace = self.preempt_grace if run.stop == "preempt" else self.cancel_grace
        return self.deps.clock.now() - run.stop_at > grace

    def _close_run(self, ended: Run, backend_run: BackendRun) -> None:
        pending = self.flush_ended_run(ended)  # before the attempt is closed: reports of a closed attempt are rejected
        if pending and self._wait_for_reports(ended, pending):
            return
        now = self.deps.clock.now()
        with self.deps.database.write() as uow:
            repos = uow.project(ended.project)
            run = repos.runs.get({"id": ended.id})
            if run.ended_at is not None:
                return
            job = repos.jobs.get({"id": run.job})
            state = RunState.STOPPED if run.stop else _RUN_STATES.get(backend_run.state, RunState.LOST)
            repos.runs.save(run.model_copy(update={"state": state, "ended_at": now}))
            release_gpus(repos, run, now)
            if pending:
                record_event(repos, job, now, "reports_lost", f"reports of run {run.number} are lost: {pending}")
            attempt = newest_attempt(repos, job)
            if attempt is not None and attempt.run == run.id and attempt.state is AttemptState.LIVE:
                close_attempt(repos, job, attempt, AttemptState.STOPPED if run.stop else AttemptState.LOST, now)
            result = attempt.result if attempt is not None and attempt.run == run.id else None
            self._update_job(repos, job, state, backend_run, result, now)

    def _wait_for_reports(self, ended: Run, pending: str) -> bool:
        """Return whether an ended run stays open for its last reports; sets the job's reason."""
        now = self.deps.clock.now()
        with self.deps.database.write() as uow:
            runs = uow.project(ended.project).runs
            run = runs.get({"id": ended.id})
            if run.ended_at is not None:
                return False
            since = run.reports_pending_since or now
            if run.reports_pending_since is None:
                runs.save(run.model_copy(update={"reports_pending_since": now}))
        if now - since >= _PENDING_REPORTS_TIMEOUT:
            return False
        self._set_problem(ended, _NOT_RECONCILED, f"run {ended.number} has ended; its last reports wait: {pending}")
        return True

    def _update_job(
        self,
        repos: ProjectData,
        job: Job,
        state: RunState,
        backend_run: BackendRun,
        result: ResultItem | None,
        now: datetime,
    ) -> None:
        if job.state.terminal:
            return
        if job.state is JobState.CANCELLING:
            repos.jobs.save(move(job, JobState.CANCELLED, now))
            record_event(repos, job, now, "job_cancelled", "the job was cancelled")
            return
        failed = result is not None and result.outcome is ResultStatus.FAILED
        lost = _lost_without_progress(repos, job)
        if not failed and (state is RunState.STOPPED or (state is RunState.LOST and len(lost) < self.max_lost_runs)):
            cause = "the run was stopped" if state is RunState.STOPPED else f"the run was lost ({backend_run.message})"
            repos.jobs.save(move(job, JobState.QUEUED, now))
            finished = result is not None and result.outcome is ResultStatus.SUCCEEDED
            then = "its next run registers the result" if finished else "it resumes from its last checkpoint"
            message = f"{cause}; the job is queued again, and {then}"
            record_event(repos, job, now, "job_requeued", message)
            return
        reason = _failure_reason(result if failed else None, state, backend_run, len(lost))
        repos.jobs.save(move(job, JobState.FAILED, now, reason))
        record_event(repos, job, now, "job_failed", reason.message, context=reason.context)


def _lost_without_progress(repos: ProjectData, job: Job) -> list[Run]:
    """Return the lost runs of a job, from the one that committed the newest checkpoint."""
    lost, checkpoint = repos.runs.all({"job": job.id, "state": RunState.LOST}), newest_checkpoint(repos, job)
    if checkpoint is None:
        return lost
    attempt = repos.attempts.get({"job": job.id, "number": checkpoint.attempt})
    progressed = repos.runs.get({"id": attempt.run})
    return [run for run in lost if run.number >= progressed.number]


def _failure_reason(result: ResultItem | None, state: RunState, backend_run: BackendRun, lost: int) -> Reason:
    if result is not None:
        entry = CATALOGUE.get(result.code, CATALOGUE["training_failed"])
        return Reason(
            code=result.code or "training_failed",
            message=result.message or "the training failed",
            action_by=entry.action_by,
            action=entry.action or "read the job's log, change the spec or the data, and retry",
        )
    cause = backend_run.reason
    if state is RunState.LOST:
        message = f"{lost} runs of the job were lost: {cause.message if cause else backend_run.message}"
        return (
            cause.model_copy(update={"message": message})
            if cause
            else Reason(
                code="runs_lost",
                message=message,
                action_by=ActionOwner.ADMIN,
                action="find out why the job's processes are killed (memory, restarts), then retry",
            )
        )
    if cause is not None:
        return cause
    return Reason(
        code="run_failed",
        message=backend_run.message or "the pipeline run failed",
        action_by=ActionOwner.USER,
        action="read the job's log, then retry",
    )
