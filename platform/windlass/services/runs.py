"""What a run says, under its token: the fence, report batches, step states. Every write is fenced."""

import io
from dataclasses import dataclass
from datetime import datetime, timedelta

from windlass.domain.errors import AttemptHeldError, FencedError, FieldProblem, InvalidError
from windlass.domain.jobs import Attempt, AttemptState, Job, JobState, Run, RunState, move
from windlass.domain.records import Checkpoint, LogChunk, MetricPoint
from windlass.domain.reports import (
    CheckpointItem,
    ClaimReply,
    Command,
    EventItem,
    LogItem,
    MetricItem,
    Outcome,
    ReportBatch,
    ReportReply,
    ResultItem,
    ResumePoint,
)
from windlass.ports import ProjectData, UnitOfWork
from windlass.services.backing import Backing
from windlass.services.history import tell

_ENDED = {
    Outcome.SUCCEEDED: AttemptState.FINISHED,
    Outcome.FAILED: AttemptState.FAILED,
    Outcome.STOPPED: AttemptState.STOPPED,
}


def artifact_prefix(job: Job) -> str:
    """Return where attempts of a job put their results: ``<this>/<attempt>/``."""
    return f"projects/{job.project}/jobs/{job.id}/artifacts"


def checkpoint_prefix(job: Job) -> str:
    """Return where attempts of a job put checkpoints: ``<this>/<attempt>/<step>/``."""
    return f"projects/{job.project}/jobs/{job.id}/checkpoints"


