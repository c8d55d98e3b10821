"""How the end of an attempt maps to a result, an exit code or a lost attempt."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ray.exceptions import RayActorError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError
from tests.factories.run_contexts import run_context, run_environment
from tests.factories.served_control_plane import ServedControlPlane
from tests.factories.training_runs import job_spec

from windlass.domain.artifacts import Manifest
from windlass.domain.reports import ResultItem, ResultStatus
from windlass.runtime.context import RunEnvironment
from windlass.runtime.flush import flush_reports
from windlass.runtime.reporter import Reporter, ReporterTimings
from windlass_pipelines.train.attempt import torch_threads
from windlass_pipelines.train.driver import (
    FENCED,
    LOST,
    REPORTED,
    report_result,
    result_from_failures,
)
from windlass_pipelines.train.logs import capture_output
from windlass_pipelines.train.result import AttemptFencedError, AttemptResult, StoppedError, TrainingError
from windlass_pipelines.train.worker import run_to_result

FAST = ReporterTimings(interval=0.02, heartbeat=0.05, backoff=0.1)


class FailingAttempt:
    """An attempt that ends with an error after 7 seconds of training."""

    trained_seconds = 7.0

    def __init__(self, error: Exception, world_size: int = 1) -> None:
        self.error, self.world_size = error, world_size

    def run(self) -> AttemptResult:
        raise self.error


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (TrainingError("unknown_label", "label 'x'"), ResultStatus.FAILED, "unknown_label"),
        (StoppedError("preempted"), ResultStatus.STOPPED, "preempted"),
        (AttemptFencedError(), ResultStatus.STOPPED, "fenced"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), ResultStatus.FAILED, "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), ResultStatus.FAILED, "out_of_memory"),
        (MemoryError(), ResultStatus.FAILED, "out_of_memory"),
        (RuntimeError("The expanded size of the tensor (1024) must match"), ResultStatus.FAILED, "training_failed"),
        (IndexError("index out of range in self"), ResultStatus.FAILED, "training_failed"),
        (KeyError("surprise"), ResultStatus.FAILED, "training_failed"),
    ],
)
def test_an_expected_error_becomes_a_result(error: Exception, outcome: ResultStatus, code: str) -> None:
    result = run_to_result(FailingAttempt(error))  # type: ignore[arg-type]  # has what is used of a run
    assert (result.outcome, result.code) == (outcome, code)
    assert result.fenced == (code == "fenced")
    assert code == "fenced" or result.trained_seconds == 7.0


def test_a_pod_sets_the_number_of_threads_and_a_machine_has_two_slots(tmp_path: Path) -> None:
    run = run_environment(tmp_path, run_context(tmp_path, job_spec(resources={"gpus_per_worker": 2})))
    assert torch_threads(run) == max(1, len(os.sched_getaffinity(0)) // 2 * 2)
    assert torch_threads(replace(run, cpu_threads=7)) == 7


def test_the_processes_of_several_gpus_share_the_cpus_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(32)))
    spec = job_spec(resources={"gpus_per_worker": 8})
    assert torch_threads(run_environment(tmp_path, run_context(tmp_path, spec, has_gpus=True))) == 4
    assert torch_threads(run_environment(tmp_path, run_context(tmp_path, job_spec(), has_gpus=True))) == 16


def test_the_message_of_a_failed_attempt_is_the_error() -> None:
    result = run_to_result(FailingAttempt(IndexError("index out of range in self")))  # type: ignore[arg-type]  # as above
    pattern = r"IndexError: index out of range in self \(train/test_attempt_results.py:[0-9]+ in run\)"
    assert re.fullmatch(pattern, result.message), "the error, and the last frame of its traceback"


@pytest.mark.parametrize(
    ("error", "workers"),
    [
        (OSError("No space left on device"), 1),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), 1),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"), 2),
        (IndexError("index out of range in self"), 2),
    ],
)
def test_an_error_that_another_attempt_may_survive_or_that_must_end_the_group_is_raised(
    error: Exception, workers: int
) -> None:
    with pytest.raises(type(error)):
        run_to_result(FailingAttempt(error, workers))  # type: ignore[arg-type]  # has what is used of a run


def user_error(text: str) -> Exception:
    error: Exception = UserExceptionWithTraceback(ValueError(text), f"Traceback ...\nValueError: {text}")
    return error


def test_an_error_of_the_training_code_fails_the_job() -> None:
    result = result_from_failures({0: user_error("bad shape")})
    assert (result.outcome, result.code) == (ResultStatus.FAILED, "training_failed")
    assert "bad shape" in result.message


def test_an_error_of_the_training_code_names_the_last_frame() -> None:
    traceback = (
        'Traceback (most recent call last):\n  File "/x/train/loss.py", line 7, in step\n    f()\nValueError: bad'
    )
    error: Exception = UserExceptionWithTraceback(ValueError("bad"), traceback)
    assert result_from_failures({0: error}).message == "worker 0: ValueError: bad (train/loss.py:7 in step)"


def test_the_error_of_a_worker_wins_over_the_disconnections_that_it_causes() -> None:
    peer = user_error("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    result = result_from_failures({0: peer, 1: user_error("bad shape")})
    assert (result.code, result.message) == ("training_failed", "worker 1: ValueError: bad shape")


@pytest.mark.parametrize(
    "failures",
    [
        {0: WorkerHealthCheckFailedError("gone", RayActorError())},
        {0: user_error("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")},
        {0: user_error("bad shape"), 1: WorkerHealthCheckFailedError("gone", RayActorError())},
    ],
)
def test_a_dead_worker_or_peer_loses_the_attempt(failures: dict[int, Exception]) -> None:
    with pytest.raises((WorkerHealthCheckFailedError, UserExceptionWithTraceback)):
        result_from_failures(failures)


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[ServedControlPlane]:
    with ServedControlPlane(tmp_path) as running:
        yield running


@pytest.fixture
def environment(control_plane: ServedControlPlane, tmp_path: Path) -> RunEnvironment:
    environment = control_plane.environment(run_environment(tmp_path, run_context(tmp_path, job_spec())))
    control_plane.runs.acquire_attempt("test")
    return environment


def succeeded() -> AttemptResult:
    return AttemptResult(
        outcome=ResultStatus.SUCCEEDED,
        manifest=Manifest(files={}),
        evaluation={"accuracy": 0.9},
        trained_seconds=3.0,
    )


def reported(control_plane: ServedControlPlane) -> ResultItem | None:
    return control_plane.result


def test_a_result_is_reported_after_all_other_reports(
    control_plane: ServedControlPlane, environment: RunEnvironment
) -> None:
    driver = Reporter(environment, 1, "driver", timings=FAST)
    control_plane.outage()
    worker = Reporter(environment, 1, "rank0", timings=FAST)
    worker.metric("train_loss", 1, 1.0)
    assert not worker.close(timeout=0.1)
    control_plane.restore()
    assert report_result(environment, driver, succeeded()) == REPORTED
    assert control_plane.result is not None
    assert control_plane.result.trained_seconds == 3.0
    assert control_plane.points("train_loss") == [(1, 1, 1.0)]


def test_a_result_that_cannot_be_sent_stays_in_the_spool(
    control_plane: ServedControlPlane, environment: RunEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass_pipelines.train.driver._FLUSH_SECONDS", 0.0)
    driver = Reporter(environment, 1, "driver", timings=FAST)
    worker = Reporter(environment, 1, "rank0", timings=FAST)
    control_plane.outage()
    worker.metric("train_loss", 1, 1.0)
    worker.close(timeout=0.1)
    assert report_result(environment, driver, AttemptResult(outcome=ResultStatus.FAILED, code="x")) == REPORTED
    control_plane.restore()
    assert reported(control_plane) is None
    assert flush_reports(environment) == []
    assert reported(control_plane) is not None
    assert control_plane.points("train_loss") == [(1, 1, 1.0)]


def test_a_fenced_attempt_reports_no_result(control_plane: ServedControlPlane, environment: RunEnvironment) -> None:
    driver = Reporter(environment, 1, "driver", timings=FAST)
    assert report_result(environment, driver, AttemptResult(outcome=ResultStatus.STOPPED, fenced=True)) == FENCED
    driver.close()
    assert control_plane.result is None


def test_output_and_logs_are_captured_and_still_printed(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    captured: list[str] = []
    with capture_output(captured.append):
        print("printed")  # noqa: T201 - that is what is tested
        logging.getLogger("windlass_pipelines.train").info("ours")
        logging.getLogger("library").info("chatter")
        logging.getLogger("library").warning("theirs")
        assert not sys.stdout.isatty()
    print("afterwards")  # noqa: T201 - that is what is tested
    text = "".join(captured)
    assert "printed\n" in text
    assert "INFO windlass_pipelines.train: ours" in text
    assert "theirs" in text
    assert "chatter" not in text
    assert "afterwards" not in text
    shown = capsys.readouterr()
    assert "printed" in shown.out
    assert "theirs" in shown.err


_HANGS = """
import time
from windlass_pipelines.train.driver import exit_on_timeout
with exit_on_timeout(30): pass
with exit_on_timeout(0.05): time.sleep(60)
"""


@pytest.mark.processes
def test_the_trainer_exits_when_ray_does_not_respond() -> None:
    result = subprocess.run([sys.executable, "-c", _HANGS], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, "did not return within 0.05 s" in result.stderr) == (LOST, True)
