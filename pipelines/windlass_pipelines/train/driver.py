"""The trainer's driver: wins the fence, runs one attempt on Ray Train, reports how it ended."""

import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from windlass.domain.errors import AttemptHeldError, FencedError, UnavailableError
from windlass.domain.reports import ClaimReply, Outcome, ResultItem
from windlass.runtime.artifacts import write_synced
from windlass.runtime.client import claim_fence
from windlass.runtime.context import CONTEXT_VARIABLE, RunContext
from windlass.runtime.draining import drain
from windlass.runtime.reach import refuses
from windlass.runtime.reporter import Reporter
from windlass_pipelines.train.outcome import Conclusion

REPORTED, LOST, FENCED = 0, 1, 3
"""Exit codes: a result is reported or in the spool; no result, another attempt may do better; stop for good."""

_RAY_TRAIN = {
    # teardown waits for one of these intervals (seconds)
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    # each of these would be one more process to start; the control plane watches, and preempts, by itself
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
}
_DRAIN_SECONDS = 20.0
_JOIN_SECONDS = 120.0
"""Joining Ray takes seconds; one that takes connections and answers nothing would be waited for without end."""
_CPUS = 0.001
"""Windlass has admitted the job already; Ray must not make it wait for logical CPUs."""
_PEER_LOST = ("[gloo/", "[/gloo", "NCCL", "DistBackendError", "DistNetworkError", "Connection reset by peer")
"""What a worker says whose peer has died."""
_log = logging.getLogger(__name__)


def main() -> int:
    """Run one attempt of the run that the environment names; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    context = RunContext.load()
    trainer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        claim = claim_fence(context, trainer)
    except FencedError as error:
        _log.warning("fenced: %s", error.message)
        return FENCED
    except (AttemptHeldError, UnavailableError) as error:
        _log.error("the fence was not won: %s", error.message)
        return LOST
    write_attempt(context, claim.attempt, trainer)
    reporter = Reporter(context, claim.attempt, "driver", on_fenced=_exit_fenced)
    reporter.event("trainer_started", f"attempt {claim.attempt} of run {context.run_number} joins Ray")
    try:
        conclusion = run_on_ray(context, claim)
    except Exception:  # noqa: BLE001 - whatever Ray raises, the attempt is lost and the step may start another
        _log.exception("the attempt is lost")
        reporter.close()
        return LOST
    return finish(context, reporter, conclusion)


def write_attempt(context: RunContext, attempt: int, trainer: str) -> None:
    """Leave word in the workspace which attempt this process is, for the step that watches it."""
    path = context.workspace / "attempt.json"
    draft = path.with_suffix(".tmp")
    write_synced(draft, f'{{"attempt": {attempt}, "trainer": "{trainer}"}}\n'.encode())
    draft.replace(path)


def finish(context: RunContext, reporter: Reporter, conclusion: Conclusion) -> int:
    """Report the result after all else of the attempt: it ends the attempt, and later reports would be refused."""
    if conclusion.fenced:
        return FENCED
    item = ResultItem(
        outcome=conclusion.outcome,
        code=conclusion.code,
        message=conclusion.message,
        artifact_prefix=conclusion.artifact_prefix,
        manifest=conclusion.manifest,
        evaluation=conclusion.evaluation,
        trained_seconds=conclusion.trained_seconds,
        time=datetime.now(UTC),
    )
    if drain(context, timeout=_DRAIN_SECONDS, but="driver"):
        reporter.put(item)
        reporter.close(timeout=30.0)
    else:
        reporter.leave(item)
    return FENCED if reporter.fenced else REPORTED


def run_on_ray(context: RunContext, claim: ClaimReply) -> Conclusion:
    """Train on the cluster at ``context.ray_address``.

    Raises:
        Exception: the cluster or a worker process is lost, so that another attempt may do better.
    """
    os.environ.update({name: value for name, value in _RAY_TRAIN.items() if name not in os.environ})
    # imported here: a trainer that is fenced must not touch Ray, and the variables above count at import
    import ray  # noqa: PLC0415 - imported when used: it is slow to load
    from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError  # noqa: PLC0415 - imported when used: it is slow to load

    from windlass_pipelines.train.ray_trainer import trainer_of  # noqa: PLC0415 - as above

    if refuses(context.ray_address):
        raise ConnectionError(f"nobody listens at Ray's address {context.ray_address}")
    with limited(_JOIN_SECONDS):
        ray.init(address=context.ray_address, log_to_driver=False, logging_level=logging.WARNING)
    resources = context.spec.resources
    gpu = ray.cluster_resources().get("GPU", 0) > 0
    storage = context.workspace / "ray"
    storage.mkdir(parents=True, exist_ok=True)
    trainer = trainer_of(
        resources.workers,
        _worker_entry,
        train_loop_config={"context": os.environ[CONTEXT_VARIABLE], "claim": claim.model_dump_json()},
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": _CPUS} | ({"GPU": resources.gpus_per_worker} if gpu else {}),
        ),
        run_config=RunConfig(
            name=f"{context.run_name}-a{claim.attempt}",
            storage_path=str(storage),
            # a new life is a new attempt that wins the fence, never a restart inside Ray
            failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
        ),
    )
    try:
        result = trainer.fit()
    except WorkerGroupError as error:
        return failure_of(error.worker_failures)
    finally:
        ray.shutdown()
    return Conclusion.model_validate(result.return_value)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Give up the attempt when what is inside takes longer: a call into a Ray that hangs heeds nothing else."""

    def give_up() -> None:
        _log.error("Ray was not joined within %g s", seconds)
        os._exit(LOST)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def failure_of(failures: dict[int, Exception]) -> Conclusion:
    """Turn an error of the training code, which would come again, into a conclusion; raise the loss of a worker.

    Raises:
        Exception: a worker was lost, or lost sight of another one.
    """
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback  # noqa: PLC0415 - as above

    for error in failures.values():
        if not isinstance(error, UserExceptionWithTraceback) or any(word in str(error) for word in _PEER_LOST):
            raise error
    rank, error = min(failures.items())
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return Conclusion(outcome=Outcome.FAILED, code="training_failed", message=f"worker {rank}: {lines[-1]}"[:4000])


def _worker_entry(config: dict[str, str]) -> dict[str, Any] | None:
    # imported here: torch and transformers belong into the workers, not into the driver
    from windlass_pipelines.train.worker import train  # noqa: PLC0415 - imported when used: it is slow to load

    return train(config)


def _exit_fenced() -> None:
    """End this process at once; Ray ends the workers of a driver that is gone."""
    _log.warning("fenced: this attempt is no longer the live one")
    os._exit(FENCED)
