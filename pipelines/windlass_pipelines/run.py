"""`python -m windlass_pipelines.run`: runs the pipeline of one run's context with kfp.local, in this process alone.

kfp.local keeps its configuration in a singleton and patches ``print`` and the root logger, so one process runs one
pipeline. What it does to the file system is kept inside the run's workspace.
"""

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kfp import local

from windlass.domain.errors import WindlassError
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.orchestration.run_end import RunEnd
from windlass.runtime.context import RunContext
from windlass_pipelines.definitions.fine_tune import fine_tune
from windlass_pipelines.steps.client import ControlPlane
from windlass_pipelines.steps.progress import LOST, STOPPED, StepNote, read_notes
from windlass_pipelines.steps.train import TRAINER_RECORD

_IMAGE = "python"
"""Steps run as processes; kfp warns about an image whose name does not have this word."""

_PATIENCE_SECONDS = 10.0


class _Terminated:
    """SIGTERM, passed on once to the steps: they are in this process's group, their trainer is told by them."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, _number: int, _frame: Any) -> None:
        if not self.seen:
            self.seen = True
            os.killpg(os.getpgrp(), signal.SIGTERM)


def main() -> int:
    """Run the pipeline and leave ``run.json``; 1 when it failed or was lost."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    terminated = _Terminated()
    signal.signal(signal.SIGTERM, terminated)
    context = RunContext.load()
    context.workspace.mkdir(parents=True, exist_ok=True)
    error = ""
    with _playground(context.workspace) as playground:
        try:
            _run_pipeline(context, playground)
        except Exception as failure:  # noqa: BLE001 - whatever kfp raises is this run's failure
            error = f"{type(failure).__name__}: {failure}"
    _end_what_is_left(context)
    notes = read_notes(context.workspace)
    end = verdict(notes, error=error, terminated=terminated.seen)
    end.save(context.workspace)
    _tell_of_silent_steps(context, notes)
    return 1 if end.state in {"failed", "lost"} else 0


def verdict(notes: Mapping[str, StepNote], *, error: str, terminated: bool) -> RunEnd:
    """Decide how the run ended from what its steps noted.

    Args:
        notes: of the steps that began.
        error: what running the pipeline raised, or empty.
        terminated: whether SIGTERM was received.
    """
    if not error and "register" in notes and all(note.state == "succeeded" for note in notes.values()):
        return RunEnd(state="succeeded")
    if terminated or any(note.outcome == STOPPED for note in notes.values()):
        return RunEnd(state="stopped")
    for name, note in notes.items():
        if note.outcome == LOST:
            return RunEnd(state="lost", message=f"{name}: {note.message}")
        if note.state == "failed":
            return RunEnd(state="failed", message=f"{name}: {note.message}")
        if note.state == "running":
            return RunEnd(state="failed", message=f"{name}: its process ended without a word")
    return RunEnd(state="failed", message=error or "the pipeline ended before its steps did their work")


def _run_pipeline(context: RunContext, playground: Path) -> None:
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(playground / "outputs"),
        workspace_root=str(playground / "workspace"),  # kfp deletes it
        raise_on_error=True,
        enable_caching=False,
    )
    fine_tune(_IMAGE)(deploy=context.spec.deploy is not None)


@contextmanager
def _playground(workspace: Path) -> Iterator[Path]:
    """Yield a folder for what kfp writes, and make ``python3`` mean this interpreter; leave nothing behind.

    kfp replaces the word python3 in a step's whole command, arguments and paths included, by ``sys.executable``,
    unquoted in a shell script. So it is given a name that changes nothing, found first in ``PATH``.
    """
    playground = workspace / "kfp"
    shutil.rmtree(playground, ignore_errors=True)
    (playground / "bin").mkdir(parents=True)
    (playground / "tmp").mkdir()
    program = playground / "bin" / "python3"
    executable, before = sys.executable, dict(os.environ)
    quoted = executable.replace("'", "'\\''")
    program.write_text(f"#!/bin/sh\nexec '{quoted}' \"$@\"\n", encoding="utf-8")
    program.chmod(0o700)
    os.environ["PATH"] = f"{program.parent}{os.pathsep}{before.get('PATH', os.defpath)}"
    os.environ["TMPDIR"] = str(playground / "tmp")  # each step leaves its program in a temporary folder
    sys.executable = "python3"
    try:
        yield playground
    finally:
        sys.executable = executable
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(playground, ignore_errors=True)


def _end_what_is_left(context: RunContext) -> None:
    """End a trainer whose step was killed: a run that has ended has no processes."""
    trainer = ProcessRecord.load(context.workspace / TRAINER_RECORD)
    if trainer is not None:
        processes.kill(trainer)


def _tell_of_silent_steps(context: RunContext, notes: Mapping[str, StepNote]) -> None:
    """A step that was killed cannot say so itself; ``run.json`` says it too, so little patience is enough."""
    silent = [name for name, note in notes.items() if note.state == "running"]
    with ControlPlane(context, _PATIENCE_SECONDS) as plane, suppress(WindlassError):
        for name in silent:
            plane.step(name, "failed", "its process ended without a word")


if __name__ == "__main__":
    sys.exit(main())
