"""A trainer without Ray: the product's training, checkpoints and reports with one worker in a process of its own.

The processes are forked from one that has imported the training stack, which takes longer than the training.
"""

import multiprocessing
import sys

import torch
from tests.failpoints import arm

from windlass.runtime.client import acquire_attempt
from windlass.runtime.context import RunEnvironment
from windlass.runtime.reporter import Reporter, ReporterTimings
from windlass.storage.file_transfer import FileTransfer
from windlass_pipelines.train import trainer
from windlass_pipelines.train.attempt import AttemptRun
from windlass_pipelines.train.distributed import DistributedContext
from windlass_pipelines.train.driver import report_result
from windlass_pipelines.train.worker import run_to_result

_EVERY_STEP = ReporterTimings(interval=0.0, heartbeat=0.1)
_TIMEOUT_SECONDS = 120.0
_PROCESSES = multiprocessing.get_context("forkserver")
_IMPORTED_IN_TRAINING = (
    *("peft", "transformers.models.bert.modeling_bert", "windlass_pipelines.train.methods.lora"),
    *("sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.metrics", "sklearn.pipeline"),
)
_PROCESSES.set_forkserver_preload([__name__, *_IMPORTED_IN_TRAINING])


def train_in_process(environment: RunEnvironment, actions: str = "") -> int:
    """Train with armed failpoints and return the exit code of the trainer, negative for a signal."""
    process = _PROCESSES.Process(target=_train, args=(environment, actions))
    process.start()
    process.join(_TIMEOUT_SECONDS)
    code = process.exitcode
    process.kill()
    assert code is not None, "the training takes too long"
    return code


def _train(environment: RunEnvironment, actions: str) -> None:
    arm(actions)
    torch.set_num_threads(1)
    trainer._LOG_INTERVAL_SECONDS = 0.0  # the training is shorter than the interval
    acquired = acquire_attempt(environment, multiprocessing.current_process().name)
    worker = Reporter(environment, acquired.attempt, "rank0", timings=_EVERY_STEP)
    attempt = AttemptRun(environment, acquired, DistributedContext(), worker, FileTransfer(), lambda module: module)
    result = run_to_result(attempt)
    worker.close()
    sys.exit(report_result(environment, Reporter(environment, acquired.attempt, "driver"), result))
