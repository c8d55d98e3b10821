"""The check of the owner before a change."""

from typing import Any

import pytest
from tests.unit.operators import desired_objects

from windlass.kube.cache.store import Store
from windlass.kube.cache.transform import transform_for_operators
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeConflictError
from windlass.kube.objects import Object, Ref
from windlass_operators.apply import ChildReconciler
from windlass_operators.children import Owner
from windlass_operators.kinds import PROJECT
from windlass_operators.render import queues


class FakeClient(KubeClient):
    """Stores one owner, and records applied and deleted objects."""

    def __init__(self, owner: Object | None) -> None:
        self.owner, self.done = owner, list[str]()

    def get(self, ref: Ref) -> Object:
        raise AssertionError(f"{ref} is not looked up")

    def find(self, ref: Ref) -> Object | None:
        return self.owner if ref.kind == PROJECT else None

    def apply(self, manifest: Object, **_: Any) -> Object:
        self.done.append(f"apply {manifest['kind']}")
        return manifest | {"metadata": manifest["metadata"] | {"uid": "c", "resourceVersion": "1"}}

    def delete(self, ref: Ref, **_: Any) -> bool:
        self.done.append(f"delete {ref.kind.kind}")
        return True


DESIRED = desired_objects.project({"pool": "a100", "nominal": 8})
OWNER = Owner(PROJECT, "search", DESIRED.metadata.uid, None, DESIRED.metadata.generation)
CHILDREN = queues.objects(DESIRED, {"a100": desired_objects.pool()})


def as_stored(uid: str = DESIRED.metadata.uid, generation: int = DESIRED.metadata.generation) -> Object:
    return {"metadata": {"name": "search", "uid": uid, "generation": generation}}


def test_children_are_applied_if_the_owner_is_unchanged() -> None:
    server = FakeClient(as_stored())
    ChildReconciler(server, Store(transform_for_operators)).reconcile(CHILDREN, [], OWNER)
    assert server.done == ["apply ClusterQueue", "apply LocalQueue"]


def test_drift_is_found_although_an_earlier_version_had_none() -> None:
    server, store = FakeClient(as_stored()), Store(transform_for_operators)
    children = ChildReconciler(server, store)
    for _ in range(3):
        children.reconcile(CHILDREN, [], OWNER)
    [queue] = made_of(store, "ClusterQueue")
    store.put(queue | {"metadata": queue["metadata"] | {"resourceVersion": "2"}, "spec": {"stopPolicy": "Hold"}})
    children.reconcile(CHILDREN, [], OWNER)
    assert server.done == ["apply ClusterQueue", "apply LocalQueue", "apply ClusterQueue"]


@pytest.mark.parametrize("owner", [None, as_stored(uid="other"), as_stored(generation=4)])
def test_nothing_is_applied_or_deleted_if_the_owner_changed(owner: Object | None) -> None:
    server, store = FakeClient(owner), Store(transform_for_operators)
    with pytest.raises(KubeConflictError, match="has changed since it was read"):
        ChildReconciler(server, store).reconcile(CHILDREN, [], OWNER)
    made = FakeClient(as_stored())
    ChildReconciler(made, store).reconcile(CHILDREN, [], OWNER)
    for one in (child for kind in ("ClusterQueue", "LocalQueue") for child in made_of(store, kind)):
        with pytest.raises(KubeConflictError):
            ChildReconciler(server, store).reconcile([], [one], OWNER)
    assert server.done == []


def made_of(store: Store, kind: str) -> list[Object]:
    return [one for manifest in CHILDREN if manifest["kind"] == kind for one in store.all(Ref.of(manifest).kind)]
