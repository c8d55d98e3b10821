"""A trainer that trains nothing: it speaks the real protocol and succeeds, dies or hangs as its arguments select.

``python stub_trainer.py BEHAVIOUR...``: one behaviour per start, the last one repeats. ``from-file`` waits for one in
the file ``result`` of the workspace.
"""

import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from windlass.domain.artifacts import Manifest
from windlass.domain.errors import AttemptActiveError, FencedError
from windlass.domain.reports import CheckpointItem, Command, EventItem, ResultItem, ResultStatus
from windlass.runtime.client import acquire_attempt
from windlass.runtime.context import RunEnvironment
from windlass.runtime.reporter import Reporter, ReporterTimings
from windlass.storage.file_transfer import FileTransfer


def main() -> int:
    environment = RunEnvironment.load()
    behaviours, start = sys.argv[1:], _count_start(environment.workspace / "trainer_starts")
    behaviour = behaviours[min(start, len(behaviours)) - 1]
    sys.stdout.write(f"stub trainer, start {start}: {behaviour}\n")
    if behaviour == "die-early":
        return 1
    name = f"stub-{os.getpid()}"
    try:
        attempt = acquire_attempt(environment, name, timeout=300, retry_interval=0.1).attempt
    except (FencedError, AttemptActiveError):
        return 3
    reporter = Reporter(environment, attempt, "driver", timings=ReporterTimings(interval=0.05, heartbeat=0.1))
    reporter.put(EventItem(code="training_started", message="it began", time=_now()))
    if behaviour == "progress":  # and die
        reporter.put(CheckpointItem(step=start, manifest=Manifest(files={}), metrics={}, time=_now()))
        behaviour = "die-late"
    if behaviour == "from-file":
        behaviour = _read_behaviour(environment.workspace / "result", reporter)
    outcome = _train(behaviour, reporter)
    result = _result(environment, attempt, outcome)
    reporter.put(result)
    reporter.close(timeout=1 if behaviour == "spool" else 10)
    return 0


def _count_start(path: Path) -> int:
    with path.open("a") as stream:
        stream.write("x")
    return path.stat().st_size


def _read_behaviour(path: Path, reporter: Reporter) -> str:
    while not path.exists():
        if reporter.command is not Command.CONTINUE:
            return "stop"
        time.sleep(0.02)
    return path.read_text()


def _train(behaviour: str, reporter: Reporter) -> ResultStatus:
    if behaviour == "die-late":
        reporter.close()
    if behaviour in {"die", "die-late"}:
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "fenced":
        os._exit(3)
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour == "orphan" and os.fork() == 0:
        os.setsid()
        signal.pause()
    if behaviour in {"hang", "stubborn", "orphan", "stop"}:
        while reporter.command is Command.CONTINUE and not reporter.fenced:
            time.sleep(0.02)
        return ResultStatus.STOPPED
    return ResultStatus.FAILED if behaviour == "fail" else ResultStatus.SUCCEEDED


def _result(environment: RunEnvironment, attempt: int, outcome: ResultStatus) -> ResultItem:
    if outcome is not ResultStatus.SUCCEEDED:
        return ResultItem(outcome=outcome, code="stub_failure", message="the loss is not a number", time=_now())
    folder = environment.workspace / f"artifact-{attempt}"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    manifest = FileTransfer().publish(folder, environment.context.locations.artifact(attempt))
    return ResultItem(
        outcome=outcome,
        manifest=manifest,
        evaluation={"perplexity": 2.0},
        trained_seconds=1.0,
        time=_now(),
    )


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
