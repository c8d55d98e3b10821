"""How steps talk to a control plane that is away, slow to return or no longer wants them; and what they keep to say."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.runs import run_context

from windlass.domain.errors import ConflictError, FencedError, NotFoundError, UnauthenticatedError, UnavailableError
from windlass.domain.jobs import JobState
from windlass.domain.reports import Command
from windlass_pipelines.steps.client import ControlPlane
from windlass_pipelines.steps.progress import STOPPED, StepLog, read_notes, step


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as plane:
        yield plane


@pytest.fixture
def line(plane: FakeControlPlane, tmp_path: Path) -> Iterator[ControlPlane]:
    with ControlPlane(run_context(plane, tmp_path), patience=20) as line:
        yield line


def test_a_look_says_what_the_run_should_do(plane: FakeControlPlane, line: ControlPlane) -> None:
    plane.command = Command.PREEMPT
    view = line.look()
    assert (view.job, view.state, view.command, view.result) == ("job_1", JobState.RUNNING, Command.PREEMPT, None)
    assert not view.wanted


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_run_of_a_job_that_has_ended_is_not_wanted(plane: FakeControlPlane, line: ControlPlane, state: str) -> None:
    assert line.look().wanted
    plane.job_state = state
    assert not line.look().wanted


def test_a_call_waits_for_a_control_plane_that_comes_back(plane: FakeControlPlane, line: ControlPlane) -> None:
    line.look()
    plane.outage()
    threading.Timer(0.5, plane.restore).start()
    line.step("train", "running")
    assert plane.state.steps == {"train": {"state": "running", "message": ""}}


def test_a_server_error_is_asked_again(plane: FakeControlPlane, line: ControlPlane) -> None:
    plane.refuse_with = 503
    threading.Timer(0.5, lambda: setattr(plane, "refuse_with", None)).start()
    assert line.look().wanted
    statuses = [operation.status for operation in plane.operations]
    assert set(statuses[:-1]) == {503}
    assert statuses[-1] == 200


def test_patience_ends(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.outage()
    with ControlPlane(run_context(plane, tmp_path), patience=0.3) as line, pytest.raises(UnavailableError):
        line.look()


def test_a_call_under_way_can_be_hurried(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.outage()
    with ControlPlane(run_context(plane, tmp_path), patience=3600) as line:
        threading.Timer(0.3, lambda: line.hurry(0.0)).start()
        started = time.monotonic()
        with pytest.raises(UnavailableError):
            line.look()
        assert time.monotonic() - started < 10


def test_an_answer_that_is_no_is_not_asked_again(plane: FakeControlPlane, line: ControlPlane) -> None:
    with pytest.raises(ConflictError, match="nothing is registered"):
        line.deploy()
    assert [operation.status for operation in plane.operations] == [409]


def test_a_wrong_token_is_an_error_at_once_and_never_in_its_text(plane: FakeControlPlane, line: ControlPlane) -> None:
    token, plane.token = plane.token, "another"
    with pytest.raises(UnauthenticatedError) as caught:
        line.look()
    assert token not in str(caught.value)


def test_log_text_is_shipped_in_whole_lines_and_numbered(plane: FakeControlPlane, line: ControlPlane) -> None:
    log = StepLog(line, "train")
    log.add("one\ntwo")
    log.ship()
    log.add(" more\nthree")
    log.ship()
    log.ship(whole=True)
    told = [(chunk["sequence"], chunk["text"]) for chunk in plane.state.step_logs["train"]]
    assert told == [(1, "one\n"), (2, "two more\n"), (3, "three")]


def test_log_text_waits_while_the_control_plane_is_away_and_loses_nothing(
    plane: FakeControlPlane, line: ControlPlane
) -> None:
    log = StepLog(line, "train")
    plane.outage()
    log.add("one\n")
    log.ship()
    log.add("two\n")
    plane.restore()
    log.ship()
    assert "".join(chunk["text"] for chunk in plane.state.step_logs["train"]) == "one\ntwo\n"


def test_log_text_without_end_is_bounded(plane: FakeControlPlane, line: ControlPlane) -> None:
    log = StepLog(line, "train")
    for _ in range(100):
        log.add("x" * 100_000)
    log.add("the end")
    log.ship(whole=True)
    chunks = [chunk["text"] for chunk in plane.state.step_logs["train"]]
    assert max(map(len, chunks)) <= 65_536
    assert sum(map(len, chunks)) < 5_000_000
    assert chunks[0].startswith("[the beginning of this was dropped]")
    assert chunks[-1].endswith("the end")


def test_a_step_that_fails_says_so_everywhere_and_passes_the_error_on(
    plane: FakeControlPlane, line: ControlPlane, tmp_path: Path
) -> None:
    context = run_context(plane, tmp_path)
    with pytest.raises(ZeroDivisionError), step("deploy", context, line):
        _ = 1 / 0
    assert plane.state.steps["deploy"] == {"state": "failed", "message": "ZeroDivisionError: division by zero"}
    assert read_notes(context.workspace)["deploy"].state == "failed"
    assert "failed: ZeroDivisionError" in plane.state.step_logs["deploy"][-1]["text"]


@pytest.mark.parametrize("error", [FencedError, NotFoundError, UnauthenticatedError])
def test_a_step_of_a_run_that_was_closed_is_noted_as_stopped(
    plane: FakeControlPlane, line: ControlPlane, tmp_path: Path, error: type[Exception]
) -> None:
    context = run_context(plane, tmp_path)
    with pytest.raises(error), step("register", context, line):
        raise error("closed")
    assert read_notes(context.workspace)["register"].outcome == STOPPED
