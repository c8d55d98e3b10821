"""The API of a run's processes: attempts, report batches, step states. Every write is fenced."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from windlass.domain.errors import AttemptActiveError, FencedError, InvalidError
from windlass.domain.ids import MAX_INTEGER
from windlass.domain.jobs import Attempt, AttemptState, Job, JobState, Run, RunState, move
from windlass.domain.records import Checkpoint, MetricSample
from windlass.domain.reports import (
    AcquireAttemptReply,
    CheckpointItem,
    CheckpointPrunedItem,
    Command,
    EventItem,
    LogItem,
    MetricItem,
    PhasesItem,
    ReportBatch,
    ReportReply,
    ResultItem,
    ResultStatus,
    ResumePoint,
)
from windlass.kit.failpoints import failpoint
from windlass.ports import ProjectData, ReadProjectData
from windlass.services.attempts import close_attempt, newest_attempt, newest_checkpoint, result_attempt, run_and_job
from windlass.services.base import ServiceDependencies
from windlass.services.job_events import record_event
from windlass.services.job_log import LogText, index_log_text, store_log_text
from windlass.services.storage_limit import excess_bytes, fail_for_storage

_ATTEMPT_STATES = {
    ResultStatus.SUCCEEDED: AttemptState.FINISHED,
    ResultStatus.FAILED: AttemptState.FAILED,
    ResultStatus.STOPPED: AttemptState.STOPPED,
}


_TRAINABLE_STATES = (JobState.QUEUED, JobState.STARTING, JobState.RUNNING)
"""States of a job whose run may train. In a cluster a trainer may be faster than the news of its admission."""


@dataclass(frozen=True)
class RunStatus:
    """What the processes of a run ask for.

    ``attempt``: its newest one, or the one of an earlier run that has finished the training. ``checkpoint``: the newest
    one of the job. ``lost_attempts``: of the run, since then. ``attempt_seconds``: since a live one was acquired.
    """

    job: Job
    command: Command
    attempt: Attempt | None
    checkpoint: Checkpoint | None
    lost_attempts: int
    attempt_seconds: float | None


@dataclass(frozen=True)
class Runs:
    """The operations of one run's processes.

    The heartbeat timeout of an attempt starts when this process first sees its number of heartbeats, and passes only
    while heartbeats can be stored (``ServiceDependencies.heartbeat_seconds``).
    """

    deps: ServiceDependencies
    run: str
    heartbeat_timeout: timedelta

    def get_run(self) -> RunStatus:
        """Return the status of the run."""
        with self.deps.database.read() as uow:
            run, job = run_and_job(uow, self.run)
            repos = uow.project(job.project)
            attempt, checkpoint = result_attempt(repos, run, job), newest_checkpoint(repos, job)
            lost = repos.attempts.all({"job": job.id, "run": run.id, "state": AttemptState.LOST})
        lost_since = sum(each.number >= (checkpoint.attempt if checkpoint else 1) for each in lost)
        is_live = attempt is not None and attempt.state is AttemptState.LIVE
        seconds = (self.deps.clock.now() - attempt.acquired_at).total_seconds() if attempt and is_live else None
        return RunStatus(job, _command(run, job), attempt, checkpoint, lost_since, seconds)

    def acquire_attempt(self, trainer: str) -> AcquireAttemptReply:
        """Fence previous attempts and open a new one; idempotent for the same trainer.

        Raises:
            AttemptActiveError: the previous attempt's heartbeat timeout has not passed.
            FencedError: the job or the run has ended, or the run has a pending stop.
        """
        self._require_space()
        now = self.deps.clock.now()
        with self.deps.database.write(self.run) as uow:
            run, job = run_and_job(uow, self.run)
            repos = uow.project(job.project)
            if job.state not in _TRAINABLE_STATES or run.state.ended or run.stop:
                raise FencedError(f"job {job.id} is {job.state}; run {run.number} may not train")
            last = newest_attempt(repos, job)
            if last is not None and last.state is AttemptState.LIVE:
                if last.trainer == trainer:
                    return self._reply(repos, job, last)
                if self._seconds_since_heartbeat(last) < self.heartbeat_timeout.total_seconds():
                    raise AttemptActiveError(
                        f"attempt {last.number} of job {job.id} is live", hint="ask again in a second"
                    )
                close_attempt(repos, job, last, AttemptState.LOST, now)
            if last is not None and last.state is AttemptState.FINISHED:
                raise FencedError(f"attempt {last.number} has finished the training")
            resume = newest_checkpoint(repos, job)
            attempt = Attempt(
                project=job.project,
                job=job.id,
                number=job.attempt + 1,
                run=run.id,
                trainer=trainer,
                state=AttemptState.LIVE,
                acquired_at=now,
                heartbeat_at=now,
                resumed_from_step=resume.step if resume else None,
            )
            repos.attempts.add(attempt)
            self._seconds_since_heartbeat(attempt)
            # The new attempt reports the steps after its checkpoint again; readers see each step once.
            repos.telemetry.drop_metrics_above(job.id, resume.step if resume else -1)
            update = {"attempt": attempt.number, "steps_done": resume.step if resume else 0}
            job = repos.jobs.save(move(admitted(job, now), JobState.RUNNING, now).model_copy(update=update))
            origin = f" from the checkpoint of step {resume.step}" if resume else ""
            message = f"attempt {attempt.number} started{origin}"
            record_event(repos, job, now, "attempt_started", message, attempt=attempt.number)
            reply = self._reply(repos, job, attempt)
            failpoint("attempt.acquire.before_commit")
        failpoint("attempt.acquire.committed")
        return reply

    def _require_space(self) -> None:
        """Fail a job that has not trained yet if its project already exceeds its storage limit."""
        with self.deps.database.read() as uow:
            _, job = run_and_job(uow, self.run)
        if job.attempt or not (excess := excess_bytes(self.deps, job.project)):
            return
        with self.deps.database.write(self.run) as uow:
            _, job = run_and_job(uow, self.run)
            fail_for_storage(
                uow.project(job.project), job, excess, self.deps.limits.stored_bytes, self.deps.clock.now()
            )

    def _seconds_since_heartbeat(self, attempt: Attempt) -> float:
        """Return for how long this process has seen no heartbeat of the attempt; seeing a new one starts at 0."""
        lease, deps = ("attempt", attempt.job), self.deps
        value = (attempt.number, attempt.heartbeats)
        return deps.leases.seconds_unchanged(lease, value, deps.heartbeat_seconds())

    def _reply(self, repos: ReadProjectData, job: Job, attempt: Attempt) -> AcquireAttemptReply:
        resume = newest_checkpoint(repos, job)
        return AcquireAttemptReply(
            attempt=attempt.number,
            heartbeat_timeout_seconds=self.heartbeat_timeout.total_seconds(),
            resume=ResumePoint(attempt=resume.attempt, step=resume.step, manifest=resume.manifest) if resume else None,
            trained_seconds=job.trained_seconds,
        )

    def report(self, number: int, batch: ReportBatch) -> ReportReply:
        """Apply a report batch of an attempt; a batch that was applied before is only acknowledged.

        Raises:
            FencedError: the attempt is not the live one.
            InvalidError: a successful result has no manifest or no evaluation.
        """
        text = self._store_log_text(number, batch)
        now = self.deps.clock.now()
        with self.deps.database.write(self.run) as uow:
            run, job = run_and_job(uow, self.run)
            repos = uow.project(job.project)
            attempt = _attempt_of_run(repos, run, job, number)
            is_late = attempt.state is not AttemptState.LIVE
            is_duplicate = bool(batch.items) and not repos.telemetry.accept_batch(
                job.id, number, batch.source, batch.sequence
            )
            if not is_duplicate:
                _require_accepted(job, attempt, batch)
                attempt, job = self._apply(repos, job, attempt, batch, now)
                if text is not None:
                    index_log_text(repos, job, text, now)
            if not is_late:  # an attempt is written for the last time when it ends: metrics count that transition
                attempt = attempt.model_copy(update={"heartbeat_at": now, "heartbeats": attempt.heartbeats + 1})
                repos.attempts.save(attempt)
                self._seconds_since_heartbeat(attempt)
            reply = ReportReply(acknowledged=batch.sequence, command=_command(run, job))
            failpoint("report.before_commit")
        failpoint("report.committed")
        return reply

    def _store_log_text(self, number: int, batch: ReportBatch) -> LogText | None:
        """Store the log text of a batch that will be accepted, before the transaction that applies the batch."""
        items = [item for item in batch.items if isinstance(item, LogItem)]
        if not items:
            return None
        with self.deps.database.read() as uow:
            run, job = run_and_job(uow, self.run)
            repos = uow.project(job.project)
            attempt = _attempt_of_run(repos, run, job, number)
            if repos.telemetry.newest_batch(job.id, number, batch.source) >= batch.sequence:
                return None
            _require_accepted(job, attempt, batch)
        return store_log_text(self.deps.store, job, number, batch.source, items)

    def _apply(
        self, repos: ProjectData, job: Job, attempt: Attempt, batch: ReportBatch, now: datetime
    ) -> tuple[Attempt, Job]:
        if not batch.items:
            return attempt, job
        points = [item for item in batch.items if isinstance(item, MetricItem)]
        repos.telemetry.add_metrics(
            [MetricSample(job=job.id, name=p.name, step=p.step, attempt=attempt.number, value=p.value) for p in points]
        )
        steps_done = max((p.step for p in points if p.name == "train_loss"), default=job.steps_done)
        steps_planned = job.steps_planned
        for item in batch.items:
            if isinstance(item, EventItem):
                record_event(
                    repos, job, item.time, item.code, item.message, attempt=attempt.number, context=item.context
                )
                if item.code == "training_started":
                    steps_planned = _planned_steps(item) or steps_planned
            elif isinstance(item, PhasesItem):
                attempt = attempt.model_copy(update={"phases": item.seconds})
            elif isinstance(item, CheckpointItem):
                self._checkpoint(repos, job, attempt, item, now)
                kept = attempt.phases.training if attempt.phases else 0.0
                attempt = attempt.model_copy(update={"kept_seconds": kept})
            elif isinstance(item, CheckpointPrunedItem):
                repos.checkpoints.delete({"job": job.id, "step": item.step, "attempt": item.attempt})
            elif isinstance(item, ResultItem):
                attempt = self._result(attempt, item, now)
                trained = job.trained_seconds + item.trained_seconds
                job = job.model_copy(update={"trained_seconds": trained})
        update = {
            "steps_done": max(steps_done, job.steps_done),
            "steps_planned": steps_planned,
            "trained_seconds": job.trained_seconds,
        }
        return attempt, repos.jobs.save(job.model_copy(update=update))

    def _checkpoint(self, repos: ProjectData, job: Job, attempt: Attempt, item: CheckpointItem, now: datetime) -> None:
        existing = repos.checkpoints.find({"job": job.id, "step": item.step})
        checkpoint = Checkpoint(
            project=job.project,
            job=job.id,
            attempt=attempt.number,
            step=item.step,
            manifest=item.manifest,
            metrics=item.metrics,
            created_at=now,
        )
        if existing is None:
            repos.checkpoints.add(checkpoint)
        else:
            repos.checkpoints.save(checkpoint)
        size = item.manifest.bytes
        record_event(
            repos,
            job,
            item.time,
            "checkpoint_committed",
            f"checkpoint of step {item.step}",
            attempt=attempt.number,
            context={"step": item.step, "bytes": size},
        )

    @staticmethod
    def _result(attempt: Attempt, item: ResultItem, now: datetime) -> Attempt:
        if item.outcome is ResultStatus.SUCCEEDED and (item.manifest is None or item.evaluation is None):
            raise InvalidError.field("/items", "a successful result needs a manifest and an evaluation")
        update = {
            "state": _ATTEMPT_STATES[item.outcome],
            "ended_at": now,
            "result": item,
            "trained_seconds": item.trained_seconds,
            "phases": item.phases or attempt.phases,
        }
        return attempt.model_copy(update=update)

    def report_attempt_lost(self, number: int) -> None:
        """Close an attempt whose trainer exited without a result; no-op when it has ended."""
        now = self.deps.clock.now()
        with self.deps.database.write(self.run) as uow:
            run, job = run_and_job(uow, self.run)
            repos = uow.project(job.project)
            attempt = repos.attempts.find({"job": job.id, "number": number})
            if attempt is not None and attempt.run == run.id and attempt.state is AttemptState.LIVE:
                close_attempt(repos, job, attempt, AttemptState.LOST, now)

    def report_step(self, name: str, state: str, message: str) -> None:
        """Record the state of a pipeline step."""
        now = self.deps.clock.now()
        with self.deps.database.write(self.run) as uow:
            run, job = run_and_job(uow, self.run)
            repos = uow.project(job.project)
            if run.steps.get(name) == state or run.state.ended:
                return
            repos.runs.save(run.model_copy(update={"steps": {**run.steps, name: state}, "state": _started(run)}))
            text = f"step {name} {state}" + (f": {message}" if message else "")
            record_event(repos, job, now, f"step_{state}", text, context={"step": name})

    def append_step_log(self, step: str, producer: str, sequence: int, items: Sequence[LogItem]) -> None:
        """Append a chunk of a pipeline step's log; idempotent by the process that sends it and its ``sequence``.

        Raises:
            FencedError: the run has ended.
        """
        stream = f"{step}/{producer}"
        with self.deps.database.read() as uow:
            run, job = run_and_job(uow, self.run)
            repos = uow.project(job.project)
            _require_not_ended(run)
            if repos.telemetry.newest_batch(job.id, -run.number, stream) >= sequence:
                return
        stored = store_log_text(self.deps.store, job, -run.number, step, items)
        with self.deps.database.write(self.run) as uow:
            run, job = run_and_job(uow, self.run)
            repos = uow.project(job.project)
            _require_not_ended(run)
            if repos.telemetry.accept_batch(job.id, -run.number, stream, sequence):
                index_log_text(repos, job, stored, self.deps.clock.now())


def _started(run: Run) -> RunState:
    return RunState.RUNNING if run.state is RunState.PENDING else run.state


def _attempt_of_run(repos: ReadProjectData, run: Run, job: Job, number: int) -> Attempt:
    attempt = repos.attempts.find({"job": job.id, "number": number})
    if attempt is None or attempt.run != run.id:
        raise FencedError(f"job {job.id} has no attempt {number} in this run")
    return attempt


def _require_accepted(job: Job, attempt: Attempt, batch: ReportBatch) -> None:
    """Require that a batch of this attempt is accepted.

    After its end, an attempt may still deliver late log lines, and, while it is the newest one and reported a result,
    what another source measured before: the sources send independently, so the result may overtake them. Phases are not
    stored then: the result has them. A heartbeat
    of a finished attempt is accepted while it exits. A heartbeat of a lost or stopped attempt is fenced, so that its
    trainer exits and frees its GPUs.
    """
    if attempt.state is AttemptState.LIVE:
        return
    late: tuple[type, ...] = (LogItem, PhasesItem)
    if attempt.state in (AttemptState.FINISHED, AttemptState.FAILED) and attempt.number == job.attempt:
        late = (LogItem, PhasesItem, MetricItem, EventItem)
    if batch.items:
        accepted = all(isinstance(item, late) for item in batch.items)
    else:
        accepted = attempt.state is AttemptState.FINISHED
    if not accepted:
        raise FencedError(f"attempt {attempt.number} of job {job.id} is {attempt.state}")


def _require_not_ended(run: Run) -> None:
    if run.state.ended:
        raise FencedError(f"run {run.number} is {run.state}")


def _planned_steps(item: EventItem) -> int | None:
    steps = item.context.get("steps")
    return steps if isinstance(steps, int) and 0 < steps <= MAX_INTEGER else None


def _command(run: Run, job: Job) -> Command:
    if job.state in (JobState.CANCELLING, JobState.CANCELLED) or run.stop == "cancel":
        return Command.CANCEL
    return Command.PREEMPT if run.stop == "preempt" else Command.CONTINUE


def admitted(job: Job, now: datetime) -> Job:
    """Return a job whose run proves that it was admitted."""
    return move(job, JobState.STARTING, now) if job.state is JobState.QUEUED else job