@dataclass(frozen=True)
class Runs:
    """The use cases of one run's processes.

    ``up_since`` is when this control plane began to listen: an attempt could not heartbeat before, so its lease
    counts from then.
    """

    backing: Backing
    run: str
    lease: timedelta
    up_since: datetime

    def look(self) -> tuple[Job, Command, ResultItem | None]:
        """Return the job, what its run should do, and the result that an attempt of this run reported."""
        with self.backing.database.read() as work:
            inside, run, job = run_and_job(work, self.run)
            attempts = inside.attempts.all(job=job.id, run=run.id)
        return job, _command(run, job), attempts[-1].result if attempts else None

    def claim(self, trainer: str) -> ClaimReply:
        """Win the fence and open an attempt; the same trainer asking again gets the same attempt.

        Raises:
            AttemptHeldError: the previous attempt's lease lives.
            FencedError: the job or the run has ended, or is told to stop.
        """
        now = self.backing.clock.now()
        with self.backing.database.write() as work:
            inside, run, job = run_and_job(work, self.run)
            if job.state not in (JobState.STARTING, JobState.RUNNING) or run.state.ended or run.stop:
                raise FencedError(f"job {job.id} is {job.state}; run {run.number} may not train")
            last = inside.attempts.find(job=job.id, number=job.attempt) if job.attempt else None
            if last is not None and last.state is AttemptState.LIVE:
                if last.trainer == trainer:
                    return self._reply(inside, job, last)
                if max(last.heartbeat_at, self.up_since) + self.lease > now:
                    raise AttemptHeldError(
                        f"attempt {last.number} of job {job.id} is live", hint="ask again in a second"
                    )
                close_attempt(inside, job, last, AttemptState.LOST, now)
            if last is not None and last.run == run.id and last.state is AttemptState.FINISHED:
                raise FencedError(f"attempt {last.number} of this run has finished the training")
            resume = _newest_checkpoint(inside, job)
            attempt = Attempt(
                project=job.project,
                job=job.id,
                number=job.attempt + 1,
                run=run.id,
                trainer=trainer,
                state=AttemptState.LIVE,
                claimed_at=now,
                heartbeat_at=now,
                resumed_from_step=resume.step if resume else None,
            )
            inside.attempts.add(attempt)
            # The new attempt will say again what lies beyond its starting point; a reader sees each step once.
            inside.journal.drop_metrics_above(job.id, resume.step if resume else -1)
            at = {"attempt": attempt.number, "steps_done": resume.step if resume else 0}
            job = inside.jobs.save(move(job, JobState.RUNNING, now).model_copy(update=at))
            said = f"attempt {attempt.number} began" + (f" from the checkpoint of step {resume.step}" if resume else "")
            tell(inside, job, now, "attempt_started", said, attempt=attempt.number)
            return self._reply(inside, job, attempt)

    def _reply(self, inside: ProjectData, job: Job, attempt: Attempt) -> ClaimReply:
        resume = _newest_checkpoint(inside, job)
        return ClaimReply(
            attempt=attempt.number,
            lease_seconds=self.lease.total_seconds(),
            resume=ResumePoint(step=resume.step, prefix=resume.prefix, manifest=resume.manifest) if resume else None,
            trained_seconds=job.trained_seconds,
        )

    def report(self, number: int, batch: ReportBatch) -> ReportReply:
        """Take a batch of an attempt, once: a batch seen before is acknowledged and not applied again.

        Raises:
            FencedError: the attempt is not the live one.
            InvalidError: an artifact or checkpoint outside of the attempt's own prefix.
        """
        now = self.backing.clock.now()
        with self.backing.database.write() as work:
            inside, run, job = run_and_job(work, self.run)
            attempt = inside.attempts.find(job=job.id, number=number)
            if attempt is None or attempt.run != run.id:
                raise FencedError(f"job {job.id} has no attempt {number} in this run")
            fresh = inside.journal.take_batch(job.id, number, batch.source, batch.sequence)
            if fresh and not _may_speak(attempt, batch):
                raise FencedError(f"attempt {number} of job {job.id} is {attempt.state}")
            if fresh:
                attempt, job = self._apply(inside, job, attempt, batch, now)
            inside.attempts.save(attempt.model_copy(update={"heartbeat_at": now}))
            return ReportReply(acknowledged=batch.sequence, command=_command(run, job))

    def _apply(
        self, inside: ProjectData, job: Job, attempt: Attempt, batch: ReportBatch, now: datetime
    ) -> tuple[Attempt, Job]:
        points = [item for item in batch.items if isinstance(item, MetricItem)]
        inside.journal.add_metrics(
            [
                MetricPoint(job=job.id, name=p.name, step=p.step, attempt=attempt.number, value=p.value, time=p.time)
                for p in points
            ]
        )
        done = max((p.step for p in points if p.name == "train_loss"), default=job.steps_done)
        planned = job.steps_planned
        lines = [item for item in batch.items if isinstance(item, LogItem)]
        if lines:
            self._log(inside, job, attempt.number, batch.source, batch.sequence, lines)
        for item in batch.items:
            if isinstance(item, EventItem):
                tell(inside, job, item.time, item.code, item.message, attempt=attempt.number, facts=item.facts)
                if item.code == "training_started" and isinstance(item.facts.get("steps"), int):
                    planned = item.facts["steps"]
            elif isinstance(item, CheckpointItem):
                self._checkpoint(inside, job, attempt, item, now)
            elif isinstance(item, ResultItem):
                attempt = self._result(job, attempt, item, now)
                trained = job.trained_seconds + item.trained_seconds
                job = job.model_copy(update={"trained_seconds": trained})
        at = {"steps_done": max(done, job.steps_done), "steps_planned": planned, "trained_seconds": job.trained_seconds}
        return attempt, inside.jobs.save(job.model_copy(update=at))

    def _checkpoint(self, inside: ProjectData, job: Job, attempt: Attempt, item: CheckpointItem, now: datetime) -> None:
        _require_below(item.prefix, f"{checkpoint_prefix(job)}/{attempt.number}/", "prefix")
        kept = inside.checkpoints.find(job=job.id, step=item.step)
        checkpoint = Checkpoint(
            project=job.project,
            job=job.id,
            attempt=attempt.number,
            step=item.step,
            prefix=item.prefix,
            manifest=item.manifest,
            metrics=item.metrics,
            created_at=now,
        )
        if kept is None:
            inside.checkpoints.add(checkpoint)
        else:
            inside.checkpoints.save(checkpoint)
        size = item.manifest.bytes
        tell(
            inside,
            job,
            item.time,
            "checkpoint_committed",
            f"checkpoint of step {item.step}",
            attempt=attempt.number,
            facts={"step": item.step, "bytes": size},
        )

    @staticmethod
    def _result(job: Job, attempt: Attempt, item: ResultItem, now: datetime) -> Attempt:
        if item.outcome is Outcome.SUCCEEDED:
            if item.manifest is None or item.artifact_prefix is None or item.evaluation is None:
                raise InvalidError.field("/items", "a successful result needs artifact_prefix, manifest and evaluation")
            _require_below(item.artifact_prefix + "/", f"{artifact_prefix(job)}/{attempt.number}/", "artifact_prefix")
        update = {
            "state": _ENDED[item.outcome],
            "ended_at": now,
            "result": item,
            "trained_seconds": item.trained_seconds,
        }
        return attempt.model_copy(update=update)

    def lost(self, number: int, trainer: str) -> None:
        """Close an attempt whose trainer was seen to exit without a result; no-op when it has ended."""
        now = self.backing.clock.now()
        with self.backing.database.write() as work:
            inside, run, job = run_and_job(work, self.run)
            attempt = inside.attempts.find(job=job.id, number=number)
            mine = attempt is not None and attempt.run == run.id and attempt.trainer == trainer
            if attempt is not None and mine and attempt.state is AttemptState.LIVE:
                close_attempt(inside, job, attempt, AttemptState.LOST, now)

    def step(self, name: str, state: str, message: str) -> None:
        """Record where a step of the pipeline stands."""
        now = self.backing.clock.now()
        with self.backing.database.write() as work:
            inside, run, job = run_and_job(work, self.run)
            if run.steps.get(name) == state or run.state.ended:
                return
            inside.runs.save(run.model_copy(update={"steps": {**run.steps, name: state}, "state": _begun(run)}))
            said = f"step {name} {state}" + (f": {message}" if message else "")
            tell(inside, job, now, f"step_{state}", said, facts={"step": name})

    def step_log(self, step: str, sequence: int, text: str, time: datetime) -> None:
        """Append a chunk of a step's own output, once."""
        with self.backing.database.write() as work:
            inside, run, job = run_and_job(work, self.run)
            if inside.journal.take_batch(job.id, -run.number, step, sequence):
                self._log(inside, job, -run.number, step, sequence, [LogItem(text=text, time=time)])

    def _log(
        self, inside: ProjectData, job: Job, attempt: int, source: str, sequence: int, items: list[LogItem]
    ) -> None:
        tag = f"attempt {attempt}" if attempt > 0 else f"run {-attempt}"
        lines = [
            f"{item.time:%Y-%m-%dT%H:%M:%S}Z {tag} {source} | {line}\n"
            for item in items
            for line in item.text.splitlines()
        ]
        data = "".join(lines).encode()
        start = inside.journal.log_length(job.id)
        key = f"projects/{job.project}/jobs/{job.id}/logs/{attempt}-{source}-{sequence}"
        self.backing.store.put(key, io.BytesIO(data))
        inside.journal.append_log(
            LogChunk(
                project=job.project,
                job=job.id,
                start=start,
                end=start + len(data),
                source=source,
                attempt=attempt,
                key=key,
                time=items[-1].time,
            )
        )


