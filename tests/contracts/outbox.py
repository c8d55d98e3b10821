"""The contract of ``ports.Outbox`` in a transaction of ``ports.Database``."""

import contextlib
from collections.abc import Callable
from datetime import timedelta

from tests.fakes.backends import FakeClock

from windlass.domain.records import Intent
from windlass.ports import Changes, Database, UnitOfWork

HOUR = timedelta(hours=1)


class OutboxContract:
    """Subclasses provide the fixtures ``database`` and ``clock``; the outbox is empty."""

    @staticmethod
    def put(
        database: Database, *subjects: str, kind: str = "k", project: str = "p", after: timedelta | None = None
    ) -> None:
        with database.write() as uow:
            for subject in subjects:
                uow.outbox.put(kind, project, subject, after or timedelta())

    @staticmethod
    def due(database: Database, **skip: object) -> Intent | None:
        with database.read() as uow:
            return uow.outbox.next_due(**skip)  # type: ignore[arg-type]  # the keyword arguments of the port

    def leased(self, database: Database, holder: str = "one") -> Intent:
        """Lease the next intent."""
        intent = self.due(database)
        assert intent is not None
        with database.write() as uow:
            leased = uow.outbox.lease(intent, holder)
        assert leased is not None
        return leased

    def test_intents_are_due_in_the_order_in_which_they_were_put(self, database: Database) -> None:
        self.put(database, "b", "a", "c")
        order = []
        while (intent := self.due(database)) is not None:
            order.append(intent.subject)
            leased = self.leased(database)
            with database.write() as uow:
                assert uow.outbox.complete(leased) is True
        assert order == ["b", "a", "c"]
        with database.read() as uow:
            assert (uow.outbox.subjects("k"), uow.outbox.leased(), uow.outbox.oldest()) == ([], [], None)

    def test_an_intent_is_rolled_back_with_its_transaction(self, database: Database) -> None:
        with contextlib.suppress(ZeroDivisionError), database.write() as uow:
            uow.outbox.put("k", "p", "a")
            _ = 1 / 0
        assert self.due(database) is None

    def test_a_commit_hook_learns_that_an_intent_was_put(self, database: Database) -> None:
        """The commit wakes the dispatcher; without it the intent waits for the next scan."""
        committed: list[set[type]] = []

        class Hook:
            def prepare(self, uow: UnitOfWork, changes: Changes) -> Callable[[], None]:
                del uow
                return lambda: committed.append(set(changes.kinds))

        database.add_commit_hook(Hook())
        self.put(database, "a")
        assert committed == [{Intent}]

    def test_a_waiting_intent_exists_once_and_keeps_its_time(self, database: Database, clock: FakeClock) -> None:
        self.put(database, "a", after=HOUR)
        clock.advance(1800)
        self.put(database, "a", after=HOUR)
        with database.read() as uow:
            assert uow.outbox.subjects("k") == ["a"]
        clock.advance(1800)
        assert self.due(database) is not None

    def test_kinds_and_queues_are_skipped(self, database: Database) -> None:
        self.put(database, "a", kind="k1", project="p1")
        self.put(database, "b", kind="k1", project="p2")
        self.put(database, "c", kind="k2", project="p1")

        def subject(**skip: object) -> str | None:
            intent = self.due(database, **skip)
            return intent.subject if intent else None

        assert subject() == "a"
        assert subject(skip_queues=[("k1", "p1")]) == "b"
        assert subject(skip_kinds=["k1"]) == "c"
        assert subject(skip_kinds=["k1"], skip_queues=[("k2", "p1")]) is None
        assert subject(skip_kinds=["k2"], skip_queues=[("k1", "p1"), ("k1", "p2")]) is None
        with database.read() as uow:
            assert (uow.outbox.subjects("k1"), uow.outbox.subjects("k2")) == (["a", "b"], ["c"])

    def test_a_delayed_intent_is_due_after_its_delay(self, database: Database, clock: FakeClock) -> None:
        self.put(database, "a", after=HOUR)
        began = clock.now()
        with database.read() as uow:
            assert (uow.outbox.next_due(), uow.outbox.oldest()) == (None, None)
            assert uow.outbox.next_due_at() == began + HOUR
        clock.advance(3599)
        assert self.due(database) is None
        clock.advance(1)
        assert self.due(database) is not None
        with database.read() as uow:
            assert (uow.outbox.next_due_at(), uow.outbox.oldest()) == (None, began + HOUR)

    def test_an_intent_without_a_delay_is_due_whatever_the_clock_does(
        self, database: Database, clock: FakeClock
    ) -> None:
        self.put(database, "a")
        put_at = clock.now()
        clock.set_wall_clock(-7200)
        assert self.due(database) is not None
        with database.read() as uow:
            assert uow.outbox.oldest() == put_at

    def test_a_leased_intent_is_not_due_and_counts_tries_and_fences(self, database: Database) -> None:
        self.put(database, "a")
        waiting = self.due(database)
        assert waiting is not None
        assert (waiting.tries, waiting.fence, waiting.holder, waiting.renewals) == (0, 0, None, 0)
        leased = self.leased(database)
        assert (leased.tries, leased.fence, leased.holder, leased.renewals) == (1, 1, "one", 0)
        assert self.due(database) is None
        with database.read() as uow:
            assert uow.outbox.leased() == [leased]
            assert uow.outbox.next_due_at() is None
        with database.write() as uow:
            again = uow.outbox.lease(leased, "two")
        assert again is not None
        assert (again.tries, again.fence, again.holder) == (2, 2, "two")

    def test_of_two_workers_that_saw_the_same_intent_one_leases_it(self, database: Database) -> None:
        self.put(database, "a")
        seen = self.due(database)
        assert seen is not None
        with database.write() as uow:
            assert uow.outbox.lease(seen, "one") is not None
        with database.write() as uow:
            assert uow.outbox.lease(seen, "two") is None

    def test_a_renewal_counts_and_is_reset_by_the_next_lease(self, database: Database) -> None:
        self.put(database, "a")
        leased = self.leased(database)
        for _ in range(2):
            with database.write() as uow:
                uow.outbox.renew([leased])
        with database.read() as uow:
            assert [intent.renewals for intent in uow.outbox.leased()] == [2]
        with database.write() as uow:
            again = uow.outbox.lease(leased, "two")
        assert again is not None
        assert again.renewals == 0

    def test_a_stale_holder_renews_and_completes_nothing(self, database: Database) -> None:
        self.put(database, "a")
        stale = self.leased(database)
        with database.write() as uow:
            new = uow.outbox.lease(stale, "two")
        assert new is not None
        with database.write() as uow:
            uow.outbox.renew([stale])
            assert uow.outbox.complete(stale) is False
        with database.read() as uow:
            assert uow.outbox.leased() == [new]
        with database.write() as uow:
            assert uow.outbox.complete(new) is True

    def test_an_intent_put_again_while_it_is_handled_is_due_afterwards(self, database: Database) -> None:
        self.put(database, "a", "b")
        leased = self.leased(database)
        self.put(database, "a")
        with database.write() as uow:
            assert uow.outbox.complete(leased) is False
        again = self.due(database)
        assert again is not None
        assert (again.subject, again.tries, again.holder) == ("a", 0, None)
        again = self.leased(database)
        with database.write() as uow:
            assert uow.outbox.complete(again) is True
        with database.read() as uow:
            assert uow.outbox.subjects("k") == ["b"]
