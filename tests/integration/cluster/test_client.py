"""The client of windlass.kube against a real API server."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.bed.cluster_api import apply, kubectl
from tests.bed.layout import Bed
from tests.integration.cluster.installed import admin_of
from tests.integration.cluster.objects import namespace
from tests.integration.cluster.waiting import eventually

from windlass.kube import client as module
from windlass.kube.client import Client
from windlass.kube.errors import ConflictError, ExpiredError, ForbiddenError, InvalidError, NotFoundError
from windlass.kube.objects import Kind, Ref

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
SPACE = "client-tests"
CONFIG = Kind("v1", "ConfigMap")


@pytest.fixture
def client(cluster: Bed) -> Iterator[Client]:
    apply(cluster, [namespace(SPACE)])
    yield admin_of(cluster)
    kubectl(cluster, "delete", "namespace", SPACE)


def config(name: str = "settings", labels: dict[str, str] | None = None, **data: str) -> Json:
    metadata: Json = {"name": name, "namespace": SPACE} | ({"labels": labels} if labels else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


REF = Ref(CONFIG, "settings", SPACE)


def test_what_is_applied_is_owned_and_what_is_no_longer_wished_is_removed(client: Client) -> None:
    client.apply(config(a="1", b="2"), manager="us")
    client.apply(config(c="3"), manager="them")
    found = client.apply(config(a="9"), manager="us")
    assert found["data"] == {"a": "9", "c": "3"}


def test_another_managers_field_is_a_conflict_that_names_him_and_force_takes_it(client: Client) -> None:
    client.apply(config(a="1"), manager="them")
    with pytest.raises(ConflictError) as raised:
        client.apply(config(a="2"), manager="us")
    assert raised.value.managers == '.data.a: conflict with "them"'
    assert client.apply(config(a="2"), manager="us", force=True)["data"] == {"a": "2"}


def test_a_dry_run_says_the_same_and_leaves_nothing(client: Client) -> None:
    assert client.apply(config(a="1"), manager="us", dry_run=True)["data"] == {"a": "1"}
    assert client.find(REF) is None
    wrong = config()
    wrong["data"] = {"a": 7}
    with pytest.raises(InvalidError):
        client.apply(wrong, manager="us", dry_run=True)
    with pytest.raises(InvalidError, match="not declared in schema"):
        client.apply(config() | {"dta": {}}, manager="us", dry_run=True)


def test_an_object_of_the_same_name_is_not_taken_for_the_one_that_was_meant(client: Client) -> None:
    first = client.apply(config(a="1"), manager="us")
    uid = first["metadata"]["uid"]
    assert client.delete(REF, uid=uid)
    assert not client.delete(REF)
    with pytest.raises(ConflictError):
        client.apply({**config(a="3"), "metadata": {**config()["metadata"], "uid": uid}}, manager="us", force=True)
    assert client.find(REF) is None
    client.create(config(a="2"), manager="them")
    with pytest.raises(ConflictError):
        client.delete(REF, uid=uid)
    wish = config(a="3")
    wish["metadata"]["uid"] = uid
    with pytest.raises(ConflictError):
        client.apply(wish, manager="us", force=True)
    with pytest.raises(ConflictError):
        client.create(config(a="3"), manager="us")
    assert client.get(REF)["data"] == {"a": "2"}


def test_a_write_into_an_old_version_is_a_conflict(client: Client) -> None:
    old = client.create(config(a="1"), manager="us")
    client.patch(REF, {"data": {"b": "2"}}, manager="them")
    with pytest.raises(ConflictError):
        client.replace(old | {"data": {}}, manager="us")
    version = {"resourceVersion": old["metadata"]["resourceVersion"]}
    with pytest.raises(ConflictError):
        client.patch(REF, {"metadata": version, "data": {"c": "3"}}, manager="us")
    assert client.get(REF)["data"] == {"a": "1", "b": "2"}


def test_lists_are_read_page_by_page_and_say_what_they_hold(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    for number in range(7):
        client.create(config(f"n{number}", {"odd": str(number % 2)}), manager="us")
    found = client.list(CONFIG, SPACE, labels="odd=1").items
    assert [Ref.of(one) for one in found] == [Ref(CONFIG, f"n{number}", SPACE) for number in (1, 3, 5)]
    assert {one["metadata"]["name"] for one in client.list(CONFIG, SPACE).items} >= {f"n{n}" for n in range(7)}


def test_a_watch_tells_what_happens_after_a_list(client: Client) -> None:
    listing = client.list(CONFIG, SPACE, labels="watched=yes")
    told: list[tuple[str, str]] = []

    def watch() -> None:
        for change in client.watch(CONFIG, SPACE, since=listing.resource_version, labels="watched=yes", seconds=20):
            told.append((change.type, change.object.get("data", {}).get("a", "")))
            if change.type == "DELETED":
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    client.create(config(labels={"watched": "yes"}, a="1"), manager="us")
    client.create(config("other", a="x"), manager="us")
    client.patch(REF, {"data": {"a": "2"}}, manager="us")
    client.delete(REF)
    eventually(lambda: not thread.is_alive(), "the watch has told all")
    assert [one for one in told if one[0] != "BOOKMARK"] == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_a_watch_ends_when_its_time_is_over(client: Client) -> None:
    since = client.list(CONFIG, SPACE).resource_version
    # the cluster itself puts a ConfigMap into each new namespace
    seen = client.watch(CONFIG, SPACE, since=since, labels="watched=yes", seconds=1)
    assert [one for one in seen if one.type != "BOOKMARK"] == []


def test_who_watches_from_long_ago_must_list_again(client: Client) -> None:
    # The server keeps the changes of a kind from the moment that it first served it. A core kind of a young cluster has
    # them from version 1; one whose definition came later never does.
    with pytest.raises(ExpiredError):
        list(client.watch(Kind("kueue.x-k8s.io/v1beta2", "ClusterQueue"), since="1", seconds=1))


def test_who_may_not_is_told_so(cluster: Bed, client: Client) -> None:
    nobody = admin_of(cluster, impersonate="nobody")
    with pytest.raises(ForbiddenError, match='User "nobody" cannot'):
        nobody.get(REF)
    with pytest.raises(NotFoundError):
        client.get(REF)
