"""The train step: launches the trainer, and launches it again until there is a result, a stop or too many failures."""

import codecs
import itertools
import signal
import time
from typing import Any

from windlass.domain.errors import UnavailableError, WindlassError
from windlass.domain.jobs import Reason
from windlass.domain.reasons import CATALOGUE
from windlass.domain.reports import Command, ResultItem, ResultStatus
from windlass.kit.backoff import Backoff
from windlass.ports import Launcher, RunLostError, TrainerState, TrainerStatus
from windlass.runtime.client import RUN_ENDED_ERRORS, RunApiClient
from windlass.runtime.context import RunEnvironment
from windlass.runtime.flush import flush_reports
from windlass.wire.runs import RunStatusOut
from windlass_pipelines.steps.launchers import new_launcher, trainers_outlive_run
from windlass_pipelines.steps.progress import STOPPED, StepFailedError, StepLog, step
from windlass_pipelines.steps.settings import StepSettings

SUCCEEDED = "succeeded"
FENCED_EXIT = 3
"""Exit code of a fenced trainer: the job or the run has ended."""
_POLL_SECONDS = 0.1
_TIME_LIMIT_EXCEEDED = "time limit exceeded"
_STOPPED_WHILE_PENDING = "the run was stopped while it waited for its resources"
_PENDING_CHECK_SECONDS = 2.0
_LAUNCH_BACKOFF = Backoff(1.0, 30.0)
_LOG_UPLOAD_SECONDS = 1.0
_FLUSH_TIMEOUT_SECONDS = 5.0
_MAX_FLUSHES = 6
_STOPPING_TIMEOUT_SECONDS = 5.0


def train() -> str:
    """Run the step; return ``succeeded`` or ``stopped``."""
    environment, settings = RunEnvironment.load(), StepSettings.load()
    launcher = new_launcher(environment, settings)
    with (
        RunApiClient(environment, retry_seconds=settings.control_plane_timeout_seconds) as client,
        step("train", environment.workspace, client) as step_context,
    ):
        step_context.outcome = TrainStep(environment, settings, launcher, client, step_context.log).run()
        return step_context.outcome


