"""Queries are fetched on changes, rate-limited, and until their result is final."""

import threading
import time
from collections.abc import Hashable, Iterator

import pytest
from tests.unit.kube.test_kube_informer import eventually

from windlass.kube.cache.polling_cache import PollingCache
from windlass.kube.errors import KubeApiError, KubeNotFoundError, KubeUnavailableError


class FakeBackend:
    """Returns prepared results, and counts requests."""

    def __init__(self) -> None:
        self.requested: list[tuple[str, Hashable]] = []
        self.prepared: dict[str, str | KubeApiError] = {}
        self.final = True
        self.changes = 0

    def fetch(self, query: str, state: Hashable) -> tuple[str, bool]:
        self.requested.append((query, state))
        result = self.prepared.get(query, "yes")
        if isinstance(result, KubeApiError):
            raise result
        return result, self.final

    def on_change(self) -> None:
        self.changes += 1


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def cache(backend: FakeBackend) -> Iterator[PollingCache[str, str]]:
    cache: PollingCache[str, str] = PollingCache(backend.fetch, backend.on_change, name="poll oracle", per_second=200.0)
    cache.start()
    yield cache
    began = time.monotonic()
    cache.stop()
    assert time.monotonic() - began < 1
    assert not [one for one in threading.enumerate() if one.name == "poll oracle"]


def test_query_is_fetched_once_per_state(backend: FakeBackend, cache: PollingCache[str, str]) -> None:
    cache.set_queries({"a": 1, "b": 1})
    eventually(lambda: cache.results() == {"a": "yes", "b": "yes"})
    cache.set_queries({"a": 1, "b": 2})
    assert cache.results() == {"a": "yes"}, "what was answered to another state is not known"
    eventually(lambda: len(cache.results()) == 2)
    cache.set_queries({"a": 1})
    assert cache.results() == {"a": "yes"}
    time.sleep(0.1)
    assert sorted(backend.requested, key=str) == [("a", 1), ("b", 1), ("b", 2)]
    assert backend.changes == 3


def test_result_that_is_not_final_is_fetched_again(
    backend: FakeBackend, cache: PollingCache[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass.kube.cache.polling_cache._MIN_BACKOFF", 0.02)
    backend.final = False
    cache.set_queries({"a": 1})
    eventually(lambda: len(backend.requested) == 3)
    assert backend.changes == 1, "the same answer is no news"
    backend.prepared["a"], backend.final = "no", True
    eventually(lambda: cache.results() == {"a": "no"})
    count = len(backend.requested)
    time.sleep(0.2)
    assert len(backend.requested) == count


def test_queries_are_rate_limited(backend: FakeBackend) -> None:
    slow: PollingCache[str, str] = PollingCache(backend.fetch, backend.on_change, name="poll oracle", per_second=10.0)
    slow.start()
    slow.set_queries({str(number): 1 for number in range(100)})
    time.sleep(0.55)
    slow.stop()
    assert 2 <= len(backend.requested) <= 7


def test_failure_causes_backoff_and_not_found_does_not(
    backend: FakeBackend, cache: PollingCache[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.prepared = {"gone": KubeNotFoundError("no such queue")}
    cache.set_queries({"gone": 1, "a": 1})
    eventually(lambda: cache.results() == {"a": "yes"})
    monkeypatch.setattr("windlass.kube.cache.polling_cache._MIN_BACKOFF", 0.2)
    backend.prepared = {"b": KubeUnavailableError("try later")}
    cache.set_queries({"b": 1})
    eventually(lambda: ("b", 1) in backend.requested)
    backend.prepared = {}
    time.sleep(0.1)
    assert cache.results() == {}
    eventually(lambda: cache.results() == {"b": "yes"})
