"""The train step: keeps a trainer alive until it has a result, is told to stop, or has died too often."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from windlass.domain.errors import UnavailableError, WindlassError
from windlass.domain.reports import Outcome, ResultItem
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.runtime.context import RunContext
from windlass.runtime.draining import drain
from windlass.runtime.reach import refuses
from windlass_pipelines.steps.client import RUN_IS_OVER, ControlPlane
from windlass_pipelines.steps.progress import STOPPED, RunLostError, StepLog, step
from windlass_pipelines.steps.settings import StepSettings

SUCCEEDED = "succeeded"
TRAINER_RECORD = "trainer.json"
"""File in the workspace: the ``ProcessRecord`` of the trainer."""
ATTEMPT_FILE = "attempt.json"
"""File in the workspace that the trainer writes once it won the fence: ``{"attempt": n, "trainer": name}``."""
FENCED_EXIT = 3
"""Exit code of a trainer that was refused: the job or the run has ended."""
_LOOK_SECONDS = 0.1
_RAY_LOOK_SECONDS = 1.0
_RAY_REFUSALS = 3
"""So often in a row must Ray's address refuse before Ray counts as gone."""
_SHIP_SECONDS = 1.0
_DRAIN_SECONDS = 5.0
_DRAIN_TRIES = 6
_STOPPED_PATIENCE = 5.0
_PIECE = 1 << 20


def train() -> str:
    """Run the step; return ``succeeded`` or ``stopped``."""
    context, settings = RunContext.load(), StepSettings.load()
    with ControlPlane(context, settings.patience) as plane, step("train", context, plane) as progress:
        progress.outcome = TrainStep(context, settings, plane, progress.log).run()
        return progress.outcome


