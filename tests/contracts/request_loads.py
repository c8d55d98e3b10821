"""The contract of ``ports.RequestLoadStore`` in a transaction of ``ports.Database``."""

import contextlib
from collections.abc import Callable, Mapping

from windlass.domain.autoscaling import RequestLoad
from windlass.ports import Changes, Database, UnitOfWork


class RequestLoadStoreContract:
    """Subclasses provide the fixture ``database``; nothing is recorded."""

    @staticmethod
    def record(database: Database, instance: str, ongoing: Mapping[str, float]) -> None:
        with database.write() as uow:
            uow.request_loads.record(instance, ongoing)

    @staticmethod
    def loads(database: Database) -> dict[str, RequestLoad]:
        with database.read() as uow:
            return {load.instance: load for load in uow.request_loads.all()}

    def test_a_report_replaces_the_last_one_of_its_instance(self, database: Database) -> None:
        self.record(database, "api-1", {"a": 1.5, "b": 0.25})
        self.record(database, "api-2", {"a": 2.0})
        first = self.loads(database)
        self.record(database, "api-1", {"c": 3.0})
        second = self.loads(database)
        assert first["api-1"].ongoing == {"a": 1.5, "b": 0.25}
        assert second["api-1"].ongoing == {"c": 3.0}
        assert second["api-2"] == first["api-2"]

    def test_every_report_has_another_sequence_number(self, database: Database) -> None:
        """Also an equal one: a number that stays the same means that the instance has died."""
        numbers = []
        for _ in range(3):
            self.record(database, "api-1", {"a": 1.0})
            numbers.append(self.loads(database)["api-1"].sequence)
        assert numbers == sorted(set(numbers))

    def test_a_removed_report_is_gone_and_others_stay(self, database: Database) -> None:
        self.record(database, "api-1", {"a": 1.0})
        self.record(database, "api-2", {"a": 2.0})
        for _ in range(2):
            with database.write() as uow:
                uow.request_loads.remove("api-1")
        assert list(self.loads(database)) == ["api-2"]

    def test_a_report_is_rolled_back_with_its_transaction(self, database: Database) -> None:
        with contextlib.suppress(ZeroDivisionError), database.write() as uow:
            uow.request_loads.record("api-1", {"a": 1.0})
            _ = 1 / 0
        assert self.loads(database) == {}

    def test_a_subscriber_learns_of_reports_and_removals(self, database: Database) -> None:
        """It wakes the leader of the workers."""
        committed: list[set[type]] = []

        class Recorder:
            def prepare(self, uow: UnitOfWork, changes: Changes) -> Callable[[], None] | None:
                del uow
                committed.append(set(changes.kinds))
                return None

        database.add_commit_hook(Recorder())
        called: list[frozenset[type]] = []
        database.subscribe([RequestLoad], called.append)
        self.record(database, "api-1", {"a": 1.0})
        with database.write() as uow:
            uow.request_loads.remove("api-1")
        assert committed == [{RequestLoad}, {RequestLoad}]
        assert called == [{RequestLoad}, {RequestLoad}]
