"""The trainer's driver process: acquires an attempt, runs it on Ray Train, reports the result."""

import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from windlass.domain.errors import AttemptActiveError, FencedError, UnavailableError
from windlass.domain.reports import AcquireAttemptReply, ResultItem, ResultStatus
from windlass.kit.tracebacks import summarize_traceback
from windlass.runtime.client import acquire_attempt
from windlass.runtime.context import RAY_ADDRESS_VARIABLE, RunEnvironment
from windlass.runtime.flush import flush_reports
from windlass.runtime.net import is_connection_refused
from windlass.runtime.reporter import Reporter
from windlass_pipelines.train.phases import STARTED_AT
from windlass_pipelines.train.result import AttemptResult

REPORTED, LOST, FENCED = 0, 1, 3
"""Exit codes: result reported or spooled; no result, another attempt may succeed; fenced, do not restart."""

_RAY_TRAIN_ENVIRONMENT = {
    # the shutdown waits for one interval (seconds)
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    # each of these starts one more process; the control plane has its own monitoring and preemption
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
}
_FLUSH_SECONDS, _CLOSE_SECONDS = 20.0, 30.0
_JOIN_SECONDS = 120.0
"""Timeout of ``ray.init``, which otherwise blocks forever when Ray accepts connections and never replies."""
_LOGICAL_CPUS = 0.001
"""The job is already admitted; Ray must not queue it for logical CPUs."""
_PEER_FAILURE_MARKERS = ("[gloo/", "[/gloo", "NCCL", "DistBackendError", "DistNetworkError", "Connection reset by peer")
"""Parts of the error messages of a worker whose peer died."""
_IMPORTED_AT = time.time()
_log = logging.getLogger(__name__)


def main() -> int:
    """Run one attempt of the run in the environment's run context; returns the exit code."""
    set_up_logging()
    environment = RunEnvironment.load()
    acquired = acquire(environment)
    if isinstance(acquired, int):
        return acquired
    reporter = start_reporter(environment, acquired)
    try:
        result = run_on_ray(environment, acquired)
    except Exception:  # noqa: BLE001 - any error of Ray loses the attempt; the step may start another
        _log.exception("the attempt is lost")
        reporter.close()
        return LOST
    return report_result(environment, reporter, result)


