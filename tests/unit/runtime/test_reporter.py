"""The reporter against a real HTTP server: batching, commands, fencing, outages, death."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest
from tests.fakes.control_plane import FakeControlPlane

from windlass.domain.reports import Command, MetricItem, Outcome, ResultItem
from windlass.runtime.context import CONTEXT_VARIABLE, RunContext
from windlass.runtime.draining import drain
from windlass.runtime.reporter import Pace, Reporter
from windlass.runtime.spool import folder_of

QUICK = Pace(interval=0.02, heartbeat=0.05, backoff=0.1)


def result(code: str = "") -> ResultItem:
    return ResultItem(outcome=Outcome.SUCCEEDED, code=code, time=datetime.now(UTC))


def test_everything_arrives_once_and_in_order(
    plane: FakeControlPlane, context: RunContext, attempt: int, sequences: Callable[[], list[int]]
) -> None:
    reporter = Reporter(context, attempt, "rank0", pace=QUICK)
    for step in range(1, 50):
        reporter.metric("train_loss", step, 1 / step)
        reporter.log(f"step {step}\n")
    reporter.event("training_finished", "done", steps=49)
    assert reporter.close()
    assert [step for _, step, _ in plane.raw_metrics("train_loss")] == list(range(1, 50))
    assert plane.logs() == "".join(f"step {step}\n" for step in range(1, 50))
    assert plane.events() == ["training_finished"]
    assert sequences() == list(range(1, len(sequences()) + 1))
    assert list(folder_of(context.workspace).iterdir()) == []


def test_requests_keep_their_distance_and_carry_many_items(
    plane: FakeControlPlane, context: RunContext, attempt: int
) -> None:
    reporter = Reporter(context, attempt, "rank0", pace=Pace(interval=0.25, heartbeat=10))
    began = time.monotonic()
    step = 0
    while time.monotonic() - began < 1:
        step += 1
        reporter.metric("train_loss", step, 1.0)
        time.sleep(0.001)  # the pace of a training loop
    sent = len([op for op in plane.operations if op.path.endswith("/reports")])
    assert 2 <= sent <= 5
    assert reporter.close()
    assert len(plane.raw_metrics("train_loss")) == step


def test_an_idle_reporter_beats(plane: FakeControlPlane, context: RunContext, attempt: int) -> None:
    reporter = Reporter(context, attempt, "driver", pace=QUICK)
    plane.wait_for(lambda p: sum(op.path.endswith("/reports") for op in p.operations) >= 3)
    assert reporter.close()


def test_values_that_json_cannot_carry_are_left_out(plane: FakeControlPlane, context: RunContext, attempt: int) -> None:
    reporter = Reporter(context, attempt, "rank0", pace=QUICK)
    for step, value in enumerate((float("nan"), float("inf"), 1.5)):
        reporter.metric("train_loss", step, value)
    assert reporter.close()
    assert plane.raw_metrics("train_loss") == [(attempt, 2, 1.5)]


@pytest.mark.parametrize("command", [Command.PREEMPT, Command.CANCEL])
def test_a_command_is_heard_with_the_next_reply(
    plane: FakeControlPlane, context: RunContext, attempt: int, command: Command
) -> None:
    reporter = Reporter(context, attempt, "rank0", pace=QUICK)
    plane.command = command
    seen = len(plane.operations)
    plane.wait_for(lambda p: len(p.operations) > seen + 1)
    assert reporter.command is command
    reporter.close()


def test_a_fenced_reporter_says_so_at_once_and_writes_no_more(
    plane: FakeControlPlane, context: RunContext, attempt: int
) -> None:
    heard = Event()
    reporter = Reporter(context, attempt, "rank0", pace=QUICK, on_fenced=heard.set)
    plane.lost(attempt, {"trainer": "test"})
    reporter.metric("train_loss", 1, 1.0)
    assert heard.wait(10)
    assert reporter.fenced
    count = len(plane.operations)
    reporter.metric("train_loss", 2, 1.0)
    reporter.close()
    assert len(plane.operations) == count
    assert plane.raw_metrics("train_loss") == []


def test_a_revoked_token_ends_the_attempt_too(plane: FakeControlPlane, context: RunContext, attempt: int) -> None:
    heard = Event()
    plane.token = "another"
    reporter = Reporter(context, attempt, "rank0", pace=QUICK, on_fenced=heard.set)
    assert heard.wait(10)
    reporter.close()


def test_nothing_is_lost_while_the_server_is_away(
    plane: FakeControlPlane, context: RunContext, attempt: int, sequences: Callable[[], list[int]]
) -> None:
    reporter = Reporter(context, attempt, "rank0", pace=QUICK)
    reporter.metric("train_loss", 1, 1.0)
    plane.wait_for(lambda p: len(p.raw_metrics("train_loss")) == 1)
    plane.outage()
    for step in range(2, 40):
        reporter.metric("train_loss", step, 1.0)
    plane.restore()
    plane.wait_for(lambda p: len(p.raw_metrics("train_loss")) == 39)
    assert reporter.close()
    assert [step for _, step, _ in plane.raw_metrics("train_loss")] == list(range(1, 40))
    assert sequences() == list(range(1, len(sequences()) + 1))


def test_a_reply_that_is_lost_doubles_nothing(plane: FakeControlPlane, context: RunContext, attempt: int) -> None:
    dropped: list[str] = []
    plane.drop_replies = lambda path: len(dropped) < 2 and not dropped.append(path)  # type: ignore[func-returns-value]  # append's None counts as false
    reporter = Reporter(context, attempt, "rank0", pace=QUICK)
    for step in range(5):
        reporter.metric("train_loss", step, 1.0)
    assert reporter.close()
    assert len(dropped) == 2
    assert [step for _, step, _ in plane.raw_metrics("train_loss")] == list(range(5))


def test_server_errors_are_an_outage(plane: FakeControlPlane, context: RunContext, attempt: int) -> None:
    plane.refuse_with = 503
    reporter = Reporter(context, attempt, "rank0", pace=QUICK)
    reporter.metric("train_loss", 1, 1.0)
    plane.wait_for(lambda p: len(p.operations) >= 2)
    assert not reporter.fenced
    plane.refuse_with = None
    plane.wait_for(lambda p: p.raw_metrics("train_loss") != [])
    assert reporter.close()


def test_an_answer_that_makes_no_sense_is_an_outage(
    plane: FakeControlPlane, context: RunContext, attempt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(plane, "report", lambda _number, _body: {"hello": "world"})
        reporter = Reporter(context, attempt, "rank0", pace=QUICK)
        reporter.metric("train_loss", 1, 1.0)
        plane.wait_for(lambda p: len(p.operations) >= 2)
    assert reporter.close()
    assert plane.raw_metrics("train_loss") == [(attempt, 1, 1.0)]


def test_a_batch_that_is_refused_for_its_content_does_not_block_the_next(
    plane: FakeControlPlane, context: RunContext, attempt: int
) -> None:
    reporter = Reporter(context, attempt, "rank0", pace=QUICK)
    unsound = MetricItem.model_construct(type="metric", name="train_loss", step=-1, value=1.0, time=datetime.now(UTC))
    reporter.put(unsound)
    plane.wait_for(lambda p: any(op.status == 422 for op in p.operations))
    reporter.metric("train_loss", 1, 1.0)
    assert reporter.close()
    assert plane.raw_metrics("train_loss") == [(attempt, 1, 1.0)]


def test_what_could_not_be_sent_before_the_exit_is_drained_later_with_the_result_last(
    plane: FakeControlPlane, context: RunContext, attempt: int
) -> None:
    plane.outage()
    driver = Reporter(context, attempt, "driver", pace=QUICK)
    worker = Reporter(context, attempt, "rank0", pace=QUICK)
    worker.metric("train_loss", 1, 1.0)
    assert not worker.close(timeout=0.1)
    driver.leave(result())
    assert not drain(context, timeout=0)
    plane.restore()
    assert drain(context, timeout=20)
    assert plane.state.result is not None
    assert plane.raw_metrics("train_loss") == [(attempt, 1, 1.0)]
    assert drain(context, timeout=0), "a second time there is nothing to do"


def test_draining_leaves_a_living_reporter_alone(plane: FakeControlPlane, context: RunContext, attempt: int) -> None:
    reporter = Reporter(context, attempt, "rank0", pace=QUICK)
    assert not drain(context, timeout=0)
    assert drain(context, timeout=0, but="rank0")
    assert reporter.close()


def test_what_a_fenced_attempt_left_is_thrown_away(plane: FakeControlPlane, context: RunContext, attempt: int) -> None:
    plane.outage()
    reporter = Reporter(context, attempt, "rank0", pace=QUICK)
    reporter.metric("train_loss", 1, 1.0)
    reporter.close(timeout=0.1)
    plane.restore()
    plane.lost(attempt, {"trainer": "test"})
    assert drain(context)
    assert plane.raw_metrics("train_loss") == []
    assert list(folder_of(context.workspace).iterdir()) == []


_DOOMED = """
import sys, time
from windlass.runtime.context import RunContext
from windlass.runtime.reporter import Reporter
reporter = Reporter(RunContext.load(), int(sys.argv[1]), "rank0")
for step in range(200):
    reporter.metric("train_loss", step, 1.0)
