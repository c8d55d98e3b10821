"""The reporter with a real HTTP server: batching, commands, fencing, outages, process death."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event

import pytest
from starlette.responses import JSONResponse
from tests.factories.served_control_plane import ServedControlPlane, problem

from windlass.domain.artifacts import Manifest
from windlass.domain.errors import UnavailableError
from windlass.domain.reports import Command, MetricItem, ResultItem, ResultStatus
from windlass.ports import BackendState
from windlass.runtime.context import RunEnvironment
from windlass.runtime.flush import flush_reports
from windlass.runtime.reporter import Reporter, ReporterTimings
from windlass.runtime.spool import spool_dir

QUICK = ReporterTimings(interval=0.02, heartbeat=0.05, backoff=0.1)


def result() -> ResultItem:
    return ResultItem(
        outcome=ResultStatus.SUCCEEDED,
        manifest=Manifest(files={}),
        evaluation={"accuracy": 0.9},
        time=datetime.now(UTC),
    )


def test_everything_arrives_once_and_in_order(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int, sequences: Callable[[], list[int]]
) -> None:
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)
    for step in range(1, 50):
        reporter.metric("train_loss", step, 1 / step)
        reporter.log(f"step {step}\n")
    reporter.event("training_finished", "done", steps=49)
    assert reporter.close()
    assert list(control_plane.metrics("train_loss")) == list(range(1, 50))
    assert control_plane.log("rank0") == "".join(f"step {step}\n" for step in range(1, 50)) + "done\n"
    assert control_plane.event_codes().count("training_finished") == 1
    assert sequences() == list(range(1, len(sequences()) + 1))
    assert list(spool_dir(environment.workspace).iterdir()) == []


def test_items_are_batched_with_a_minimum_interval(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    reporter = Reporter(environment, attempt, "rank0", timings=ReporterTimings(interval=0.25, heartbeat=10))
    began = time.monotonic()
    step = 0
    while time.monotonic() - began < 1:
        step += 1
        reporter.metric("train_loss", step, 1.0)
        time.sleep(0.001)  # the rate of a training loop
    sent = len(control_plane.sent("/reports"))
    assert 2 <= sent <= 5
    assert reporter.close()
    assert len(control_plane.metrics("train_loss")) == step


def test_an_idle_reporter_sends_heartbeats(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    reporter = Reporter(environment, attempt, "driver", timings=QUICK)
    control_plane.wait_for(lambda p: len(p.sent("/reports")) >= 3)
    assert reporter.close()


def test_non_finite_values_are_dropped(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)
    for step, value in enumerate((float("nan"), float("inf"), 1.5)):
        reporter.metric("train_loss", step, value)
    assert reporter.close()
    assert control_plane.metrics("train_loss") == {2: 1.5}


@pytest.mark.parametrize("command", [Command.PREEMPT, Command.CANCEL])
def test_a_command_is_received_with_the_next_response(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int, command: Command
) -> None:
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)
    control_plane.preempt() if command is Command.PREEMPT else control_plane.cancel()
    count_before = len(control_plane.operations)
    control_plane.wait_for(lambda p: len(p.operations) > count_before + 1)
    assert reporter.command is command
    reporter.close()


def test_a_fenced_reporter_calls_back_at_once_and_stops_writing(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    fenced = Event()
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK, on_fenced=fenced.set)
    control_plane.lose_attempt()
    reporter.metric("train_loss", 1, 1.0)
    assert fenced.wait(10)
    assert reporter.fenced
    count = len(control_plane.operations)
    reporter.metric("train_loss", 2, 1.0)
    reporter.close()
    assert len(control_plane.operations) == count
    assert control_plane.metrics("train_loss") == {}


def test_a_revoked_token_fences_the_attempt(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    fenced = Event()
    control_plane.end_run(BackendState.LOST, revoke_token=True)
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK, on_fenced=fenced.set)
    assert fenced.wait(10)
    reporter.close()


def test_nothing_is_lost_during_an_outage(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int, sequences: Callable[[], list[int]]
) -> None:
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)
    reporter.metric("train_loss", 1, 1.0)
    control_plane.wait_for(lambda p: len(p.metrics("train_loss")) == 1)
    control_plane.outage()
    for step in range(2, 40):
        reporter.metric("train_loss", step, 1.0)
    control_plane.restore()
    control_plane.wait_for(lambda p: len(p.metrics("train_loss")) == 39)
    assert reporter.close()
    assert list(control_plane.metrics("train_loss")) == list(range(1, 40))
    assert sequences() == list(range(1, len(sequences()) + 1))


def test_a_lost_response_duplicates_nothing(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    dropped: list[str] = []
    control_plane.drop_replies = lambda path: len(dropped) < 2 and not dropped.append(path)  # type: ignore[func-returns-value]  # append's None counts as false
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)
    for step in range(5):
        reporter.event("step_finished", str(step))
    assert reporter.close()
    assert len(dropped) == 2
    steps = [event.message for event in control_plane.events if event.code == "step_finished"]
    assert steps == [str(step) for step in range(5)]
    assert control_plane.log("rank0") == "".join(f"{step}\n" for step in range(5)), "an event is a line of the log"


def test_server_errors_are_an_outage(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    control_plane.intercept = lambda _path, _body: problem(503, "unavailable")
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)
    reporter.metric("train_loss", 1, 1.0)
    control_plane.wait_for(lambda p: len(p.operations) >= 2)
    assert not reporter.fenced
    control_plane.intercept = lambda _path, _body: None
    control_plane.wait_for(lambda p: p.metrics("train_loss") != {})
    assert reporter.close()


def test_an_outage_of_the_object_store_stops_neither_heartbeats_nor_commands(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UnavailableError("the object store is unreachable")

    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)
    with monkeypatch.context() as patched:
        patched.setattr(type(control_plane.harness.deps.store), "extend", fail)
        reporter.metric("train_loss", 1, 1.0)
        reporter.log("a line\n")
        control_plane.wait_for(lambda p: len(p.sent("/reports", 503)) >= 2)
        heartbeats = control_plane.attempts[-1].heartbeats
        control_plane.cancel()
        control_plane.wait_for(lambda p: p.attempts[-1].heartbeats > heartbeats + 1)
        assert reporter.command is Command.CANCEL
    assert reporter.close()
    assert control_plane.metrics("train_loss") == {1: 1.0}
    assert control_plane.log("rank0") == "a line\n"


def test_an_invalid_response_is_an_outage(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    control_plane.intercept = lambda _path, _body: JSONResponse({"hello": "world"})
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)
    reporter.metric("train_loss", 1, 1.0)
    control_plane.wait_for(lambda p: len(p.operations) >= 2)
    assert control_plane.metrics("train_loss") == {}
    control_plane.intercept = lambda _path, _body: None
    assert reporter.close()
    assert control_plane.metrics("train_loss") == {1: 1.0}


def invalid_metric() -> MetricItem:
    return MetricItem.model_construct(type="metric", name="train_loss", step=-1, value=1.0, time=datetime.now(UTC))


def test_an_invalid_item_is_dropped_and_the_items_sent_with_it_are_not(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    control_plane.outage()
    reporter = Reporter(environment, attempt, "driver", timings=QUICK)
    for step in range(1, 6):
        reporter.metric("train_loss", step, 1.0)
    reporter.put(invalid_metric())
    reporter.put(result())
    control_plane.restore()
    assert reporter.close()
    assert control_plane.metrics("train_loss") == dict.fromkeys(range(1, 6), 1.0)
    assert control_plane.result is not None
    assert control_plane.result.outcome is ResultStatus.SUCCEEDED


def test_a_rejected_result_is_replaced_by_a_failed_one_with_the_cause(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    reporter = Reporter(environment, attempt, "driver", timings=QUICK)
    reporter.put(result().model_copy(update={"trained_seconds": -1.0}))
    assert reporter.close()
    assert control_plane.result is not None
    assert (control_plane.result.outcome, control_plane.result.code) == (
        ResultStatus.FAILED,
        "result_rejected",
    )
    assert "trained_seconds" in control_plane.result.message


@pytest.mark.parametrize(
    ("status", "code"), [(507, "storage_full"), (409, "conflict"), (412, "precondition_failed"), (418, "teapot")]
)
def test_only_errors_that_never_pass_drop_a_report(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int, status: int, code: str
) -> None:
    refusals = [problem(status, code)] * 3
    control_plane.intercept = lambda _path, _body: refusals.pop() if refusals else None
    reporter = Reporter(environment, attempt, "driver", timings=QUICK)
    reporter.put(result())
    assert reporter.close()
    assert control_plane.result is not None


def test_the_reporter_survives_a_failing_disk(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        patched.setattr(os, "fsync", fail)
        reporter.metric("train_loss", 1, 1.0)
        control_plane.wait_for(lambda p: len(p.metrics("train_loss")) == 1)
    control_plane.preempt()
    reporter.metric("train_loss", 2, 1.0)
    control_plane.wait_for(lambda p: len(p.metrics("train_loss")) == 2)
    assert reporter.close()
    assert reporter.command is Command.PREEMPT


def test_output_that_is_not_text_is_reported(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)
    reporter.log(b"caf\xe9\n".decode(errors="surrogateescape"))
    reporter.event("checkpoint_failed", b"caf\xe9\0".decode(errors="surrogateescape"))
    assert reporter.close()
    assert control_plane.log("rank0") == "caf?\ncaf??\n", "the message of an event is a line of the log"
    assert [event.message for event in control_plane.events if event.code == "checkpoint_failed"] == ["caf??"]


def test_pending_reports_are_flushed_later_with_the_result_last(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    control_plane.outage()
    driver = Reporter(environment, attempt, "driver", timings=QUICK)
    worker = Reporter(environment, attempt, "rank0", timings=QUICK)
    worker.metric("train_loss", 1, 1.0)
    assert not worker.close(timeout=0.1)
    driver.close_with(result())
    left = [(spool.source, spool.holds_result) for spool in flush_reports(environment, timeout=0)]
    assert left == [("rank0", False), ("driver", True)]
    control_plane.restore()
    assert flush_reports(environment, timeout=20) == []
    assert control_plane.result is not None
    assert control_plane.points("train_loss") == [(attempt, 1, 1.0)]
    assert flush_reports(environment, timeout=0) == [], "a second flush is a no-op"


def test_flushing_skips_the_spool_of_a_running_reporter(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)
    assert [spool.source for spool in flush_reports(environment, timeout=0)] == ["rank0"]
    assert flush_reports(environment, timeout=0, exclude="rank0") == []
    assert reporter.close()


def test_reports_of_a_fenced_attempt_are_dropped(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    control_plane.outage()
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)
    reporter.metric("train_loss", 1, 1.0)
    reporter.close(timeout=0.1)
    control_plane.restore()
    control_plane.lose_attempt()
    assert flush_reports(environment) == []
    assert control_plane.metrics("train_loss") == {}
    assert list(spool_dir(environment.workspace).iterdir()) == []


_DOOMED = """
import sys, time
from windlass.runtime.context import RunEnvironment
from windlass.runtime.reporter import Reporter
reporter = Reporter(RunEnvironment.load(), int(sys.argv[1]), "rank0")
for step in range(200):
    reporter.metric("train_loss", step, 1.0)