def set_up_logging() -> None:
    """Log to stderr, which Ray adds to the log of the job."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("httpx2").setLevel(logging.WARNING)


def acquire(environment: RunEnvironment) -> AcquireAttemptReply | int:
    """Acquire an attempt of the run; returns the exit code of this process when there is none for it."""
    trainer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        return acquire_attempt(environment, trainer)
    except FencedError as error:
        _log.warning("fenced: %s", error.message)
        return FENCED
    except (AttemptActiveError, UnavailableError) as error:
        _log.error("no attempt was acquired: %s", error.message)
        return LOST


def start_reporter(environment: RunEnvironment, acquired: AcquireAttemptReply) -> Reporter:
    """Return the reporter of the driver, which ends the process when it is fenced."""
    reporter = Reporter(environment, acquired.attempt, "driver", on_fenced=_exit_fenced)
    number = environment.context.identity.number
    reporter.event("trainer_started", f"attempt {acquired.attempt} of run {number} connects to Ray")
    return reporter


def report_result(environment: RunEnvironment, reporter: Reporter, result: AttemptResult) -> int:
    """Report the result after all other reports of the attempt: a result closes the attempt for further reports.

    Returns ``LOST`` if the result was not accepted and ends with this process.
    """
    if result.fenced:
        return FENCED
    item = ResultItem(
        outcome=result.outcome,
        code=result.code,
        message=result.message,
        manifest=result.manifest,
        evaluation=result.evaluation,
        warnings=result.warnings,
        trained_seconds=result.trained_seconds,
        phases=result.phases,
        time=datetime.now(UTC),
    )
    if flush_reports(environment, timeout=_FLUSH_SECONDS, exclude="driver"):
        reporter.close_with(item)
    else:
        reporter.put(item)
        drain = environment.drain_seconds
        delivered = reporter.close(timeout=_CLOSE_SECONDS if drain is None else drain)
        if drain is not None and not delivered and not reporter.fenced:
            return LOST
    return FENCED if reporter.fenced else REPORTED


def run_on_ray(environment: RunEnvironment, acquired: AcquireAttemptReply) -> AttemptResult:
    """Train on the Ray whose address the launcher has set. Raises as ``fit``."""
    context = environment.context
    config = {**environment.variables(), "acquired": acquired.model_dump_json(), STARTED_AT: str(_IMPORTED_AT)}
    name = f"{context.identity.name}-a{acquired.attempt}"
    return fit(_train_loop_per_worker, config, name, context.inputs.world_size, environment.workspace)


def fit(
    train_loop: Callable[[dict[str, str]], dict[str, Any] | None],
    config: dict[str, str],
    name: str,
    world_size: int,
    workspace: Path,
) -> AttemptResult:
    """Run a training function with ``config`` in ``world_size`` processes of Ray Train.

    Raises:
        Exception: the cluster or a worker process is lost; another attempt may succeed.
    """
    os.environ.update({name: value for name, value in _RAY_TRAIN_ENVIRONMENT.items() if name not in os.environ})
    # imported here: a fenced trainer must not touch Ray, and Ray reads the variables above at import
    import ray  # noqa: PLC0415 - imported when used: it is slow to load
    from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError  # noqa: PLC0415 - imported when used: it is slow to load

    from windlass_pipelines.train.ray_trainer import build_trainer  # noqa: PLC0415 - as above

    address = os.environ[RAY_ADDRESS_VARIABLE]
    if is_connection_refused(address):
        raise ConnectionError(f"connection refused by Ray at {address}")
    with exit_on_timeout(_JOIN_SECONDS):
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    gpu = ray.cluster_resources().get("GPU", 0) > 0
    storage = workspace / "ray"
    storage.mkdir(parents=True, exist_ok=True)
    trainer = build_trainer(
        world_size,
        train_loop,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=world_size,
            use_gpu=gpu,
            resources_per_worker={"CPU": _LOGICAL_CPUS} | ({"GPU": 1} if gpu else {}),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage),
            # the train step restarts the trainer as a new attempt; Ray must not restart workers itself
            failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
        ),
    )
    try:
        result = trainer.fit()
    except WorkerGroupError as error:
        return result_from_failures(error.worker_failures)
    finally:
        ray.shutdown()
    return AttemptResult.model_validate(result.return_value)


@contextmanager
def exit_on_timeout(seconds: float) -> Iterator[None]:
    """Exit the process with ``LOST`` when the block takes longer: calls into a hanging Ray ignore signals."""

    def exit_lost() -> None:
        _log.error("ray.init did not return within %g s", seconds)
        os._exit(LOST)

    timer = threading.Timer(seconds, exit_lost)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def result_from_failures(failures: dict[int, Exception]) -> AttemptResult:
    """Return a failed result for an error of the training code, which another attempt would repeat.

    Raises:
        Exception: a worker was lost, or lost its connection to a peer.
    """
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback  # noqa: PLC0415 - as above

    own_errors: dict[int, Exception] = {}
    for rank, error in failures.items():
        if not isinstance(error, UserExceptionWithTraceback):
            raise error
        if not any(marker in str(error) for marker in _PEER_FAILURE_MARKERS):
            own_errors[rank] = error
    if not own_errors:
        raise next(iter(failures.values()))
    # a worker whose own code failed disconnects its peers; its error is the cause, also in the next attempt
    rank, error = min(own_errors.items())
    lines = str(error).strip().splitlines() or [type(error).__name__]
    message = f"worker {rank}: {summarize_traceback(str(error)) or lines[-1]}"[:4000]
    return AttemptResult(outcome=ResultStatus.FAILED, code="training_failed", message=message)


def _train_loop_per_worker(config: dict[str, str]) -> dict[str, Any] | None:
    from windlass_pipelines.train.worker import train  # noqa: PLC0415 - only the workers load torch and transformers

    return train(config)


def _exit_fenced() -> None:
    """Exit at once; Ray terminates the workers of an exited driver."""
    _log.warning("fenced: this attempt is no longer the active one")
    os._exit(FENCED)