print("put", flush=True)
time.sleep(60)
"""


@pytest.mark.processes
def test_what_was_put_survives_kill_9_and_is_drained(
    plane: FakeControlPlane, context: RunContext, attempt: int, tmp_path: Path
) -> None:
    path = tmp_path / "context.json"
    context.write(path)
    environment = os.environ | {CONTEXT_VARIABLE: str(path)}
    plane.outage()
    with subprocess.Popen(
        [sys.executable, "-c", _DOOMED, str(attempt)], env=environment, stdout=subprocess.PIPE
    ) as doomed:
        assert doomed.stdout is not None
        assert doomed.stdout.readline() == b"put\n"
        doomed.send_signal(signal.SIGKILL)
    plane.restore()
    assert drain(context)
    assert [step for _, step, _ in plane.raw_metrics("train_loss")] == list(range(200))


def test_the_run_token_is_on_no_disk_and_in_no_error(
    plane: FakeControlPlane, context: RunContext, attempt: int, capfd: pytest.CaptureFixture[str]
) -> None:
    plane.outage()
    reporter = Reporter(context, attempt, "rank0", pace=QUICK)
    reporter.metric("train_loss", 1, 1.0)
    reporter.close(timeout=0.1)
    spooled = b"".join(path.read_bytes() for path in folder_of(context.workspace).iterdir())
    assert b"train_loss" in spooled
    assert context.run_token.encode() not in spooled
    out = capfd.readouterr()
    assert context.run_token not in out.out + out.err
