"""Objects that our models reject: they can be deleted, with their own children only."""

from datetime import UTC, datetime
from typing import Any

import pytest

from windlass.kube.cache.store import Store
from windlass.kube.cache.transform import transform_for_operators
from windlass.kube.client import KubeClient
from windlass.kube.names import CLOSED_ANNOTATION, FINALIZER, MANAGED_BY, OWNER, PROJECT_UID_LABEL
from windlass.kube.objects import Kind, Object, ObjectList, Ref
from windlass_operators.cluster_cache import ClusterCache
from windlass_operators.handlers import Reconciler
from windlass_operators.kinds import CLUSTER_QUEUE, NAMESPACE, POOL, PROJECT, WORKLOAD
from windlass_operators.render.network import PlatformNetwork
from windlass_operators.work_queue import Key

Json = dict[str, Any]
UID = "odd-uid"


class FakeClient(KubeClient):
    """Stores objects in memory and applies changes at once."""

    def __init__(self, *objects: Object) -> None:
        self.objects = {Ref.of(one): one for one in objects}
        self.deleted: list[str] = []
        self.finalizers: list[str] | None = None
        self.status_message = ""

    def find(self, ref: Ref) -> Object | None:
        return self.objects.get(ref)

    def list(self, kind: Kind, namespace: str | None = None, **_: Any) -> ObjectList:
        found = [one for ref, one in self.objects.items() if ref.kind == kind]
        return ObjectList([one for one in found if namespace in {None, one["metadata"].get("namespace")}], "1")

    def delete(self, ref: Ref, *, uid: str | None = None, **_: Any) -> bool:
        assert uid == self.objects[ref]["metadata"]["uid"]
        self.deleted.append(str(ref))
        del self.objects[ref]
        return True

    def patch(self, ref: Ref, fields: Object, **_: Any) -> Object:
        if "finalizers" in fields["metadata"]:
            self.finalizers = fields["metadata"]["finalizers"]
        else:
            self.objects[ref]["metadata"].setdefault("annotations", {}).update(fields["metadata"]["annotations"])
        return fields

    def apply(self, manifest: Object, **_: Any) -> Object:
        [ready] = manifest["status"]["conditions"]
        self.status_message = f"{ready['reason']}: {ready['message']}"
        return manifest | {"metadata": manifest["metadata"] | {"resourceVersion": "2"}}

    def create(self, manifest: Object, **_: Any) -> Object:
        return manifest


def invalid(kind: Kind = PROJECT, *, deleted: bool = True, **spec: Any) -> Object:
    metadata: Json = {"name": "odd", "uid": UID, "resourceVersion": "1", "generation": 2, "finalizers": [FINALIZER]}
    if deleted:
        metadata["deletionTimestamp"] = "2026-11-22T10:00:00Z"
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": metadata,
        "spec": {"members": "nobody", "nodeLabels": "none"} | spec,
    }


def space(uid: str = UID) -> Object:
    labels = {MANAGED_BY: OWNER, PROJECT_UID_LABEL: uid}
    metadata = {"name": "wl-odd", "uid": "n", "labels": labels, "annotations": {CLOSED_ANNOTATION: "true"}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def queue(uid: str = UID) -> Object:
    metadata = {"name": f"odd.{uid}", "uid": f"q-{uid}", "ownerReferences": [{"uid": uid, "controller": True}]}
    return {"apiVersion": CLUSTER_QUEUE.api_version, "kind": CLUSTER_QUEUE.kind, "metadata": metadata}


def workload() -> Object:
    metadata = {"name": "runs", "namespace": "wl-odd", "uid": "w"}
    return {"apiVersion": WORKLOAD.api_version, "kind": WORKLOAD.kind, "metadata": metadata}


def reconcile_once(server: FakeClient, raw: Object, *others: Object) -> float | None:
    store = Store(transform_for_operators)
    for one in (raw, *others):
        store.put(one)
    cache = ClusterCache(store, lambda: datetime.now(UTC))
    reconciler = Reconciler(server, cache, lambda: datetime.now(UTC), PlatformNetwork())
    return reconciler.reconcile(Key(Kind.of(raw), raw["metadata"]["name"]))


def test_invalid_resource_and_its_children_stay() -> None:
    server = FakeClient(space(), queue())
    assert reconcile_once(server, invalid(deleted=False)) is None
    assert server.deleted == []
    assert server.status_message.startswith("Malformed: ")


def test_deletion_removes_the_namespace_and_then_the_queues() -> None:
    server = FakeClient(space(), queue(), queue("another"))
    assert reconcile_once(server, invalid())
    assert server.deleted == [str(Ref(NAMESPACE, "wl-odd"))]
    assert server.status_message.startswith("Deleting: ")
    assert server.finalizers is None
    reconcile_once(server, invalid())
    assert server.deleted[1:] == [str(Ref(CLUSTER_QUEUE, f"odd.{UID}"))]
    assert reconcile_once(server, invalid()) is None
    assert server.finalizers == []


def test_namespace_of_another_owner_stays() -> None:
    server = FakeClient(space(uid="another"), queue("another"))
    assert reconcile_once(server, invalid()) is None
    assert (server.deleted, server.finalizers) == ([], [])


@pytest.mark.parametrize("when_deleted", ["Wait", "Perhaps", 7, None])
def test_running_jobs_are_waited_for_unless_when_deleted_is_cancel(when_deleted: Any) -> None:
    server = FakeClient(space(), workload())
    assert reconcile_once(server, invalid(whenDeleted=when_deleted))
    assert "waiting for 1 objects in wl-odd" in server.status_message
    assert server.deleted == []
    assert reconcile_once(server, invalid(whenDeleted="Cancel"))
    assert server.deleted == [str(Ref(WORKLOAD, "runs", "wl-odd"))]


def test_pool_with_quotas_stays_and_names_the_projects() -> None:
    server = FakeClient()
    user = invalid(deleted=False, quotas=[{"pool": "odd", "nominal": 1}])
    assert reconcile_once(server, invalid(POOL), user)
    assert "projects have quotas of this pool: odd" in server.status_message
    assert server.finalizers is None
    assert reconcile_once(server, invalid(POOL)) is None
    assert server.finalizers == []
