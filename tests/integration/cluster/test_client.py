"""The client of windlass.kube against a real API server."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.cluster.installed import admin_client
from tests.integration.cluster.objects import namespace
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import apply, kubectl
from tests.testcluster.layout import LocalCluster

from windlass.kube import client as module
from windlass.kube.client import KubeClient
from windlass.kube.errors import (
    KubeConflictError,
    KubeForbiddenError,
    KubeInvalidError,
    KubeNotFoundError,
    ResourceExpiredError,
)
from windlass.kube.objects import Kind, Ref

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
NAMESPACE = "client-tests"
CONFIG = Kind("v1", "ConfigMap")


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[KubeClient]:
    apply(cluster, [namespace(NAMESPACE)])
    yield admin_client(cluster)
    kubectl(cluster, "delete", "namespace", NAMESPACE)


def config(name: str = "settings", labels: dict[str, str] | None = None, **data: str) -> Json:
    metadata: Json = {"name": name, "namespace": NAMESPACE} | ({"labels": labels} if labels else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


REF = Ref(CONFIG, "settings", NAMESPACE)


def test_applied_fields_are_owned_and_omitted_fields_are_removed(client: KubeClient) -> None:
    client.apply(config(a="1", b="2"), manager="us")
    client.apply(config(c="3"), manager="them")
    found = client.apply(config(a="9"), manager="us")
    assert found["data"] == {"a": "9", "c": "3"}


def test_another_managers_field_is_a_conflict_that_force_overrides(client: KubeClient) -> None:
    client.apply(config(a="1"), manager="them")
    with pytest.raises(KubeConflictError) as raised:
        client.apply(config(a="2"), manager="us")
    assert raised.value.managers == '.data.a: conflict with "them"'
    assert client.apply(config(a="2"), manager="us", force=True)["data"] == {"a": "2"}


def test_a_dry_run_returns_the_same_and_changes_nothing(client: KubeClient) -> None:
    assert client.apply(config(a="1"), manager="us", dry_run=True)["data"] == {"a": "1"}
    assert client.find(REF) is None
    wrong = config()
    wrong["data"] = {"a": 7}
    with pytest.raises(KubeInvalidError):
        client.apply(wrong, manager="us", dry_run=True)
    with pytest.raises(KubeInvalidError, match="not declared in schema"):
        client.apply(config() | {"dta": {}}, manager="us", dry_run=True)


def test_a_recreated_object_is_not_patched_by_the_old_uid(client: KubeClient) -> None:
    first = client.apply(config(a="1"), manager="us")
    uid = first["metadata"]["uid"]
    assert client.delete(REF, uid=uid)
    assert not client.delete(REF)
    with pytest.raises(KubeConflictError):
        client.apply({**config(a="3"), "metadata": {**config()["metadata"], "uid": uid}}, manager="us", force=True)
    assert client.find(REF) is None
    client.create(config(a="2"), manager="them")
    with pytest.raises(KubeConflictError):
        client.delete(REF, uid=uid)
    desired = config(a="3")
    desired["metadata"]["uid"] = uid
    with pytest.raises(KubeConflictError):
        client.apply(desired, manager="us", force=True)
    with pytest.raises(KubeConflictError):
        client.create(config(a="3"), manager="us")
    assert client.get(REF)["data"] == {"a": "2"}


def test_a_write_with_an_old_resource_version_is_a_conflict(client: KubeClient) -> None:
    old = client.create(config(a="1"), manager="us")
    client.patch(REF, {"data": {"b": "2"}}, manager="them")
    with pytest.raises(KubeConflictError):
        client.replace(old | {"data": {}}, manager="us")
    version = {"resourceVersion": old["metadata"]["resourceVersion"]}
    with pytest.raises(KubeConflictError):
        client.patch(REF, {"metadata": version, "data": {"c": "3"}}, manager="us")
    assert client.get(REF)["data"] == {"a": "1", "b": "2"}


def test_lists_are_read_in_pages(client: KubeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    for number in range(7):
        client.create(config(f"n{number}", {"odd": str(number % 2)}), manager="us")
    found = client.list(CONFIG, NAMESPACE, labels="odd=1").items
    assert [Ref.of(one) for one in found] == [Ref(CONFIG, f"n{number}", NAMESPACE) for number in (1, 3, 5)]
    assert {one["metadata"]["name"] for one in client.list(CONFIG, NAMESPACE).items} >= {f"n{n}" for n in range(7)}


def test_a_watch_reports_changes_after_the_list(client: KubeClient) -> None:
    listing = client.list(CONFIG, NAMESPACE, labels="watched=yes")
    events: list[tuple[str, str]] = []

    def watch() -> None:
        for change in client.watch(
            CONFIG, NAMESPACE, resource_version=listing.resource_version, labels="watched=yes", seconds=20
        ):
            events.append((change.type, change.object.get("data", {}).get("a", "")))
            if change.type == "DELETED":
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    client.create(config(labels={"watched": "yes"}, a="1"), manager="us")
    client.create(config("other", a="x"), manager="us")
    client.patch(REF, {"data": {"a": "2"}}, manager="us")
    client.delete(REF)
    eventually(lambda: not thread.is_alive(), "the watch has reported everything")
    assert [one for one in events if one[0] != "BOOKMARK"] == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_a_watch_ends_after_its_timeout(client: KubeClient) -> None:
    since = client.list(CONFIG, NAMESPACE).resource_version
    # Kubernetes creates a ConfigMap in each new namespace
    seen = client.watch(CONFIG, NAMESPACE, resource_version=since, labels="watched=yes", seconds=1)
    assert [one for one in seen if one.type != "BOOKMARK"] == []


def test_a_watch_from_an_expired_version_raises_gone(client: KubeClient) -> None:
    # The server caches a kind's changes from when it first served it: version 1 is too old for a CRD, but not for a
    # core kind of a new cluster.
    with pytest.raises(ResourceExpiredError):
        list(client.watch(Kind("kueue.x-k8s.io/v1beta2", "ClusterQueue"), resource_version="1", seconds=1))


def test_missing_rights_raise_forbidden(cluster: LocalCluster, client: KubeClient) -> None:
    unprivileged = admin_client(cluster, impersonate="nobody")
    with pytest.raises(KubeForbiddenError, match='User "nobody" cannot'):
        unprivileged.get(REF)
    with pytest.raises(KubeNotFoundError):
        client.get(REF)
