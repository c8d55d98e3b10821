"""The training function of every Ray Train worker: sets up its rank, runs the attempt, returns the result."""

import logging
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

import ray.train
import torch
from torch import nn

from windlass.domain.reports import AcquireAttemptReply, ResultStatus
from windlass.kit.tracebacks import summarize_traceback
from windlass.runtime.context import RunEnvironment
from windlass.runtime.reporter import Reporter
from windlass.storage.transfers import folder_transfer
from windlass_pipelines.train.attempt import AttemptRun, torch_threads
from windlass_pipelines.train.distributed import DistributedContext
from windlass_pipelines.train.logs import capture_output
from windlass_pipelines.train.phases import STARTED_AT
from windlass_pipelines.train.result import AttemptFencedError, AttemptResult, StoppedError, TrainingError
from windlass_pipelines.train.trainer import NullReporter, ProgressReporter

_log = logging.getLogger(__name__)
_CLOSE_SECONDS = 10.0
_MAX_START_SECONDS = 3600.0
"""More is the difference of two clocks."""
_DETERMINISTIC = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError, RuntimeError)
"""Errors that the same data and settings cause again, unless they come from a device or from a connection."""
_TRANSIENT_MARKERS = ("cuda", "cudnn", "cublas", "nccl", "gloo", "distbackend", "distnetwork", "connection")
_OUT_OF_MEMORY_MARKERS = ("out of memory", "can't allocate memory", "not enough memory")


def train(config: dict[str, str]) -> dict[str, Any] | None:
    """Run one attempt. ``config`` has the variables of the run environment and the acquired attempt; none is a secret.

    Returns:
        On rank 0 a dumped ``AttemptResult``, else None.
    """
    environment = RunEnvironment.load(config)
    acquired = AcquireAttemptReply.model_validate_json(config["acquired"])
    torch.set_num_threads(torch_threads(environment))
    train_context = ray.train.get_context()
    dist = DistributedContext(
        train_context.get_world_rank(), train_context.get_world_size(), _device(train_context.get_local_rank())
    )
    with ExitStack() as stack:
        reporter: ProgressReporter = NullReporter()
        if dist.is_main:
            rank0 = Reporter(environment, acquired.attempt, "rank0")
            drain = environment.drain_seconds
            stack.callback(rank0.close, timeout=_CLOSE_SECONDS if drain is None else drain)
            stack.enter_context(capture_output(rank0.log))
            reporter = cast("ProgressReporter", rank0)
        attempt = AttemptRun(environment, acquired, dist, reporter, folder_transfer(environment), _wrap_for(dist))
        attempt.phases.add_start(_seconds_since(config.get(STARTED_AT)))
        result = run_to_result(attempt)
    result = result.model_copy(update={"phases": attempt.phases.seconds()})
    return result.model_dump(mode="json") if dist.is_main else None


def _seconds_since(started_at: str | None) -> float:
    """Return the time since the driver began to start, by the clocks of both machines."""
    return 0.0 if started_at is None else min(max(0.0, time.time() - float(started_at)), _MAX_START_SECONDS)


def run_to_result(attempt: AttemptRun) -> AttemptResult:
    """Run the attempt and return its result; expected errors become results, others are raised."""
    try:
        return attempt.run()
    except AttemptFencedError:
        return AttemptResult(outcome=ResultStatus.STOPPED, code="fenced", fenced=True)
    except StoppedError as error:
        _log.info("stopped: %s", error.code)
        return AttemptResult(outcome=ResultStatus.STOPPED, code=error.code, trained_seconds=attempt.trained_seconds)
    except TrainingError as error:
        _log.error("%s: %s", error.code, error.message)
        return _failed_result(attempt, error.code, error.message)
    except Exception as error:  # noqa: BLE001 - _unexpected_result raises what another attempt may survive
        return _unexpected_result(attempt, error)


def _unexpected_result(attempt: AttemptRun, error: Exception) -> AttemptResult:
    """Return a failed result for an error that another attempt would repeat.

    With several workers only a lack of memory is returned: the others wait in a collective operation, so the error must
    end the worker group; ``driver.result_from_failures`` then makes the result.

    Raises:
        Exception: ``error``, when another attempt may succeed.
    """
    _log.exception("training failed")
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(marker in text.lower() for marker in _OUT_OF_MEMORY_MARKERS)
    ):
        hint = f"a smaller batch_size or max_length may fit: {str(error)[:500]}"
        return _failed_result(attempt, "out_of_memory", hint)
    transient = any(marker in text.lower() for marker in _TRANSIENT_MARKERS)
    if transient or not isinstance(error, _DETERMINISTIC) or attempt.world_size > 1:
        raise error
    frame = summarize_traceback("".join(traceback.format_exception(error)))
    return _failed_result(attempt, "training_failed", f"{text} ({frame.frame})" if frame else text)


def _failed_result(attempt: AttemptRun, code: str, message: str) -> AttemptResult:
    seconds = attempt.trained_seconds
    return AttemptResult(outcome=ResultStatus.FAILED, code=code, message=message[:4000], trained_seconds=seconds)


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)  # otherwise every process of the node also occupies memory of its first GPU
    return device


def _wrap_for(dist: DistributedContext) -> Callable[[nn.Module], nn.Module]:
    if dist.world_size == 1:
        return lambda module: module
    from ray.train.torch import prepare_model  # noqa: PLC0415 - slow to load, and a single worker does not need it

    return lambda module: cast("nn.Module", prepare_model(module, move_to_device=dist.device, parallel_strategy="ddp"))
