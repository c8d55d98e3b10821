"""Deadlines, retries and thread limits of one dispatcher, and its metrics."""

from collections.abc import Collection
from concurrent.futures import wait
from datetime import timedelta
from threading import Event

import pytest
from tests.fakes.harness import ControlPlaneHarness, run_until_idle
from tests.integration.api.test_leases import LEASE, Blocker, dispatching, lost_leases, put

from windlass.domain.errors import UnavailableError
from windlass.domain.records import Intent
from windlass_api.metrics import REGISTRY
from windlass_api.outbox_dispatcher import OutboxDispatcher

RENEWAL = LEASE / 3
"""Seconds between renewals."""


class Failing:
    """A handler that fails, and counts its calls."""

    def __init__(self, *subjects: str) -> None:
        self.subjects = subjects
        self.calls = 0

    def __call__(self, intent: Intent) -> None:
        if not self.subjects or intent.subject in self.subjects:
            self.calls += 1
            raise UnavailableError("not now")


class FailingFirst:
    """A handler that fails for ``subject`` until ``works`` is set, and blocks for the others."""

    def __init__(self, subject: str) -> None:
        self.subject, self.blocker, self.works = subject, Blocker(), False

    def __call__(self, intent: Intent) -> None:
        if intent.subject != self.subject:
            self.blocker(intent)
        elif not self.works:
            raise UnavailableError("not now")


def leased(harness: ControlPlaneHarness) -> dict[str, Intent]:
    with harness.database.read() as uow:
        return {intent.subject: intent for intent in uow.outbox.leased()}


def lease_all(harness: ControlPlaneHarness, holder: str) -> None:
    with harness.database.write() as uow:
        while (intent := uow.outbox.next_due()) is not None:
            assert uow.outbox.lease(intent, holder) is not None


def intents(kind: str, outcome: str) -> float:
    return REGISTRY.get_sample_value("windlass_intents_total", {"kind": kind, "outcome": outcome}) or 0.0


def ignore(intent: Intent) -> None:
    del intent


# ---------------------------------------------------------------- deadlines