print("put", flush=True)
time.sleep(60)
"""


@pytest.mark.processes
def test_spooled_reports_survive_kill_9_and_are_flushed(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int
) -> None:
    variables = os.environ | environment.variables()
    control_plane.outage()
    with subprocess.Popen(
        [sys.executable, "-c", _DOOMED, str(attempt)], env=variables, stdout=subprocess.PIPE
    ) as doomed:
        assert doomed.stdout is not None
        assert doomed.stdout.readline() == b"put\n"
        doomed.send_signal(signal.SIGKILL)
    control_plane.restore()
    assert flush_reports(environment) == []
    assert list(control_plane.metrics("train_loss")) == list(range(200))


def test_the_run_token_is_not_in_the_spool_or_in_errors(
    control_plane: ServedControlPlane, environment: RunEnvironment, attempt: int, capfd: pytest.CaptureFixture[str]
) -> None:
    control_plane.outage()
    reporter = Reporter(environment, attempt, "rank0", timings=QUICK)
    reporter.metric("train_loss", 1, 1.0)
    reporter.close(timeout=0.1)
    spooled = b"".join(path.read_bytes() for path in spool_dir(environment.workspace).iterdir())
    assert b"train_loss" in spooled
    assert environment.context.run_token.encode() not in spooled
    out = capfd.readouterr()
    assert environment.context.run_token not in out.out + out.err
