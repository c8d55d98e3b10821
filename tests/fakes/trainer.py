"""A trainer that trains nothing: it speaks the real protocol, and dies or hangs as its arguments say.

``python trainer.py BEHAVIOUR...``: one behaviour per life, the last one repeats. ``told`` waits for one in the file
``told`` of the workspace.
"""

import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from windlass.domain.errors import AttemptHeldError, FencedError
from windlass.domain.reports import Command, EventItem, Outcome, ResultItem
from windlass.runtime.artifacts import commit, seal, staging
from windlass.runtime.client import claim_fence
from windlass.runtime.context import RunContext
from windlass.runtime.reporter import Pace, Reporter


def main() -> int:
    context = RunContext.load()
    behaviours, life = sys.argv[1:], _count_life(context.workspace / "lives")
    behaviour = behaviours[min(life, len(behaviours)) - 1]
    sys.stdout.write(f"stand-in trainer, life {life}: {behaviour}\n")
    if behaviour == "die-early":
        return 1
    name = f"stand-in-{os.getpid()}"
    try:
        attempt = claim_fence(context, name, patience=20, pause=0.1).attempt
    except (FencedError, AttemptHeldError):
        return 3
    note = context.workspace / "attempt.tmp"
    note.write_text(json.dumps({"attempt": attempt, "trainer": name}))
    note.replace(context.workspace / "attempt.json")
    reporter = Reporter(context, attempt, "driver", pace=Pace(interval=0.05, heartbeat=0.1))
    reporter.put(EventItem(code="training_started", message="it began", time=_now()))
    if behaviour == "told":
        behaviour = _wait_to_be_told(context.workspace / "told", reporter)
    outcome = _train(behaviour, reporter)
    result = _result(context, attempt, outcome)
    reporter.put(result)
    reporter.close(timeout=1 if behaviour == "spool" else 10)
    return 0


def _count_life(path: Path) -> int:
    with path.open("a") as stream:
        stream.write("x")
    return path.stat().st_size


def _wait_to_be_told(path: Path, reporter: Reporter) -> str:
    while not path.exists():
        if reporter.command is not Command.CONTINUE:
            return "obey"
        time.sleep(0.02)
    return path.read_text()


def _train(behaviour: str, reporter: Reporter) -> Outcome:
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
    if behaviour in {"hang", "stubborn", "orphan", "obey"}:
        while reporter.command is Command.CONTINUE and not reporter.fenced:
            time.sleep(0.02)
        return Outcome.STOPPED
    return Outcome.FAILED if behaviour == "fail" else Outcome.SUCCEEDED


def _result(context: RunContext, attempt: int, outcome: Outcome) -> ResultItem:
    if outcome is not Outcome.SUCCEEDED:
        return ResultItem(outcome=outcome, code="told", message="the loss is not a number", time=_now())
    prefix = f"{context.artifact_prefix}/{attempt}"
    with staging(context.store_root / prefix) as folder:
        (folder / "model.safetensors").write_bytes(b"weights" * 100)
        manifest = seal(folder)
        commit(folder, context.store_root / prefix)
    return ResultItem(outcome=outcome, artifact_prefix=prefix, manifest=manifest, trained_seconds=1.0, time=_now())


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