def test_a_dispatcher_without_intents_has_no_deadline_and_writes_nothing(
    harness: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dispatching(harness, ignore, "one") as dispatcher:
        monkeypatch.delattr(type(harness.database), "write")
        assert dispatcher.run_once() is None
        harness.clock.advance(LEASE)
        assert dispatcher.run_once() is None


def test_the_deadline_is_that_of_a_delayed_intent_or_of_the_next_renewal(harness: ControlPlaneHarness) -> None:
    blocker = Blocker()
    with dispatching(harness, blocker, "one") as dispatcher:
        with harness.database.write() as uow:
            uow.outbox.put("later", "p", "later", timedelta(seconds=RENEWAL + 1))
        assert dispatcher.run_once() == RENEWAL + 1
        put(harness, "now")
        assert dispatcher.run_once() == RENEWAL
        blocker.wait_for(1)
        harness.clock.advance(5)
        assert dispatcher.run_once() == RENEWAL - 5
        harness.clock.advance(RENEWAL - 5)
        assert dispatcher.run_once() == 1, "of the delayed intent; the next renewal is later"
        blocker.release.set()


def test_a_lease_is_renewed_three_times_in_its_duration_and_not_more_often(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    blocker = Blocker()
    with dispatching(harness, blocker, "one") as dispatcher:
        dispatcher.run_once()
        blocker.wait_for(1)
        renewals = []
        for seconds in (RENEWAL - 1, 1, RENEWAL - 1, 1):
            harness.clock.advance(seconds)
            for _ in range(2):
                dispatcher.run_once()
            renewals.append(leased(harness)["subject"].renewals)
        assert renewals == [0, 1, 1, 2]
        blocker.release.set()


def test_a_worker_looks_at_the_leases_of_others_as_often_as_they_are_renewed(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    lease_all(harness, "other")
    with dispatching(harness, ignore, "one") as dispatcher:
        assert dispatcher.run_once() == RENEWAL


def test_the_dispatcher_is_called_after_each_intent(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    called = Event()
    with dispatching(harness, ignore, "one", after=called.set) as dispatcher:
        dispatcher.run_once()
        assert called.wait(20)


def test_nothing_is_left_of_a_finished_intent(harness: ControlPlaneHarness, caplog: pytest.LogCaptureFixture) -> None:
    put(harness, "subject")
    with dispatching(harness, ignore, "one") as dispatcher:
        run_until_idle(dispatcher)
        assert (dispatcher.run_once(), leased(harness)) == (None, {})
    assert "intent" not in caplog.text


def test_a_closed_dispatcher_starts_no_intent(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    with dispatching(harness, ignore, "one") as dispatcher:
        dispatcher.close()
        with pytest.raises(RuntimeError, match="shutdown"):
            dispatcher.run_once()


# ---------------------------------------------------------------- retries


def test_the_delay_of_a_retry_grows_to_a_minute(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    failing = Failing()
    with dispatching(harness, failing, "one") as dispatcher:
        for calls, delay in enumerate((1, 2, 5, 15, 60, 60, 60), start=1):
            run_until_idle(dispatcher)
            assert failing.calls == calls
            harness.clock.advance(delay - 0.5)
            run_until_idle(dispatcher)
            assert failing.calls == calls
            harness.clock.advance(0.5)


def test_an_intent_that_is_given_up_is_completed(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    failing, problems = Failing(), []

    def give_up(intent: Intent, problem: str) -> bool:
        problems.append((intent.subject, problem))
        return intent.tries == 2

    with dispatching(harness, failing, "one", on_failure=give_up) as dispatcher:
        for _ in range(4):
            run_until_idle(dispatcher)
            harness.clock.advance(LEASE)
        assert dispatcher.run_once() is None
    assert problems == [("subject", "not now")] * 2
    assert failing.calls == 2
    with harness.database.read() as uow:
        assert uow.outbox.oldest() is None


def test_a_failure_that_cannot_be_recorded_is_retried_after_the_delay(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    failing = Failing()

    def fail_to_record(intent: Intent, problem: str) -> bool:
        raise UnavailableError(f"the database is away: {intent.subject}: {problem}")

    with dispatching(harness, failing, "one", on_failure=fail_to_record) as dispatcher:
        dispatcher.run_once()
        for _ in range(3):
            wait(dispatcher.busy)
            assert dispatcher.run_once() == 1
        assert failing.calls == 1
        harness.clock.advance(1)
        dispatcher.run_once()
        wait(dispatcher.busy)
        assert failing.calls == 2


def test_a_retry_of_a_paused_kind_waits_without_a_deadline_of_its_own(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    failing = Failing()
    paused: list[str] = []
    with dispatching(harness, failing, "one", paused_kinds=lambda: paused) as dispatcher:
        run_until_idle(dispatcher)
        paused.append("kind")
        harness.clock.advance(1)
        for _ in range(3):
            assert dispatcher.run_once() == RENEWAL - 1
        assert dispatcher.busy == []
        assert leased(harness)["subject"].tries == 1
        paused.clear()
        run_until_idle(dispatcher)
        assert failing.calls == 2


@pytest.mark.parametrize(
    "others",
    [
        [("k1", "p"), ("k2", "p"), ("k3", "p"), ("k4", "p")],
        [("kind", "p1"), ("kind", "p2")],
        [("kind", "project of retried")],
    ],
    ids=["all threads", "the threads of its kind", "its queue"],
)
def test_a_retry_waits_until_there_is_a_thread_for_it(
    harness: ControlPlaneHarness, others: list[tuple[str, str]]
) -> None:
    put(harness, "retried")
    handle = FailingFirst("retried")
    with dispatching(harness, handle, "one") as dispatcher:
        run_until_idle(dispatcher)
        for kind, project in others:
            put(harness, f"{kind} of {project}", kind=kind, project=project)
        dispatcher.run_once()
        handle.blocker.wait_for(len(others))
        harness.clock.advance(1)
        dispatcher.run_once()
        assert len(dispatcher.busy) == len(others)
        assert leased(harness)["retried"].tries == 1
        handle.works = True
        handle.blocker.release.set()
        run_until_idle(dispatcher)
    assert leased(harness) == {}


def test_a_retry_that_another_worker_has_taken_over_is_dropped(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    failing, blocker = Failing(), Blocker()
    with dispatching(harness, failing, "one") as first, dispatching(harness, blocker, "two") as second:
        run_until_idle(first)
        second.run_once()
        harness.clock.advance(LEASE)  # the first worker was suspended
        second.run_once()
        blocker.wait_for(1)
        assert first.run_once() == RENEWAL
        assert (first.busy, failing.calls) == ([], 1)
        blocker.release.set()
        run_until_idle(second)
        assert first.run_once() is None


# ---------------------------------------------------------------- limits, leases and metrics


def test_at_most_four_intents_are_handled_at_a_time(harness: ControlPlaneHarness) -> None:
    for number in range(6):
        put(harness, f"s{number}", kind=f"k{number}")
    blocker = Blocker()
    with dispatching(harness, blocker, "one") as dispatcher:
        dispatcher.run_once()
        blocker.wait_for(4)
        dispatcher.run_once()
        assert sorted(leased(harness)) == ["s0", "s1", "s2", "s3"]
        blocker.release.set()
        run_until_idle(dispatcher)
        assert len(blocker.handled) == 6


def test_leases_of_a_worker_before_its_restart_use_the_threads_of_their_kind_and_are_not_lost(
    harness: ControlPlaneHarness,
) -> None:
    put(harness, "a", "b", "c")
    lease_all(harness, "one")
    blocker, lost = Blocker(), lost_leases()
    with dispatching(harness, blocker, "one") as dispatcher:
        dispatcher.run_once()
        blocker.wait_for(2)
        assert {subject: intent.tries for subject, intent in leased(harness).items()} == {"a": 2, "b": 2, "c": 1}
        blocker.release.set()
        run_until_idle(dispatcher)
        assert sorted(blocker.handled) == ["a", "b", "c"]
    assert lost_leases() == lost


def test_of_two_workers_that_find_an_expired_lease_one_takes_it_over(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    lease_all(harness, "gone")
    blocker, lost = Blocker(), lost_leases()
    with dispatching(harness, blocker, "two") as second:

        def run_second() -> Collection[str]:
            """The second worker runs between the two transactions of the first one."""
            second.run_once()
            return ()

        with dispatching(harness, ignore, "one", paused_kinds=run_second) as first:
            first.run_once()
            harness.clock.advance(LEASE)
            first.run_once()
            assert first.busy == []
        blocker.wait_for(1)
        blocker.release.set()
        run_until_idle(second)
    assert lost_leases() == lost + 1
    assert blocker.handled == ["subject"]


def test_a_lease_that_was_taken_over_is_not_observed_any_more(harness: ControlPlaneHarness) -> None:
    put(harness, "subject")
    lease_all(harness, "gone")
    intent = leased(harness)["subject"]

    def seconds_observed(dispatcher: OutboxDispatcher) -> float:
        value = intent.fence, intent.renewals
        return dispatcher._deps.leases.seconds_unchanged(("intent", intent.id), value, harness.clock.monotonic())

    with dispatching(harness, ignore, "one") as dispatcher:
        dispatcher.run_once()
        harness.clock.advance(LEASE)
        assert seconds_observed(dispatcher) == LEASE
        run_until_idle(dispatcher)
        assert seconds_observed(dispatcher) == 0


def test_intents_are_counted_by_kind_and_outcome(harness: ControlPlaneHarness) -> None:
    put(harness, "fails", "works", kind="counted", project="p")
    done, failed = intents("counted", "done"), intents("counted", "failed")
    failing = Failing("fails")
    with dispatching(harness, failing, "one") as dispatcher:
        run_until_idle(dispatcher)
        harness.clock.advance(1)
        run_until_idle(dispatcher)
    assert failing.calls == 2
    assert (intents("counted", "done"), intents("counted", "failed")) == (done + 1, failed + 2)
