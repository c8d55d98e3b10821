"""An object that our models do not take: it can be deleted, and nothing goes that is not its own."""

from datetime import UTC, datetime
from typing import Any

import pytest

from windlass.kube.client import Client
from windlass.kube.names import CLOSED_ANNOTATION, FINALIZER, MANAGED_BY, OWNER, PROJECT_UID_LABEL
from windlass.kube.objects import Kind, Listing, Object, Ref
from windlass.kube.store import Store
from windlass_operators.handlers import Reconciler
from windlass_operators.kinds import CLUSTER_QUEUE, NAMESPACE, POOL, PROJECT, WORKLOAD
from windlass_operators.queue import Key
from windlass_operators.render.model_endpoint import Serving
from windlass_operators.slimming import slim
from windlass_operators.world import World

Json = dict[str, Any]
UID = "odd-uid"


class Server(Client):
    """Holds objects, and does at once what it is asked to."""

    def __init__(self, *objects: Object) -> None:
        self.objects = {Ref.of(one): one for one in objects}
        self.deleted: list[str] = []
        self.finalizers: list[str] | None = None
        self.said = ""

    def find(self, ref: Ref) -> Object | None:
        return self.objects.get(ref)

    def list(self, kind: Kind, namespace: str | None = None, **_: Any) -> Listing:
        found = [one for ref, one in self.objects.items() if ref.kind == kind]
        return Listing([one for one in found if namespace in {None, one["metadata"].get("namespace")}], "1")

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

    def apply(self, wish: Object, **_: Any) -> Object:
        [said] = wish["status"]["conditions"]
        self.said = f"{said['reason']}: {said['message']}"
        return wish | {"metadata": wish["metadata"] | {"resourceVersion": "2"}}

    def create(self, wish: Object, **_: Any) -> Object:
        return wish


def odd(kind: Kind = PROJECT, *, deleted: bool = True, **spec: Any) -> Object:
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


def turn(server: Server, raw: Object, *others: Object) -> float | None:
    store = Store(slim)
    for one in (raw, *others):
        store.put(one)
    reconciler = Reconciler(server, World(store), lambda: datetime.now(UTC), "windlass-system", Serving("", ""))
    return reconciler.reconcile(Key(Kind.of(raw), raw["metadata"]["name"]))


def test_one_that_is_not_being_deleted_stays_with_all_that_it_has() -> None:
    server = Server(space(), queue())
    assert turn(server, odd(deleted=False)) is None
    assert server.deleted == []
    assert server.said.startswith("Malformed: ")


def test_it_goes_with_its_namespace_and_then_its_queues() -> None:
    server = Server(space(), queue(), queue("another"))
    assert turn(server, odd())
    assert server.deleted == [str(Ref(NAMESPACE, "wl-odd"))]
    assert server.said.startswith("Deleting: ")
    assert server.finalizers is None
    turn(server, odd())
    assert server.deleted[1:] == [str(Ref(CLUSTER_QUEUE, f"odd.{UID}"))]
    assert turn(server, odd()) is None
    assert server.finalizers == []


def test_a_namespace_of_somebody_else_stays() -> None:
    server = Server(space(uid="another"), queue("another"))
    assert turn(server, odd()) is None
    assert (server.deleted, server.finalizers) == ([], [])


@pytest.mark.parametrize("said", ["Wait", "Perhaps", 7, None])
def test_what_lives_is_waited_for_unless_it_clearly_says_otherwise(said: Any) -> None:
    server = Server(space(), workload())
    assert turn(server, odd(whenDeleted=said))
    assert "1 live in wl-odd" in server.said
    assert server.deleted == []
    assert turn(server, odd(whenDeleted="Cancel"))
    assert server.deleted == [str(Ref(WORKLOAD, "runs", "wl-odd"))]


def test_a_pool_that_has_quotas_stays_and_says_of_whom() -> None:
    server = Server()
    user = odd(deleted=False, quotas=[{"pool": "odd", "nominal": 1}])
    assert turn(server, odd(POOL), user)
    assert "projects have quotas of it: odd" in server.said
    assert server.finalizers is None
    assert turn(server, odd(POOL)) is None
    assert server.finalizers == []
