"""Admits queued jobs, asks preempted ones to leave, and follows every run to its end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from windlass.domain.ids import kubernetes_run_name
from windlass.domain.jobs import AttemptState, Job, JobState, Owner, Reason, Run, RunState, move
from windlass.domain.projects import Wait
from windlass.domain.quota import Decisions, schedule
from windlass.domain.reports import Outcome, ResultItem
from windlass.ports import BackendRun, BackendState, PipelineBackend, ProjectData, UnitOfWork
from windlass.services.admission import take_snapshot
from windlass.services.backing import Backing
from windlass.services.history import tell
from windlass.services.runs import close_attempt

_RUN_STATES = {
    BackendState.SUCCEEDED: RunState.SUCCEEDED,
    BackendState.FAILED: RunState.FAILED,
    BackendState.STOPPED: RunState.STOPPED,
    BackendState.LOST: RunState.LOST,
}


@dataclass(frozen=True)
class Scheduling:
    """The embedded scheduler around ``domain.quota`` and the pipeline back end.

    A run that was told to stop has the grace of that reason before it is killed; a job whose runs were lost
    ``lost_runs`` times fails.
    """

    backing: Backing
    backend: PipelineBackend
    preempt_grace: timedelta
    cancel_grace: timedelta
    lost_runs: int
    leftovers: Callable[[Run], object]
    """Takes over what an ended run's processes wrote down and could not tell: metrics, checkpoints, a result."""

    def admit(self) -> bool:
        """Take one scheduling decision, and store it if it changes anything; tell whether it did."""
        with self.backing.database.read() as work:
            if not work.everywhere().jobs.all(state=JobState.QUEUED) or not self._changes(work):
                return False
        with self.backing.database.write() as work:
            self._apply(work, schedule(take_snapshot(work)))
        return True

    def _changes(self, work: UnitOfWork) -> bool:
        decisions = schedule(take_snapshot(work))
        if decisions.admit or decisions.preempt:
            return True
        stored = {job.id: job.reason for job in work.everywhere().jobs.all(state=JobState.QUEUED)}
        return any(stored[job] != verdict.reason for job, verdict in decisions.waiting.items() if job in stored)

    def _apply(self, work: UnitOfWork, decisions: Decisions) -> None:
        now, everywhere = self.backing.clock.now(), work.everywhere()
        for job_id in decisions.admit:
            self._open_run(work, everywhere.jobs.get(id=job_id), now)
        for preemption in decisions.preempt:
            job = everywhere.jobs.get(id=preemption.job)
            inside = work.of(job.project)
            run = inside.runs.get(job=job.id, ended_at=None)
            if run.stop is None:
                inside.runs.save(run.model_copy(update={"stop": "preempt", "stop_at": now}))
                why = "its project borrowed the GPUs, their owner needs them" if preemption.reason == "reclaim" else ""
                why = why or "a job of higher priority needs its GPUs"
                tell(
                    inside, job, now, "job_preempted", f"the job must leave: {why}", facts={"reason": preemption.reason}
                )
        for job_id, verdict in decisions.waiting.items():
            job = everywhere.jobs.get(id=job_id)
            if job.reason != verdict.reason:
                everywhere.jobs.save(move(job, JobState.QUEUED, now, verdict.reason))
                if job.reason is None or job.reason.code != verdict.reason.code:
                    tell(
                        work.of(job.project),
                        job,
                        now,
                        "job_waiting",
                        verdict.reason.message,
                        facts=verdict.reason.facts,
                    )

    def _open_run(self, work: UnitOfWork, job: Job, now: datetime) -> None:
        inside = work.of(job.project)
        number = job.run + 1
        run = Run(
            id=self.backing.new_id("run"),
            project=job.project,
            job=job.id,
            number=number,
            name=kubernetes_run_name(job.id, number),
            state=RunState.PENDING,
            created_at=now,
        )
        inside.runs.add(run)
        if number == 1:
            waited = (now - (job.queued_at or job.created_at)).total_seconds()
            pool = job.spec.resources.pool
            inside.waits.add(Wait(project=job.project, pool=pool, subject=job.id, seconds=waited, at=now))
        inside.jobs.save(move(job, JobState.STARTING, now).model_copy(update={"run": number}))
        tell(
            inside,
            job,
            now,
            "job_admitted",
            f"run {number} was admitted to pool {job.spec.resources.pool}",
            facts={"run": number},
        )
        work.outbox.put("run.submit", job.project, run.id)

    def watch(self) -> None:
        """Look at every run that has not ended; carry its end over to its job."""
        self._each_run(self._watch)

    def _watch(self, run: Run) -> None:
        seen = self.backend.poll(run.name)
        if seen.state in _RUN_STATES:
            self._end(run, seen)
        elif self._overdue(run):
            # The next look finds it lost, and closes it then.
            self.backend.kill(run.name)
            if seen.state is BackendState.UNKNOWN:
                self._end(run, seen)

    def stop_all(self) -> None:
        """End every run now, since the whole server stops: not the jobs' fault, so they are queued again."""
        self._each_run(self._stop)

    def _stop(self, run: Run) -> None:
        self.backend.kill(run.name)
        with self.backing.database.write() as work:
            runs_now = work.of(run.project).runs
            now = runs_now.get(id=run.id)
            if now.stop is None:
                runs_now.save(now.model_copy(update={"stop": "shutdown", "stop_at": self.backing.clock.now()}))
        self._end(run, self.backend.poll(run.name))

    def _each_run(self, deal_with: Callable[[Run], None]) -> None:
        """Deal with every run that has not ended; one that cannot be dealt with says so and keeps no other waiting."""
        with self.backing.database.read() as work:
            runs = work.everywhere().runs.all(ended_at=None)
        troubles: list[Exception] = []
        for run in runs:
            try:
                deal_with(run)
            except Exception as error:  # noqa: BLE001 - raised below, when the others have had their turn
                troubles.append(error)
                self._explain(run, "run_stuck", f"run {run.number} cannot be looked after: {error}")
        if troubles:
            raise troubles[0]

    def not_started(self, run_id: str, problem: str, *, give_up: bool) -> None:
        """Say why an admitted run has not begun; ``give_up`` ends it as lost, so that it holds its GPUs no longer."""
        with self.backing.database.read() as work:
            run = work.everywhere().runs.find(id=run_id)
        if run is None or run.ended_at is not None:
            return
        said = f"run {run.number} cannot be started: {problem}"
        if give_up and self.backend.poll(run.name).state is BackendState.UNKNOWN:
            self._end(run, BackendRun(name=run.name, state=BackendState.LOST, message=said))
        else:
            self._explain(run, "start_failed", said)

    def _explain(self, run: Run, code: str, message: str) -> None:
        reason = Reason(
            code=code,
            message=message[:2000],
            owner=Owner.ADMIN,
            action="read the server's log; it is tried again by itself",
        )
        with self.backing.database.write() as work:
            jobs = work.of(run.project).jobs
            job = jobs.get(id=run.job)
            if not job.state.terminal and job.reason != reason:
                jobs.save(move(job, job.state, self.backing.clock.now(), reason))

    def _overdue(self, run: Run) -> bool:
        if run.stop is None or run.stop_at is None:
            return False
        grace = self.preempt_grace if run.stop == "preempt" else self.cancel_grace
        return self.backing.clock.now() - run.stop_at > grace

    def _end(self, seen: Run, how: BackendRun) -> None:
        self.leftovers(seen)  # before its attempt is closed: a closed one may say nothing that counts
        now = self.backing.clock.now()
        with self.backing.database.write() as work:
            inside = work.of(seen.project)
            run = inside.runs.get(id=seen.id)
            if run.ended_at is not None:
                return
            job = inside.jobs.get(id=run.job)
            state = RunState.STOPPED if run.stop else _RUN_STATES.get(how.state, RunState.LOST)
            inside.runs.save(run.model_copy(update={"state": state, "ended_at": now}))
            attempt = inside.attempts.find(job=job.id, number=job.attempt) if job.attempt else None
            if attempt is not None and attempt.run == run.id and attempt.state is AttemptState.LIVE:
                close_attempt(inside, job, attempt, AttemptState.STOPPED if run.stop else AttemptState.LOST, now)
            result = attempt.result if attempt is not None and attempt.run == run.id else None
            self._carry_over(inside, job, state, how, result, now)

    def _carry_over(
        self,
        inside: ProjectData,
        job: Job,
        state: RunState,
        how: BackendRun,
        result: ResultItem | None,
        now: datetime,
    ) -> None:
        if job.state.terminal:
            return
        if job.state is JobState.CANCELLING:
            inside.jobs.save(move(job, JobState.CANCELLED, now))
            tell(inside, job, now, "job_cancelled", "the job was cancelled")
            return
        failed = result is not None and result.outcome is Outcome.FAILED
        lost = inside.runs.all(job=job.id, state=RunState.LOST)
        if not failed and (state is RunState.STOPPED or (state is RunState.LOST and len(lost) < self.lost_runs)):
            said = "the run was stopped" if state is RunState.STOPPED else f"the run was lost ({how.message})"
            inside.jobs.save(move(job, JobState.QUEUED, now))
            tell(
                inside,
                job,
                now,
                "job_requeued",
                f"{said}; the job waits for another and goes on from its last checkpoint",
            )
            return
        reason = _why(result if failed else None, state, how, len(lost))
        inside.jobs.save(move(job, JobState.FAILED, now, reason))
        tell(inside, job, now, "job_failed", reason.message, facts=reason.facts)


def _why(result: ResultItem | None, state: RunState, how: BackendRun, lost: int) -> Reason:
    if result is not None:
        return Reason(
            code=result.code or "training_failed",
            message=result.message or "the training failed",
            owner=Owner.YOU,
            action="read the job's log, change the spec or the data, and retry",
        )
    if state is RunState.LOST:
        return Reason(
            code="runs_lost",
            message=f"{lost} runs of the job were lost: {how.message}",
            owner=Owner.ADMIN,
            action="find out why the job's processes are killed (memory, restarts), then retry",
        )
    return Reason(
        code="run_failed",
        message=how.message or "the pipeline run failed",
        owner=Owner.YOU,
        action="read the job's log, then retry",
    )
