"""The steps' API client: retries, timeouts, closed runs and buffered logs."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.factories.local_runs import spec
from tests.factories.run_contexts import run_context, run_environment, with_token
from tests.factories.served_control_plane import ServedControlPlane, problem

from windlass.domain.errors import ConflictError, FencedError, NotFoundError, UnauthenticatedError, UnavailableError
from windlass.domain.jobs import JobState
from windlass.domain.reports import Command
from windlass.ports import BackendState
from windlass.runtime.client import RunApiClient
from windlass.runtime.context import RunEnvironment
from windlass_pipelines.steps.progress import STOPPED, StepLog, read_statuses, step


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[ServedControlPlane]:
    with ServedControlPlane(tmp_path) as control_plane:
        yield control_plane


@pytest.fixture
def environment(control_plane: ServedControlPlane, tmp_path: Path) -> RunEnvironment:
    return control_plane.environment(run_environment(tmp_path, run_context(tmp_path, spec())))


@pytest.fixture
def client(environment: RunEnvironment) -> Iterator[RunApiClient]:
    with RunApiClient(environment, retry_seconds=20) as client:
        yield client


def test_get_run_returns_the_state_and_command(control_plane: ServedControlPlane, client: RunApiClient) -> None:
    control_plane.runs.acquire_attempt("test")
    control_plane.preempt()
    run = client.get_run()
    job = control_plane.job.id
    assert (run.job, run.state, run.command, run.result) == (job, JobState.RUNNING, Command.PREEMPT, None)
    assert not run.should_continue


def test_a_run_of_a_failed_job_should_not_continue(control_plane: ServedControlPlane, client: RunApiClient) -> None:
    assert client.get_run().should_continue
    control_plane.end_run(BackendState.FAILED)
    run = client.get_run()
    assert (run.state, run.should_continue) == (JobState.FAILED, False)


def test_a_run_of_a_cancelled_job_should_not_continue(control_plane: ServedControlPlane, client: RunApiClient) -> None:
    control_plane.cancel()
    run = client.get_run()
    assert (run.state, run.should_continue) == (JobState.CANCELLING, False)
    control_plane.end_run(BackendState.STOPPED)
    run = client.get_run()
    assert (run.state, run.should_continue) == (JobState.CANCELLED, False)


def test_a_call_is_retried_until_the_control_plane_is_available(
    control_plane: ServedControlPlane, client: RunApiClient
) -> None:
    client.get_run()
    control_plane.outage()
    threading.Timer(0.5, control_plane.restore).start()
    client.set_step_state("train", "running")
    assert control_plane.steps == {"train": "running"}


def test_a_server_error_is_retried(control_plane: ServedControlPlane, client: RunApiClient) -> None:
    control_plane.intercept = lambda _path, _body: problem(503, "unavailable")
    threading.Timer(0.5, lambda: setattr(control_plane, "intercept", lambda _path, _body: None)).start()
    assert client.get_run().should_continue
    statuses = [operation.status for operation in control_plane.operations]
    assert set(statuses[:-1]) == {503}
    assert statuses[-1] == 200


def test_retries_stop_after_the_timeout(control_plane: ServedControlPlane, environment: RunEnvironment) -> None:
    control_plane.outage()
    with (
        RunApiClient(environment, retry_seconds=0.3) as client,
        pytest.raises(UnavailableError),
    ):
        client.get_run()


def test_the_retries_of_a_running_call_can_be_capped(
    control_plane: ServedControlPlane, environment: RunEnvironment
) -> None:
    control_plane.outage()
    with RunApiClient(environment, retry_seconds=3600) as client:
        threading.Timer(0.3, lambda: client.cap_retries(0.0)).start()
        started = time.monotonic()
        with pytest.raises(UnavailableError):
            client.get_run()
        assert time.monotonic() - started < 10


def test_a_rejected_call_is_not_retried(control_plane: ServedControlPlane, client: RunApiClient) -> None:
    with pytest.raises(ConflictError, match="has no model version yet"):
        client.deploy()
    assert [operation.status for operation in control_plane.operations] == [409]


def test_a_wrong_token_fails_immediately_and_is_not_in_the_message(
    control_plane: ServedControlPlane, environment: RunEnvironment
) -> None:
    token = environment.context.run_token
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    with (
        RunApiClient(with_token(environment, wrong), retry_seconds=20) as client,
        pytest.raises(UnauthenticatedError) as caught,
    ):
        client.get_run()
    assert wrong not in str(caught.value)
    assert len(control_plane.operations) == 1


def test_log_text_is_sent_in_numbered_chunks_of_complete_lines(
    control_plane: ServedControlPlane, client: RunApiClient
) -> None:
    log = StepLog(client, "train")
    log.add("one\ntwo")
    log.flush()
    log.add(" more\nthree")
    log.flush()
    log.flush(partial_line=True)
    assert control_plane.step_log_chunks("train") == [(1, "one\n"), (2, "two more\n"), (3, "three")]


def test_log_text_is_buffered_while_the_control_plane_is_unavailable(
    control_plane: ServedControlPlane, client: RunApiClient
) -> None:
    log = StepLog(client, "train")
    control_plane.outage()
    log.add("one\n")
    log.flush()
    log.add("two\n")
    control_plane.restore()
    log.flush()
    assert control_plane.log("train") == "one\ntwo\n"


def test_a_chunk_whose_reply_was_lost_is_sent_again_unchanged(
    control_plane: ServedControlPlane, client: RunApiClient
) -> None:
    log = StepLog(client, "train")
    control_plane.drop_replies = lambda _path: True
    log.add("one\n")
    log.flush()
    control_plane.drop_replies = lambda _path: False
    log.add("two\n")
    log.flush()
    assert control_plane.log("train") == "one\ntwo\n"


def test_the_log_of_a_process_follows_that_of_the_process_that_it_replaces(
    control_plane: ServedControlPlane, client: RunApiClient
) -> None:
    first, second = StepLog(client, "train"), StepLog(client, "train")
    for text in ("one", "two", "three"):
        first.line(text)
        first.flush()
    control_plane.drop_replies = lambda _path: True
    second.line("four")
    second.flush()
    control_plane.drop_replies = lambda _path: False
    second.line("five")
    second.flush()
    assert control_plane.log("train") == "one\ntwo\nthree\nfour\nfive\n"


def test_a_chunk_that_cannot_be_stored_now_is_kept(control_plane: ServedControlPlane, client: RunApiClient) -> None:
    log = StepLog(client, "train")
    control_plane.intercept = lambda _path, _body: problem(409, "conflict")
    log.add("one\n")
    log.flush()
    control_plane.intercept = lambda _path, _body: None
    log.flush()
    assert control_plane.log("train") == "one\n"


def test_lines_are_sent_with_the_time_at_which_they_were_written(
    control_plane: ServedControlPlane, client: RunApiClient
) -> None:
    log = StepLog(client, "train")
    control_plane.outage()
    before = datetime.now(UTC).replace(microsecond=0)
    log.line("one")
    log.flush()
    time.sleep(2)
    control_plane.restore()
    log.line("two")
    log.flush()
    items = [item for chunk in control_plane.sent("/steps/train/logs", 204) for item in chunk["items"]]
    one, two = (datetime.fromisoformat(item["time"]) for item in items)
    assert one - before < timedelta(seconds=1) < two - one


def test_the_log_buffer_is_bounded(control_plane: ServedControlPlane, client: RunApiClient) -> None:
    log = StepLog(client, "train")
    for _ in range(100):
        log.add("x" * 100_000)
    log.add("the end")
    log.flush(partial_line=True)
    chunks = [text for _, text in control_plane.step_log_chunks("train")]
    assert max(map(len, chunks)) <= 65_536
    assert sum(map(len, chunks)) < 5_000_000
    assert chunks[0].startswith("[earlier output was dropped]")
    assert chunks[-1].endswith("the end")


def test_a_failed_step_is_reported_saved_and_logged_and_raises(
    control_plane: ServedControlPlane, environment: RunEnvironment, client: RunApiClient
) -> None:
    with pytest.raises(ZeroDivisionError), step("deploy", environment.workspace, client):
        _ = 1 / 0
    assert control_plane.steps == {"deploy": "failed"}
    assert control_plane.events[-1].message == "step deploy failed: ZeroDivisionError: division by zero"
    assert read_statuses(environment.workspace)["deploy"].state == "failed"
    assert "failed: ZeroDivisionError" in control_plane.log("deploy")


def test_a_step_that_fails_with_undecodable_output_is_reported(
    control_plane: ServedControlPlane, environment: RunEnvironment, client: RunApiClient
) -> None:
    with pytest.raises(OSError, match="caf"), step("deploy", environment.workspace, client):
        raise OSError(b"caf\xe9\0".decode(errors="surrogateescape"))
    assert control_plane.events[-1].message == "step deploy failed: OSError: caf??"
    assert "caf?" in control_plane.log("deploy")


@pytest.mark.parametrize("error", [FencedError, NotFoundError, UnauthenticatedError])
def test_a_step_of_a_closed_run_has_the_outcome_stopped(
    environment: RunEnvironment, client: RunApiClient, error: type[Exception]
) -> None:
    with pytest.raises(error), step("register", environment.workspace, client):
        raise error("closed")
    assert read_statuses(environment.workspace)["register"].outcome == STOPPED