def run_and_job(work: UnitOfWork, run_id: str) -> tuple[ProjectData, Run, Job]:
    """Return the run with this id, its job, and their project's repositories."""
    run = work.everywhere().runs.get(id=run_id)
    inside = work.of(run.project)
    return inside, run, inside.jobs.get(id=run.job)


def _begun(run: Run) -> RunState:
    return RunState.RUNNING if run.state is RunState.PENDING else run.state


def _may_speak(attempt: Attempt, batch: ReportBatch) -> bool:
    """Tell whether an attempt may say this: once it has ended, log lines that were late, which change nothing.

    A heartbeat is taken from one that has told its result and is about to leave; one that was declared lost or stopped
    hears that it lost the fence, so that it lets go of its GPUs.
    """
    if attempt.state is AttemptState.LIVE:
        return True
    if not batch.items:
        return attempt.state is AttemptState.FINISHED
    return all(isinstance(item, LogItem) for item in batch.items)


def _command(run: Run, job: Job) -> Command:
    if job.state in (JobState.CANCELLING, JobState.CANCELLED) or run.stop == "cancel":
        return Command.CANCEL
    return Command.PREEMPT if run.stop == "preempt" else Command.CONTINUE


def close_attempt(inside: ProjectData, job: Job, attempt: Attempt, state: AttemptState, now: datetime) -> None:
    """End a live attempt without a result."""
    inside.attempts.save(attempt.model_copy(update={"state": state, "ended_at": now}))
    tell(inside, job, now, f"attempt_{state}", f"attempt {attempt.number} was {state}", attempt=attempt.number)


def _newest_checkpoint(inside: ProjectData, job: Job) -> Checkpoint | None:
    newest = inside.checkpoints.page(1, None, newest_first=True, job=job.id)
    return newest[0] if newest else None


def _require_below(path: str, prefix: str, field: str) -> None:
    if not path.startswith(prefix) or ".." in path.split("/"):
        raise InvalidError(
            f"{field} is outside of this attempt's prefix",
            fields=[FieldProblem(f"/items/{field}", "must be below the prefix")],
        )
