"""A store is kept at the state of the cluster, whatever becomes of watches; over real sockets, which can be closed."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import pytest
from tests.unit.kube.watched_api import CONFIG, WatchedApi, running

from windlass.kube.objects import Kind
from windlass.kube.store import Store, without_managed_fields
from windlass.kube.watching import Health, Keeper, Pace, Source

QUICK = Pace(resync=60.0, silence=30.0, unserved=0.05, first_pause=0.02, longest_pause=0.1)


@pytest.fixture
def api() -> Iterator[WatchedApi]:
    with running() as found:
        yield found


class Kept:
    """A store that is kept, and the news of it."""

    def __init__(self, api: WatchedApi, pace: Pace = QUICK) -> None:
        self.store, self.news = Store(without_managed_fields), list[Kind]()
        self.keeper = Keeper(api.client, self.store, [Source(CONFIG)], self.news.append, pace)

    def __enter__(self) -> Self:
        self.keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.keeper.stop()
        assert not [one for one in threading.enumerate() if one.name.startswith("watch ")]

    @property
    def data(self) -> dict[str, dict[str, str]]:
        return {one["metadata"]["name"]: one["data"] for one in self.store.all(CONFIG)}

    @property
    def health(self) -> Health:
        return self.keeper.health()[CONFIG]


def eventually(there: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.005)


def test_what_is_listed_and_what_changes_since_is_known(api: WatchedApi) -> None:
    api.put("a", x="1")
    with Kept(api) as kept:
        eventually(lambda: len(api.watches) == 1)
        assert kept.data == {"a": {"x": "1"}}
        api.put("a", x="2")
        api.put("b", x="1")
        api.delete("a")
        eventually(lambda: kept.data == {"b": {"x": "1"}})
        assert (api.asked["list"], api.asked["watch"]) == (1, 1)
        assert len(kept.news) == 4
        assert kept.health[:2] == (True, True)


def test_an_empty_list_is_news_once_since_now_it_is_known(api: WatchedApi) -> None:
    with Kept(api) as kept:
        eventually(lambda: kept.news == [CONFIG])
        api.bookmark()
        api.put("a")
        eventually(lambda: len(kept.news) == 2)


def test_a_watch_that_ends_goes_on_where_it_was(api: WatchedApi) -> None:
    with Kept(api) as kept:
        eventually(lambda: len(api.watches) == 1)
        api.bookmark()
        last = str(api.version)
        api.end_watches()
        eventually(lambda: api.asked["watch"] == 2)
        assert api.since[-1] == last
        eventually(lambda: len(api.watches) == 1)
        api.put("a")
        eventually(lambda: "a" in kept.data)
        assert api.asked["list"] == 1


def test_who_comes_too_late_lists_again(api: WatchedApi) -> None:
    with Kept(api) as kept:
        eventually(lambda: len(api.watches) == 1)
        api.mute = True
        api.put("missed")
        api.forgotten = api.version
        api.mute = False
        api.end_watches()
        eventually(lambda: "missed" in kept.data)
        assert api.asked["list"] == 2


def test_a_server_that_forgets_at_once_is_not_asked_at_once_for_ever(api: WatchedApi) -> None:
    api.forgotten = 10**9
    with Kept(api, Pace(first_pause=0.2, longest_pause=0.2)) as kept:
        time.sleep(1.0)
        assert 2 <= api.asked["list"] <= 8
        assert "too old" in kept.health.problem
        api.forgotten = 0
        eventually(lambda: len(api.watches) == 1)
        api.bookmark()
        eventually(lambda: kept.health.problem == "")


def test_a_silent_watch_is_begun_again(api: WatchedApi) -> None:
    with Kept(api, Pace(silence=0.2)) as kept:
        eventually(lambda: len(api.watches) == 1)
        api.mute = True
        api.put("missed")
        eventually(lambda: "missed" in kept.data)
        eventually(lambda: api.asked["watch"] >= 3)
        assert api.asked["list"] == 1, "the server knows the version, and tells what is missing"
        assert kept.health.problem == ""
        assert kept.health.silent < 1


def test_bookmarks_keep_a_watch_alive(api: WatchedApi) -> None:
    with Kept(api, Pace(silence=0.5)):
        eventually(lambda: len(api.watches) == 1)
        for _ in range(10):
            time.sleep(0.1)
            api.bookmark()
        assert api.asked["watch"] == 1


def test_it_lists_from_time_to_time_whatever_the_watch_says(api: WatchedApi) -> None:
    with Kept(api, Pace(resync=0.5)) as kept:
        eventually(lambda: len(api.watches) == 1)
        api.put("a")
        eventually(lambda: "a" in kept.data)
        api.mute = True
        api.delete("a")
        # the server of this test does not keep to timeoutSeconds
        time.sleep(0.6)
        api.end_watches()
        eventually(lambda: kept.data == {})
        assert api.asked["list"] == 2


def test_a_kind_that_is_not_served_is_empty_and_looked_for_again(api: WatchedApi) -> None:
    api.served = False
    with Kept(api) as kept:
        eventually(lambda: kept.health[:2] == (True, False))
        assert kept.news == [CONFIG]
        api.put("a")
        api.served = True
        eventually(lambda: "a" in kept.data)
        assert kept.health[:2] == (True, True)
        api.served = False
        api.end_watches()
        eventually(lambda: kept.data == {})
        assert not kept.health.served


def test_after_failures_it_pauses_and_as_long_as_the_server_wants(api: WatchedApi) -> None:
    api.refusals = [(500, {}), (429, {"Retry-After": "1"}), (403, {})]
    began = time.monotonic()
    with Kept(api) as kept:
        eventually(lambda: kept.health.problem != "")
        assert not kept.health.read
        eventually(lambda: kept.health.read)
    assert time.monotonic() - began >= 1
    assert api.asked["list"] == 4


def test_nonsense_in_a_watch_ends_nothing(api: WatchedApi) -> None:
    with Kept(api) as kept:
        eventually(lambda: len(api.watches) == 1)
        api.say("<html>")
        eventually(lambda: len(api.since) == 2)
        api.say({"type": "ADDED", "object": {"metadata": {}}})
        eventually(lambda: len(api.since) == 3)
        api.put("a")
        eventually(lambda: "a" in kept.data)


def test_stopping_closes_a_watch_that_would_wait_for_long(api: WatchedApi) -> None:
    kept = Kept(api)
    kept.keeper.start()
    eventually(lambda: len(api.watches) == 1)
    began = time.monotonic()
    kept.keeper.stop()
    assert time.monotonic() - began < 1
    assert not [one for one in threading.enumerate() if one.name.startswith("watch ")]


def test_stopping_ends_a_pause(api: WatchedApi) -> None:
    api.refusals = [(429, {"Retry-After": "60"})]
    kept = Kept(api)
    kept.keeper.start()
    eventually(lambda: kept.health.problem != "")
    began = time.monotonic()
    kept.keeper.stop()
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_on_the_way_the_store_ends_as_the_server_is(api: WatchedApi, seed: int) -> None:
    chance = random.Random(seed)
    names = ["a", "b", "c"]
    pace = Pace(resync=60.0, silence=0.3, unserved=0.02, first_pause=0.01, longest_pause=0.05)

    def forget() -> None:
        api.forgotten = api.version
        api.end_watches()

    def refuse() -> None:
        api.refusals.append((chance.choice([429, 500, 503]), {}))
        api.end_watches()

    def hush() -> None:
        api.mute = not api.mute

    def vanish() -> None:
        api.served = not api.served
        api.end_watches()

    faults = [api.bookmark, api.end_watches, forget, refuse, hush, vanish]
    with Kept(api, pace) as kept:
        for number in range(60):
            name = chance.choice(names)
            if chance.random() < 0.3:
                chance.choice(faults)()
            elif name in api.objects and chance.random() < 0.4:
                api.delete(name)
            else:
                api.put(name, x=str(number))
            time.sleep(chance.choice([0, 0.001, 0.02]))
        api.mute, api.served = False, True
        expected = {name: one["data"] for name, one in api.objects.items()}
        eventually(lambda: kept.data == expected)
