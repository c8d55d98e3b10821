"""The informer keeps a store in sync despite failing watches; over real sockets, which can be closed."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import pytest
from tests.unit.kube.watched_api import CONFIG, WatchedApi, running

from windlass.kube.cache.informer import InformerHandlers, SharedInformer, WatchStatus, WatchTarget, WatchTimings
from windlass.kube.cache.store import Change, Store
from windlass.kube.cache.transform import strip_managed_fields
from windlass.kube.objects import Kind

QUICK = WatchTimings(resync=60.0, idle_timeout=30.0, unserved_retry=0.05, min_backoff=0.02, max_backoff=0.1)


@pytest.fixture
def api() -> Iterator[WatchedApi]:
    with running() as found:
        yield found


class InformerHarness:
    """An informer with its store and the reported changes."""

    def __init__(self, api: WatchedApi, timings: WatchTimings = QUICK) -> None:
        self.store, self.changes, self.synced = Store(strip_managed_fields), list[Change](), list[Kind]()
        self.missed = 0
        handlers = InformerHandlers(self.changes.append, self.synced.append, self.on_missed)
        self.informer = SharedInformer(api.client, self.store, [WatchTarget(CONFIG)], handlers, timings)

    def on_missed(self, count: int) -> None:
        self.missed += count

    def __enter__(self) -> Self:
        self.informer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.informer.stop()
        assert not [one for one in threading.enumerate() if one.name.startswith("watch ")]

    @property
    def data(self) -> dict[str, dict[str, str]]:
        return {one["metadata"]["name"]: one["data"] for one in self.store.all(CONFIG)}

    @property
    def health(self) -> WatchStatus:
        return self.informer.status()[CONFIG]


def eventually(there: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.005)


def test_store_has_listed_objects_and_later_changes(api: WatchedApi) -> None:
    api.put("a", x="1")
    with InformerHarness(api) as harness:
        eventually(lambda: len(api.watches) == 1)
        assert harness.data == {"a": {"x": "1"}}
        api.put("a", x="2")
        api.put("b", x="1")
        api.delete("a")
        eventually(lambda: harness.data == {"b": {"x": "1"}})
        assert (api.requested["list"], api.requested["watch"]) == (1, 1)
        seen = [(one.ref.name, one.before is None, one.after is None) for one in harness.changes]
        assert seen == [("a", True, False), ("a", False, False), ("b", True, False), ("a", False, True)]
        assert (harness.synced, harness.missed) == ([CONFIG], 0)
        assert harness.health[:2] == (True, True)


def test_first_empty_list_is_reported(api: WatchedApi) -> None:
    with InformerHarness(api) as harness:
        eventually(lambda: harness.synced == [CONFIG])
        assert harness.changes == []
        api.bookmark()
        api.put("a")
        eventually(lambda: len(harness.changes) == 1)
        assert harness.synced == [CONFIG]


def test_ended_watch_resumes_at_its_version(api: WatchedApi) -> None:
    with InformerHarness(api) as harness:
        eventually(lambda: len(api.watches) == 1)
        api.bookmark()
        last = str(api.version)
        api.end_watches()
        eventually(lambda: api.requested["watch"] == 2)
        assert api.since[-1] == last
        eventually(lambda: len(api.watches) == 1)
        api.put("a")
        eventually(lambda: "a" in harness.data)
        assert api.requested["list"] == 1


def test_expired_version_causes_a_list(api: WatchedApi) -> None:
    with InformerHarness(api) as harness:
        eventually(lambda: len(api.watches) == 1)
        api.drop_events = True
        api.put("missed")
        api.expired_before = api.version
        api.drop_events = False
        api.end_watches()
        eventually(lambda: "missed" in harness.data)
        assert api.requested["list"] == 2
        assert harness.missed == 0, "the watch could not report what happened after its version had expired"


def test_repeatedly_expired_version_causes_backoff(api: WatchedApi) -> None:
    api.expired_before = 10**9
    with InformerHarness(api, WatchTimings(min_backoff=0.2, max_backoff=0.2)) as harness:
        time.sleep(1.0)
        assert 2 <= api.requested["list"] <= 8
        assert "too old" in harness.health.error
        api.expired_before = 0
        eventually(lambda: len(api.watches) == 1)
        api.bookmark()
        eventually(lambda: harness.health.error == "")


def test_idle_watch_is_restarted(api: WatchedApi) -> None:
    with InformerHarness(api, WatchTimings(idle_timeout=0.2)) as harness:
        eventually(lambda: len(api.watches) == 1)
        api.drop_events = True
        api.put("missed")
        eventually(lambda: "missed" in harness.data)
        eventually(lambda: api.requested["watch"] >= 3)
        assert api.requested["list"] == 1, "the server knows the version, and sends the missed events"
        assert harness.health.error == ""
        assert harness.health.idle_seconds < 1


def test_bookmarks_keep_a_watch_alive(api: WatchedApi) -> None:
    with InformerHarness(api, WatchTimings(idle_timeout=0.5)):
        eventually(lambda: len(api.watches) == 1)
        for _ in range(10):
            time.sleep(0.1)
            api.bookmark()
        assert api.requested["watch"] == 1


def test_periodic_resync_lists_again(api: WatchedApi) -> None:
    with InformerHarness(api, WatchTimings(resync=0.5)) as harness:
        eventually(lambda: len(api.watches) == 1)
        api.put("a")
        eventually(lambda: "a" in harness.data)
        api.drop_events = True
        api.delete("a")
        # the server of this test does not keep to timeoutSeconds
        time.sleep(0.6)
        api.end_watches()
        eventually(lambda: harness.data == {})
        assert api.requested["list"] == 2
        assert harness.missed == 1


def test_unserved_kind_is_empty_and_retried(api: WatchedApi) -> None:
    api.served = False
    with InformerHarness(api) as harness:
        eventually(lambda: harness.health[:2] == (True, False))
        assert harness.synced == [CONFIG]
        api.put("a")
        api.served = True
        eventually(lambda: "a" in harness.data)
        assert harness.health[:2] == (True, True)
        api.served = False
        api.end_watches()
        eventually(lambda: harness.data == {})
        assert not harness.health.served
        eventually(lambda: harness.synced == [CONFIG] * 3)
        assert harness.missed == 0, "a kind that is removed is no missed event"


def test_failures_cause_backoff_of_at_least_retry_after(api: WatchedApi) -> None:
    api.refusals = [(500, {}), (429, {"Retry-After": "1"}), (403, {})]
    began = time.monotonic()
    with InformerHarness(api) as harness:
        eventually(lambda: harness.health.error != "")
        assert not harness.health.synced
        eventually(lambda: harness.health.synced)
    assert time.monotonic() - began >= 1
    assert api.requested["list"] == 4


def test_malformed_watch_data_does_not_end_the_thread(api: WatchedApi) -> None:
    with InformerHarness(api) as harness:
        eventually(lambda: len(api.watches) == 1)
        api.send("<html>")
        eventually(lambda: len(api.since) == 2)
        api.send({"type": "ADDED", "object": {"metadata": {}}})
        eventually(lambda: len(api.since) == 3)
        api.put("a")
        eventually(lambda: "a" in harness.data)


def test_stop_closes_an_open_watch(api: WatchedApi) -> None:
    harness = InformerHarness(api)
    harness.informer.start()
    eventually(lambda: len(api.watches) == 1)
    began = time.monotonic()
    harness.informer.stop()
    assert time.monotonic() - began < 1
    assert not [one for one in threading.enumerate() if one.name.startswith("watch ")]


def test_stop_ends_a_backoff(api: WatchedApi) -> None:
    api.refusals = [(429, {"Retry-After": "60"})]
    harness = InformerHarness(api)
    harness.informer.start()
    eventually(lambda: harness.health.error != "")
    began = time.monotonic()
    harness.informer.stop()
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("seed", range(8))
def test_store_converges_to_the_server_state(api: WatchedApi, seed: int) -> None:
    chance = random.Random(seed)
    names = ["a", "b", "c"]
    timings = WatchTimings(resync=60.0, idle_timeout=0.3, unserved_retry=0.02, min_backoff=0.01, max_backoff=0.05)

    def forget() -> None:
        api.expired_before = api.version
        api.end_watches()

    def refuse() -> None:
        api.refusals.append((chance.choice([429, 500, 503]), {}))
        api.end_watches()

    def hush() -> None:
        api.drop_events = not api.drop_events

    def vanish() -> None:
        api.served = not api.served
        api.end_watches()

    faults = [api.bookmark, api.end_watches, forget, refuse, hush, vanish]
    with InformerHarness(api, timings) as harness:
        for number in range(60):
            name = chance.choice(names)
            if chance.random() < 0.3:
                chance.choice(faults)()
            elif name in api.objects and chance.random() < 0.4:
                api.delete(name)
            else:
                api.put(name, x=str(number))
            time.sleep(chance.choice([0, 0.001, 0.02]))
        api.drop_events, api.served = False, True
        expected = {name: one["data"] for name, one in api.objects.items()}
        eventually(lambda: harness.data == expected)
