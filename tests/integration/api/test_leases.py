"""Leases of attempts and intents hold whatever the wall clock does, and a stale holder changes nothing."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.fakes.backends import MemoryPipelines
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun, run_until_idle

from windlass.domain.errors import AttemptActiveError, UnavailableError
from windlass.domain.records import Intent
from windlass.kit.lease import LeaseObserver
from windlass.ports import BackendState
from windlass.services.runs import Runs
from windlass.services.uptime import ApiUptime
from windlass_api.metrics import REGISTRY
from windlass_api.outbox_dispatcher import OutboxDispatcher

TEN_MINUTES = 600
TIMEOUT = 30
"""Heartbeat timeout of the harness, in seconds."""
LEASE = 60


def running(harness: ControlPlaneHarness, key: str = "1") -> SimulatedRun:
    job = harness.submit("ours", key=key)
    harness.run_worker_once(2)
    return harness.simulated_run(job)


@pytest.mark.parametrize("jump", [TEN_MINUTES, -TEN_MINUTES])
def test_second_trainer_waits_for_the_heartbeat_timeout_whatever_the_wall_clock_does(
    ready: ControlPlaneHarness, jump: int
) -> None:
    run = running(ready)
    assert run.acquire_attempt("first").status_code == 200
    for _ in range(4):
        ready.clock.advance(TIMEOUT / 2)
        assert run.report(1).status_code == 200
    ready.clock.set_wall_clock(jump)
    refused = run.acquire_attempt("second")
    assert (refused.status_code, refused.json()["code"]) == (409, "attempt_active")
    ready.clock.advance(TIMEOUT - 1)
    assert run.acquire_attempt("second").status_code == 409
    ready.clock.advance(1)
    assert run.acquire_attempt("second").json()["attempt"] == 2
    assert run.report(1).json()["code"] == "fenced"


def test_attempt_is_lost_only_after_its_timeout_has_passed_while_a_server_listens(ready: ControlPlaneHarness) -> None:
    run = running(ready)
    run.acquire_attempt("first")
    ready.clock.advance(10 * TIMEOUT)  # the server is down
    restarted = Runs(replace(ready.deps, leases=LeaseObserver()), run.run, timedelta(seconds=TIMEOUT))
    with pytest.raises(AttemptActiveError):
        restarted.acquire_attempt("second")
    ready.clock.advance(TIMEOUT)
    assert restarted.acquire_attempt("second").attempt == 2


class Blocker:
    """A handler that holds an intent until it is released, and counts what it handles."""

    def __init__(self) -> None:
        self.release, self.started = threading.Event(), threading.Semaphore(0)
        self.handled: list[str] = []

    def __call__(self, intent: Intent) -> None:
        self.handled.append(intent.subject)
        self.started.release()
        assert self.release.wait(20)

    def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert self.started.acquire(timeout=20)


def lost_leases() -> float:
    """The metric of intents that another worker took over."""
    return REGISTRY.get_sample_value("windlass_leases_lost_total", {"lease": "intent"}) or 0.0


@contextmanager
def dispatching(
    harness: ControlPlaneHarness, handle: Callable[[Intent], None], holder: str, **options: Any
) -> Iterator[OutboxDispatcher]:
    """A dispatcher in a worker process of its own: it shares the database, and not the memory, with others."""
    deps = replace(harness.deps, leases=LeaseObserver())
    options.setdefault("after", lambda: None)
    dispatcher = OutboxDispatcher(deps, timedelta(seconds=LEASE), handle, holder=holder, **options)
    try:
        yield dispatcher
    finally:
        dispatcher.close()


def put(harness: ControlPlaneHarness, *subjects: str, kind: str = "kind", project: str | None = None) -> None:
    with harness.database.write() as uow:
        for subject in subjects:
            uow.outbox.put(kind, project or f"project of {subject}", subject)


@pytest.mark.parametrize("jump", [TEN_MINUTES, -TEN_MINUTES])
def test_leased_intent_is_not_leased_again_while_its_worker_renews(harness: ControlPlaneHarness, jump: int) -> None:
    put(harness, "subject")
    slow, other = Blocker(), Blocker()
    with dispatching(harness, slow, "one") as first, dispatching(harness, other, "two") as second:
        first.run_once()
        slow.wait_for(1)
        second.run_once()
        harness.clock.set_wall_clock(jump)
        for _ in range(10):
            harness.clock.advance(LEASE / 3)
            first.run_once()
            second.run_once()
        assert other.handled == []
        slow.release.set()
        run_until_idle(first)
        with harness.database.read() as uow:
            assert uow.outbox.subjects("kind") == []


def test_heartbeat_timeout_passes_only_while_heartbeats_can_be_stored(ready: ControlPlaneHarness) -> None:
    """A replica of the API that lost the database for a while does not fence a trainer that could not reach it."""
    run, uptime = running(ready), ApiUptime(ready.database, ready.clock)
    replica = Runs(replace(ready.deps, uptime=uptime), run.run, timedelta(seconds=TIMEOUT))

    def pass_time(seconds: int) -> None:
        for _ in range(seconds // 2):
            ready.clock.advance(uptime.step())

    pass_time(10)
    replica.acquire_attempt("first")
    ready.clock.advance(TEN_MINUTES)
    pass_time(4)
    with pytest.raises(AttemptActiveError):
        replica.acquire_attempt("second")
    pass_time(TIMEOUT)
    assert replica.acquire_attempt("second").attempt == 2


def test_expired_lease_is_taken_over_and_the_stale_worker_completes_nothing(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    stale, new, lost = Blocker(), Blocker(), lost_leases()
    with dispatching(harness, stale, "one") as first, dispatching(harness, new, "two") as second:
        first.run_once()
        stale.wait_for(1)
        second.run_once()
        harness.clock.advance(LEASE - 1)
        second.run_once()
        assert (new.handled, lost_leases()) == ([], lost)
        harness.clock.advance(1)
        second.run_once()
        new.wait_for(1)
        assert lost_leases() == lost + 1
        stale.release.set()
        wait(first.busy)
        with harness.database.read() as uow:
            assert uow.outbox.subjects("kind") == ["subject"], "the fence keeps the intent of the new holder"
        new.release.set()
        run_until_idle(second)
        with harness.database.read() as uow:
            assert uow.outbox.subjects("kind") == []


def test_restarted_worker_takes_over_its_own_leases_at_once(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    with harness.database.write() as uow:
        [intent] = [found for found in [uow.outbox.next_due()] if found]
        assert uow.outbox.lease(intent, "one") is not None
    handled: list[str] = []
    with dispatching(harness, lambda intent: handled.append(intent.subject), "two") as other:
        run_until_idle(other)
        assert handled == []
    with dispatching(harness, lambda intent: handled.append(intent.subject), "one") as restarted:
        run_until_idle(restarted)
        assert handled == ["subject"]


def test_stale_intent_can_be_neither_leased_nor_completed(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    with harness.database.write() as uow:
        stale = uow.outbox.next_due()
        assert stale is not None
        newer = uow.outbox.lease(stale, "one")
        assert newer is not None
        assert uow.outbox.next_due() is None
        assert uow.outbox.lease(stale, "two") is None
        assert not uow.outbox.complete(stale)
        assert uow.outbox.complete(newer)


def test_intent_that_is_put_while_it_is_handled_is_handled_again(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    handled: list[int] = []

    def change_once(intent: Intent) -> None:
        handled.append(intent.tries)
        if len(handled) == 1:
            put(harness, "subject")  # a change that this handler has not read

    with dispatching(harness, change_once, "one") as dispatcher:
        run_until_idle(dispatcher)
        assert handled == [1, 1]
    with harness.database.read() as uow:
        assert (uow.outbox.next_due(), uow.outbox.leased()) == (None, [])


def test_intent_that_is_put_twice_before_it_is_handled_is_handled_once(harness: ControlPlaneHarness) -> None:
    put(harness, "subject", "subject")
    handled: list[str] = []
    with dispatching(harness, lambda intent: handled.append(intent.subject), "one") as dispatcher:
        run_until_idle(dispatcher)
    assert handled == ["subject"]


@pytest.mark.parametrize("jump", [TEN_MINUTES, -TEN_MINUTES])
def test_intent_without_a_delay_is_due_whatever_the_wall_clock_does(harness: ControlPlaneHarness, jump: int) -> None:
    put(harness, "subject")
    harness.clock.set_wall_clock(jump)
    with harness.database.read() as uow:
        assert uow.outbox.next_due() is not None


def test_intents_of_one_kind_or_project_leave_threads_to_others(harness: ControlPlaneHarness) -> None:
    put(harness, "a1", "a2", "a3", project="a")
    put(harness, "b1", project="b")
    put(harness, "c1", project="c")
    put(harness, "other", kind="second kind", project="a")
    blocker = Blocker()
    with dispatching(harness, blocker, "one") as dispatcher:
        dispatcher.run_once()
        blocker.wait_for(3)
        assert sorted(blocker.handled) == ["a1", "b1", "other"]
        blocker.release.set()
        run_until_idle(dispatcher)
        assert sorted(blocker.handled) == ["a1", "a2", "a3", "b1", "c1", "other"]


def test_failed_intent_is_tried_again_after_a_delay_and_nobody_else_gets_it(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    tries: list[int] = []

    def fail_once(intent: Intent) -> None:
        tries.append(intent.tries)
        if len(tries) == 1:
            raise UnavailableError("not now")

    other: list[str] = []
    with (
        dispatching(harness, fail_once, "one") as first,
        dispatching(harness, lambda intent: other.append(intent.subject), "two") as second,
    ):
        run_until_idle(first)
        harness.clock.set_wall_clock(TEN_MINUTES)
        assert first.run_once() == pytest.approx(1.0)
        run_until_idle(second)
        assert (tries, other) == ([1], [])
        harness.clock.advance(1)
        run_until_idle(first)
        assert tries == [1, 2]


def test_error_while_a_failure_is_recorded_is_logged_and_retried(
    harness: ControlPlaneHarness, caplog: pytest.LogCaptureFixture
) -> None:
    put(harness, "subject")

    def fail(intent: Intent) -> None:
        raise UnavailableError(f"{intent.subject} fails")

    def fail_to_record(intent: Intent, problem: str) -> bool:
        raise UnavailableError(f"the database is away: {intent.subject}: {problem}")

    dispatcher = OutboxDispatcher(
        harness.deps, timedelta(seconds=LEASE), fail, holder="one", after=lambda: None, on_failure=fail_to_record
    )
    run_until_idle(dispatcher)
    assert "outcome of an intent was not stored" in caplog.text
    harness.clock.advance(LEASE)
    caplog.clear()
    run_until_idle(dispatcher)
    assert "outcome of an intent was not stored" in caplog.text
    dispatcher.close()


class SlowRay:
    """Ray that does not start until a test lets it."""

    problem = "out of memory"

    def ensure(self) -> str:
        if self.problem:
            raise UnavailableError(self.problem)
        return "127.0.0.1:6379"

    def stop(self) -> None:
        self.problem = "stopped"


def test_run_that_waits_for_ray_uses_no_try_and_no_thread_and_shows_the_reason(ready: ControlPlaneHarness) -> None:
    starter = ready.jobs.ray_starter
    assert starter is not None
    starter._ray = SlowRay()
    job = ready.submit("ours", key="1")
    ready.jobs.admit()
    for _ in range(20):
        with pytest.raises(UnavailableError):
            starter.step()
        ready.worker.dispatcher.run_once()
        assert ready.worker.dispatcher.busy == []
        ready.clock.advance(61)
    shown = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()
    assert (shown["state"], shown["reason"]["code"]) == ("starting", "start_failed")
    assert "out of memory" in shown["reason"]["message"]
    with ready.database.read() as uow:
        assert [intent.tries for intent in [uow.outbox.next_due()] if intent] == [0]
    starter._ray.problem = ""
    ready.run_worker_once()
    assert ready.pipelines.submissions == [ready.simulated_run(job).name]


def test_run_that_the_back_end_lost_is_closed_and_its_gpus_are_freed(ready: ControlPlaneHarness) -> None:
    run = running(ready)
    pipelines: MemoryPipelines = ready.pipelines
    del pipelines.states[run.name], pipelines.contexts[run.name]
    ready.jobs.poll()
    ready.clock.advance(29)
    ready.jobs.poll()
    assert pipelines.poll(run.name).state is BackendState.UNKNOWN
    with ready.database.read() as uow:
        assert uow.all_projects().runs.get({"id": run.run}).ended_at is None
    assert pipelines.kills == []
    ready.clock.advance(1)
    ready.jobs.poll()
    assert pipelines.kills == [run.name]  # its trainer may run although the run is not known
    with ready.database.read() as uow:
        ended = uow.all_projects().runs.get({"id": run.run})
        assert (ended.state.value, uow.all_projects().jobs.get({"id": ended.job}).state.value) == ("lost", "queued")
    assert ready.client.get("/v1/pools/local").json()["in_use"] == 0


def test_unknown_run_with_a_standing_intent_is_not_lost(ready: ControlPlaneHarness) -> None:
    ready.submit("ours", key="1")
    ready.jobs.admit()
    for _ in range(3):
        ready.jobs.poll()
        ready.clock.advance(61)
    with ready.database.read() as uow:
        [run] = uow.all_projects().runs.all()
    assert run.ended_at is None
