"""``python -m windlass_pipelines.train.warm``: a trainer that starts before it has a run (docs/adr/0057).

Ray Train starts the training process at once. That process loads the libraries, and waits until this one has got a run
from the control plane and acquired an attempt of it. From then on it is like any other trainer.
"""

import json
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from windlass.kit.files import write_atomic
from windlass.runtime.client import RUN_ENDED_ERRORS
from windlass.runtime.context import (
    CONTEXT_VARIABLE,
    WARM_TRAINER_VARIABLE,
    WORKSPACE_VARIABLE,
    RunEnvironment,
    WarmTrainerContext,
)
from windlass.runtime.reporter import Reporter
from windlass.runtime.warm_trainer import wait_for_run
from windlass_pipelines.train.driver import (
    FENCED,
    LOST,
    acquire,
    fit,
    report_result,
    set_up_logging,
    start_reporter,
)
from windlass_pipelines.train.phases import STARTED_AT

_ATTEMPT_FILE = "attempt_file"
"""Setting with the path of the file that ends the wait, which holds the ``config`` of ``train.worker.train``."""
_POLL_SECONDS = 0.02
_log = logging.getLogger(__name__)


@dataclass
class _Assignment:
    """Gets the run in a thread of its own; ends the process if there is no attempt for it."""

    context: WarmTrainerContext
    context_file: Path
    attempt_file: Path
    environment: RunEnvironment | None = field(default=None, init=False)
    reporter: Reporter | None = field(default=None, init=False)

    def start(self) -> None:
        """Start to wait for the run."""
        threading.Thread(target=self._run, name="wait for a run", daemon=True).start()

    def _run(self) -> None:
        try:
            self._acquire()
        except RUN_ENDED_ERRORS as error:
            _log.error("there is no run: %s", error.message)
            os._exit(FENCED)
        except BaseException:  # noqa: BLE001 - the main thread would wait for the run for ever
            _log.exception("the run cannot be started")
            os._exit(LOST)

    def _acquire(self) -> None:
        wait_for_run(self.context).write(self.context_file)
        environment = RunEnvironment.load()
        acquired = acquire(environment)
        if isinstance(acquired, int):
            os._exit(acquired)
        self.environment, self.reporter = environment, start_reporter(environment, acquired)
        config = {**environment.variables(), "acquired": acquired.model_dump_json(), STARTED_AT: str(time.time())}
        write_atomic(self.attempt_file, json.dumps(config))


def main() -> int:
    """Wait for a run, and run one attempt of it; returns the exit code, as ``driver.main``."""
    set_up_logging()
    workspace = Path(os.environ[WORKSPACE_VARIABLE])
    assignment = _Assignment(
        context=WarmTrainerContext.load(Path(os.environ[WARM_TRAINER_VARIABLE])),
        context_file=Path(os.environ[CONTEXT_VARIABLE]),
        attempt_file=workspace / "attempt.json",
    )
    assignment.start()
    try:
        config = {_ATTEMPT_FILE: str(assignment.attempt_file)}
        result = fit(_train_when_assigned, config, assignment.context.name, 1, workspace)
    except Exception:  # noqa: BLE001 - as in ``driver.main``
        _log.exception("the attempt is lost")
        if assignment.reporter is not None:
            assignment.reporter.close()
        return LOST
    if assignment.environment is None or assignment.reporter is None:
        raise AssertionError("unreachable: the training process waits for both")
    return report_result(assignment.environment, assignment.reporter, result)


def _train_when_assigned(config: dict[str, str]) -> dict[str, Any] | None:
    """Load what every training needs, wait for the attempt, and train."""
    from windlass_pipelines.train.worker import train  # noqa: PLC0415 - only the workers load torch and transformers

    attempt_file = Path(config[_ATTEMPT_FILE])
    while not attempt_file.exists():
        time.sleep(_POLL_SECONDS)
    return train(json.loads(attempt_file.read_bytes()))


if __name__ == "__main__":
    sys.exit(main())