class TrainStep:
    """Supervises the trainer of one run.

    While ``run`` runs, it forwards SIGTERM to the trainer, except where trainers outlive their run: there SIGTERM ends
    only this process, and the next process of the run adopts the trainer.
    """

    def __init__(
        self,
        environment: RunEnvironment,
        settings: StepSettings,
        launcher: Launcher,
        client: RunApiClient,
        log: StepLog,
    ) -> None:
        self._environment, self._settings, self._launcher = environment, settings, launcher
        self._client, self._log = client, log
        self._name = environment.context.identity.name
        self._uploaded_bytes = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop_at: float | None = None
        self._failures = 0
        self._checkpoint: int | None = None
        """Failed starts since the newest checkpoint, and its step."""

    def run(self) -> str:
        """Run the trainer to its end; returns ``succeeded`` or ``stopped``.

        Raises:
            WindlassError, StepFailedError: training failed; the message gives the reason.
            RunLostError: what the trainer needs is lost; only a new run gets it again.
        """
        previous = signal.getsignal(signal.SIGTERM)
        if not trainers_outlive_run():
            signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            return self._run()
        finally:
            self._launcher.kill(self._name)
            signal.signal(signal.SIGTERM, previous)

    def _run(self) -> str:
        run = self._client.get_run()
        if run.result is not None and run.result.outcome is ResultStatus.SUCCEEDED:
            self._log.line("the training of the job has finished already")
            return _outcome_of(run.result, run.command)
        limit = self._settings.max_trainer_starts
        adopted = self._launcher.poll(self._name).start  # by an earlier process of this run, whose pod was replaced
        first = max(1, adopted)
        self._checkpoint, self._failures = run.checkpoint, min(run.lost_attempts, limit - 1)
        running_seconds = (run.attempt_seconds or 0.0) if adopted else None
        for start in itertools.count(first):
            if start > first:
                self._backoff()
            if self._stop_at is not None:
                return STOPPED
            status = self._run_trainer(start, running_seconds if start == first else None)
            if (outcome := self._outcome(status)) is not None:
                return outcome
            if self._failures >= limit:
                raise self._failure(status)
        raise AssertionError("unreachable: the loop has no end")

    def _failure(self, last: TrainerStatus) -> Exception:
        """Return the error of a trainer that has failed too often."""
        limit = self._settings.max_trainer_starts
        prefix = f"the trainer failed {limit} times without a result or a new checkpoint; last failure"
        if last.reason is None:
            return WindlassError(f"{prefix}: {last.message}", hint="see the end of the step's log")
        message = f"{prefix}: {last.reason.message}"
        return StepFailedError(message, last.reason.model_copy(update={"message": message}))

    def _on_sigterm(self, _number: int, _frame: Any) -> None:
        # Only remembers the signal: it may interrupt a call of the launcher, which holds a lock.
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self._settings.termination_grace_seconds
            self._client.cap_retries(_STOPPING_TIMEOUT_SECONDS)

    def _backoff(self) -> None:
        backoffs = self._settings.restart_backoff_seconds or (0.0,)
        deadline = time.monotonic() + backoffs[min(self._failures, len(backoffs)) - 1]
        while time.monotonic() < deadline and self._stop_at is None:
            time.sleep(_POLL_SECONDS)

    def _run_trainer(self, start: int, running_seconds: float | None) -> TrainerStatus:
        """Launch or adopt the trainer, wait for its end, kill its remaining processes and upload its log.

        ``running_seconds``: how long the trainer to adopt has run already; None to launch one.
        """
        self._uploaded_bytes = 0
        self._decoder.reset()
        self._launch(start)
        verb = "started" if running_seconds is None else "adopted"
        self._log.line(f"trainer {verb} (start {start})")
        status = self._wait_for_end(running_seconds or 0.0)
        self._launcher.kill(self._name)
        self._upload_log()
        reported = status.state is TrainerState.SUCCEEDED
        ended = status.message if status.reason is None else f"{status.message}: {status.reason.message}"
        self._log.line("trainer ended after its result" if reported else f"trainer ended: {ended}")
        return status

    def _launch(self, start: int) -> None:
        """Launch the trainer; repeat it for as long as what starts trainers may be unavailable."""
        deadline = time.monotonic() + self._settings.control_plane_timeout_seconds
        for failures in itertools.count(1):
            try:
                return self._launcher.launch(self._environment.context, start)
            except UnavailableError as error:
                if self._stop_at is not None or time.monotonic() > deadline:
                    raise
                self._log.line(f"the trainer cannot be started now: {error.message}")
                self._log.flush()
                time.sleep(_LAUNCH_BACKOFF.delay(failures))
        raise AssertionError("unreachable: the loop has no end")

    def _wait_for_end(self, running_seconds: float) -> TrainerStatus:
        """Wait until the trainer ends, exceeds its time limit or loses what it needs.

        The time limit includes the ``running_seconds`` before this process adopted the trainer, and does not include
        the time in which it waits for its resources. A pending trainer sends no reports, in whose replies it would
        learn that the run must stop, so the step asks.
        """
        started_at = time.monotonic()
        longest = self._environment.context.spec.max_duration_seconds + self._settings.hang_timeout_seconds
        limit = started_at + longest - running_seconds
        uploaded_at = asked_at = polled_at = started_at
        stop_sent = False
        while not (status := self._launcher.poll(self._name)).ended:
            now = time.monotonic()
            if status.state is TrainerState.PENDING:
                limit += now - polled_at
                if now > asked_at + _PENDING_CHECK_SECONDS:
                    asked_at = now
                    if not self._client.get_run().should_continue:
                        return status.model_copy(update={"message": _STOPPED_WHILE_PENDING})
            polled_at = now
            if now > min(limit, self._stop_at or limit):
                return status.model_copy(update={"message": _TIME_LIMIT_EXCEEDED})
            if self._stop_at is not None and not stop_sent:
                self._launcher.stop(self._name)
                stop_sent = True
            if now > uploaded_at + _LOG_UPLOAD_SECONDS:
                self._upload_log()
                uploaded_at = now
            time.sleep(_POLL_SECONDS)
        return status

    def _outcome(self, status: TrainerStatus) -> str | None:
        """Return the step's outcome after the trainer's end; None to launch it again."""
        try:
            run = self._deliver_reports(status)
            if run.result is not None:
                return _outcome_of(run.result, run.command)
            if status.exit_code == FENCED_EXIT:
                self._log.line("the trainer was fenced: the job or this run has ended")
                return STOPPED
            if status.state is not TrainerState.SUCCEEDED and run.attempt is not None:
                # The next attempt need not wait for the heartbeat timeout of one whose trainer was killed.
                self._client.report_attempt_lost(run.attempt)
        except RUN_ENDED_ERRORS as error:
            self._log.line(f"the control plane closed this run: {error.message}")
            return STOPPED
        except UnavailableError:
            if self._stop_at is None:
                raise
            return STOPPED
        if not run.should_continue or self._stop_at is not None:
            return STOPPED
        if status.state is TrainerState.LOST:
            raise RunLostError(status.message)
        if not status.ended:
            raise _too_long()
        self._failures = self._failures + 1 if run.checkpoint == self._checkpoint else 1
        self._checkpoint = run.checkpoint
        return None

    def _deliver_reports(self, status: TrainerStatus) -> RunStatusOut:
        """Send the trainer's pending reports and return the run's status.

        A spool that may hold the result is retried for as long as the control plane may be unavailable: closing the
        attempt would discard a finished training. Others are retried briefly, because a worker may outlive its driver.
        """
        deadline = time.monotonic() + self._settings.control_plane_timeout_seconds
        for flushes in itertools.count(1):
            pending = flush_reports(self._environment, timeout=_FLUSH_TIMEOUT_SECONDS)
            run = self._client.get_run()  # waits while the control plane is unavailable
            if run.result is not None or not pending:
                return run
            has_result = any(spool.holds_result for spool in pending) or status.state is TrainerState.SUCCEEDED
            if not has_result and flushes >= _MAX_FLUSHES:
                return run
            if flushes == _MAX_FLUSHES:
                causes = "; ".join(f"{spool.source}: {spool.cause}" for spool in pending)
                self._log.line(f"the result of the trainer waits to be stored: {causes}")
                self._log.flush()
            if time.monotonic() > min(deadline, self._stop_at or deadline):
                raise UnavailableError("the control plane does not store the result of the trainer")
            time.sleep(_POLL_SECONDS)
        raise AssertionError("unreachable: the loop has no end")

    def _upload_log(self) -> None:
        while chunk := self._launcher.read_log(self._name, self._uploaded_bytes):
            self._uploaded_bytes += len(chunk)
            self._log.add(self._decoder.decode(chunk))
        self._log.flush()


def _too_long() -> StepFailedError:
    code, message = "max_duration_exceeded", "the trainer was killed: no result long after the job's maximum duration"
    entry = CATALOGUE[code]
    return StepFailedError(message, Reason(code=code, message=message, action_by=entry.action_by, action=entry.action))


def _outcome_of(result: ResultItem, command: Command) -> str:
    if command is Command.CANCEL:
        return STOPPED  # the result is not registered
    if result.outcome is ResultStatus.FAILED:
        raise WindlassError(result.message or "training failed", context={"code": result.code})
    return SUCCEEDED if result.outcome is ResultStatus.SUCCEEDED else STOPPED