class TrainStep:
    """One run's trainer over its lives. Takes SIGTERM while ``run`` runs, and passes it on."""

    def __init__(self, context: RunContext, settings: StepSettings, plane: ControlPlane, log: StepLog) -> None:
        self._context = context
        self._settings = settings
        self._plane = plane
        self._log = log
        self._workspace = context.workspace
        self._output = self._workspace / "trainer.log"
        self._shipped = 0
        self._stop_at: float | None = None
        self._trainer: ProcessRecord | None = None

    def run(self) -> str:
        """Supervise until the end.

        Raises:
            WindlassError: training failed; the message says why.
            RunLostError: Ray is gone. Its successor has another address, which only another run is told.
        """
        before = signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            return self._run()
        finally:
            if self._trainer is not None:
                processes.kill(self._trainer)
            signal.signal(signal.SIGTERM, before)

    def _run(self) -> str:
        end = None
        for life in range(1, self._settings.lives + 1):
            if life > 1:
                self._pause(life)
            if self._stop_at is not None:
                return STOPPED
            self._require_ray()
            end = self._live(life)
            if (outcome := self._outcome(end)) is not None:
                return outcome
        raise WindlassError(
            f"the trainer died {self._settings.lives} times without a result, the last time with {end}",
            hint="its last words are in the log of the step",
        )

    def _require_ray(self) -> None:
        for _ in range(_RAY_REFUSALS):
            if not refuses(self._context.ray_address):
                return
            time.sleep(_LOOK_SECONDS)
        raise RunLostError(f"Ray at {self._context.ray_address} is gone")

    def _on_sigterm(self, _number: int, _frame: Any) -> None:
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self._settings.stop_grace
            self._plane.hurry(_STOPPED_PATIENCE)
            if self._trainer is not None:
                processes.send(self._trainer, signal.SIGTERM)

    def _pause(self, life: int) -> None:
        pauses = self._settings.pauses or (0.0,)
        until = time.monotonic() + pauses[min(life - 2, len(pauses) - 1)]
        while time.monotonic() < until and self._stop_at is None:
            time.sleep(_LOOK_SECONDS)

    def _live(self, life: int) -> "_End":
        """Start the trainer, wait for its end and clear what it left."""
        (self._workspace / ATTEMPT_FILE).unlink(missing_ok=True)
        claim = processes.claim()
        # Not the runner's TMPDIR: it is deep in the workspace, too long for the path of a socket.
        environment = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
        trainer = processes.start(self._settings.trainer, environment=environment, log=self._output, record=claim)
        self._trainer = trainer
        trainer.save(self._workspace / TRAINER_RECORD)
        if self._stop_at is not None:  # SIGTERM came before there was anybody to pass it to
            processes.send(trainer, signal.SIGTERM)
        self._log.line(f"trainer started (life {life} of {self._settings.lives}, pid {trainer.pid})")
        end = self._wait(trainer)
        processes.kill(trainer)
        self._ship_output()
        self._log.line(f"trainer ended with {end}")
        return end

    def _wait(self, trainer: ProcessRecord) -> "_End":
        """Wait for the trainer's end, but not longer than it may take, nor for one whose Ray is gone."""
        limit = time.monotonic() + self._context.spec.max_duration_seconds + self._settings.hang_grace
        shipped = looked = time.monotonic()
        refusals = 0
        while (code := processes.exit_code(trainer)) is None:
            now = time.monotonic()
            if now > min(limit, self._stop_at or limit):
                return _End(None, "its time over")
            if now > shipped + _SHIP_SECONDS:
                self._ship_output()
                shipped = now
            if now > looked + _RAY_LOOK_SECONDS:
                refusals = refusals + 1 if refuses(self._context.ray_address) else 0
                looked = now
            if refusals == _RAY_REFUSALS:  # calls into a Ray that is gone wait for minutes, deaf to signals
                return _End(None, "its Ray gone")
            time.sleep(_LOOK_SECONDS)
        return _End(code)

    def _outcome(self, end: "_End") -> str | None:
        """Decide what follows from the trainer's end; None: start it again."""
        try:
            self._drain()
            view = self._plane.look()
            if view.result is not None:
                return _read(view.result)
            if end.code == FENCED_EXIT:
                self._log.line("the trainer was fenced: the job or this run has ended")
                return STOPPED
            self._report_loss()
        except RUN_IS_OVER as error:
            self._log.line(f"the control plane has closed this run: {error.message}")
            return STOPPED
        except UnavailableError:
            if self._stop_at is None:
                raise
            return STOPPED
        if not view.wanted or self._stop_at is not None:
            return STOPPED
        self._require_ray()
        if end.code is None:
            raise WindlassError("the trainer was ended: far beyond the job's maximum duration it still had no result")
        return None

    def _drain(self) -> None:
        """Send what the trainer could not; a journal may be held for a moment by a worker that outlives its driver."""
        for _ in range(_DRAIN_TRIES):
            if drain(self._context, timeout=_DRAIN_SECONDS):
                return
            self._plane.look()  # waits for a control plane that is away
            time.sleep(_LOOK_SECONDS)

    def _report_loss(self) -> None:
        """Close the attempt of the trainer that died, so that the next one need not wait for the lease to run out."""
        with contextlib.suppress(FileNotFoundError):
            attempt = _Attempt.model_validate_json((self._workspace / ATTEMPT_FILE).read_bytes())
            self._plane.lost(attempt.attempt, attempt.trainer)

    def _ship_output(self) -> None:
        with contextlib.suppress(FileNotFoundError), self._output.open("rb") as stream:
            stream.seek(self._shipped)
            while piece := stream.read(_PIECE):
                self._shipped += len(piece)
                self._log.add(piece.decode(errors="replace"))
                self._log.ship()


@dataclass(frozen=True)
class _End:
    """How a trainer ended: its exit code, minus a signal's number, or None when it was ended, and why."""

    code: int | None
    why: str = ""

    def __str__(self) -> str:
        if self.code is None:
            return self.why
        return f"exit code {self.code}" if self.code >= 0 else f"signal {-self.code} ({signal.strsignal(-self.code)})"


class _Attempt(BaseModel):
    attempt: int
    trainer: str


def _read(result: ResultItem) -> str:
    if result.outcome is Outcome.FAILED:
        raise WindlassError(result.message or "training failed", facts={"code": result.code})
    return SUCCEEDED if result.outcome is Outcome.SUCCEEDED else STOPPED
