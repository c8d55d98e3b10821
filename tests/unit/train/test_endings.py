"""How an attempt's end becomes a result, an exit code, or a lost attempt."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ray.exceptions import RayActorError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError
from tests.factories.run_contexts import run_context
from tests.factories.training_runs import job_spec
from tests.fakes.control_plane import FakeControlPlane

from windlass.domain.reports import Outcome, ResultItem
from windlass.runtime.context import RunContext
from windlass.runtime.draining import drain
from windlass.runtime.reporter import Pace, Reporter
from windlass_pipelines.train.driver import FENCED, LOST, REPORTED, failure_of, finish, write_attempt
from windlass_pipelines.train.logs import captured
from windlass_pipelines.train.outcome import Conclusion, FencedOutError, StoppedError, TrainingError
from windlass_pipelines.train.worker import conclude

QUICK = Pace(interval=0.02, heartbeat=0.05, backoff=0.1)


class Ending:
    """An attempt that ends with an error after 7 seconds of training."""

    trained_seconds = 7.0

    def __init__(self, error: Exception) -> None:
        self.error = error

    def run(self) -> Conclusion:
        raise self.error


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (TrainingError("unknown_label", "label 'x'"), Outcome.FAILED, "unknown_label"),
        (StoppedError("preempted"), Outcome.STOPPED, "preempted"),
        (FencedOutError(), Outcome.STOPPED, "fenced"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), Outcome.FAILED, "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), Outcome.FAILED, "out_of_memory"),
        (MemoryError(), Outcome.FAILED, "out_of_memory"),
    ],
)
def test_an_expected_end_is_a_conclusion(error: Exception, outcome: Outcome, code: str) -> None:
    found = conclude(Ending(error))  # type: ignore[arg-type]  # has what is used of a run
    assert (found.outcome, found.code) == (outcome, code)
    assert found.fenced == (code == "fenced")
    assert code == "fenced" or found.trained_seconds == 7.0


def test_an_unexpected_error_goes_through() -> None:
    with pytest.raises(KeyError):
        conclude(Ending(KeyError("surprise")))  # type: ignore[arg-type]  # has what is used of a run


def user_error(text: str) -> Exception:
    error: Exception = UserExceptionWithTraceback(ValueError(text), f"Traceback ...\nValueError: {text}")
    return error


def test_an_error_of_the_training_code_fails_the_job() -> None:
    found = failure_of({0: user_error("bad shape")})
    assert (found.outcome, found.code) == (Outcome.FAILED, "training_failed")
    assert "bad shape" in found.message


@pytest.mark.parametrize(
    "failures",
    [
        {0: WorkerHealthCheckFailedError("gone", RayActorError())},
        {0: user_error("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")},
        {0: user_error("bad shape"), 1: WorkerHealthCheckFailedError("gone", RayActorError())},
    ],
)
def test_the_death_of_a_worker_or_of_its_peer_loses_the_attempt(failures: dict[int, Exception]) -> None:
    with pytest.raises((WorkerHealthCheckFailedError, UserExceptionWithTraceback)):
        failure_of(failures)


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as running:
        yield running


@pytest.fixture
def context(plane: FakeControlPlane, tmp_path: Path) -> RunContext:
    plane.claim({"trainer": "test"})
    return run_context(tmp_path, job_spec(), api_url=plane.url)


def reported(plane: FakeControlPlane) -> ResultItem | None:
    return plane.state.result


def test_a_result_is_reported_once_everything_else_is(plane: FakeControlPlane, context: RunContext) -> None:
    driver = Reporter(context, 1, "driver", pace=QUICK)
    plane.outage()
    worker = Reporter(context, 1, "rank0", pace=QUICK)
    worker.metric("train_loss", 1, 1.0)
    assert not worker.close(timeout=0.1)
    plane.restore()
    assert finish(context, driver, Conclusion(outcome=Outcome.SUCCEEDED, trained_seconds=3.0)) == REPORTED
    assert plane.state.result is not None
    assert plane.state.result.trained_seconds == 3.0
    assert plane.raw_metrics("train_loss") == [(1, 1, 1.0)]


def test_a_result_that_cannot_be_sent_waits_in_the_spool(
    plane: FakeControlPlane, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass_pipelines.train.driver._DRAIN_SECONDS", 0.0)
    driver = Reporter(context, 1, "driver", pace=QUICK)
    worker = Reporter(context, 1, "rank0", pace=QUICK)
    plane.outage()
    worker.metric("train_loss", 1, 1.0)
    worker.close(timeout=0.1)
    assert finish(context, driver, Conclusion(outcome=Outcome.FAILED, code="x")) == REPORTED
    plane.restore()
    assert reported(plane) is None
    assert drain(context)
    assert reported(plane) is not None
    assert plane.raw_metrics("train_loss") == [(1, 1, 1.0)]


def test_a_fenced_attempt_reports_no_result(plane: FakeControlPlane, context: RunContext) -> None:
    driver = Reporter(context, 1, "driver", pace=QUICK)
    assert finish(context, driver, Conclusion(outcome=Outcome.STOPPED, fenced=True)) == FENCED
    driver.close()
    assert plane.state.result is None


def test_the_step_finds_the_attempt_in_the_workspace(context: RunContext) -> None:
    write_attempt(context, 3, "host-1-abc")
    assert json.loads((context.workspace / "attempt.json").read_bytes()) == {"attempt": 3, "trainer": "host-1-abc"}


def test_what_is_printed_and_logged_is_told_and_still_printed(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    told: list[str] = []
    with captured(told.append):
        print("printed")  # noqa: T201 - that is what is tested
        logging.getLogger("windlass_pipelines.train").info("ours")
        logging.getLogger("library").info("chatter")
        logging.getLogger("library").warning("theirs")
        assert not sys.stdout.isatty()
    print("afterwards")  # noqa: T201 - that is what is tested
    text = "".join(told)
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
from windlass_pipelines.train.driver import limited
with limited(30): pass
with limited(0.05): time.sleep(60)
"""


@pytest.mark.processes
def test_a_ray_that_answers_nothing_is_not_waited_for() -> None:
    ended = subprocess.run([sys.executable, "-c", _HANGS], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, "not joined within 0.05 s" in ended.stderr) == (LOST, True)
