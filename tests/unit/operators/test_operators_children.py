"""Ownership, drift and orphans."""

import copy
from typing import Any

import pytest
from tests.unit.operators import desired_objects

from windlass.kube.names import ADOPT_ANNOTATION, MANAGED_BY, PROJECT_LABEL, QUEUE_LABEL
from windlass.kube.objects import Kind, Ref
from windlass_operators.children import Owner, has_drifted, is_owned, orphans, requires_recreate, with_owner
from windlass_operators.kinds import NAMESPACE, PROJECT
from windlass_operators.render import namespace, queues
from windlass_operators.render.network import PlatformNetwork

Json = dict[str, Any]
DESIRED = desired_objects.project({"pool": "a100", "nominal": 8, "borrowingLimit": 4}, cohort="lab")
POOLS = {"a100": desired_objects.pool()}
OWNER = Owner(PROJECT, "search", DESIRED.metadata.uid)
RENDERED = [*namespace.objects(DESIRED, POOLS, PlatformNetwork()), *queues.objects(DESIRED, POOLS)]


def child(kind: str) -> Json:
    return with_owner(next(one for one in RENDERED if one["kind"] == kind), OWNER)


def stored(manifest: Json) -> Json:
    """The stored object: a copy with fields that the API server adds."""
    live = copy.deepcopy(manifest)
    live["metadata"] |= {"uid": "child-1", "resourceVersion": "7", "managedFields": [{"manager": "someone"}]}
    live["status"] = {"conditions": []}
    live.setdefault("spec", {})["filledIn"] = True
    return live


@pytest.mark.parametrize("manifest", [with_owner(one, OWNER) for one in RENDERED], ids=lambda one: one["kind"])
def test_applied_object_is_owned_and_has_not_drifted(manifest: Json) -> None:
    live = stored(manifest)
    assert is_owned(live, manifest, OWNER)
    assert not has_drifted(live, manifest)


def test_all_children_but_namespace_and_cohort_have_an_owner_reference() -> None:
    without = {
        one["kind"] for one in (with_owner(one, OWNER) for one in RENDERED) if "ownerReferences" not in one["metadata"]
    }
    assert without == {"Namespace", "Cohort"}
    [reference] = child("ClusterQueue")["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["uid"], reference["controller"]) == ("Project", DESIRED.metadata.uid, True)


def test_quantities_as_number_and_string_are_equal() -> None:
    manifest = child("ClusterQueue")
    live = stored(manifest)
    live["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] = "8"
    assert not has_drifted(live, manifest)
    many = desired_objects.project({"pool": "a100", "nominal": 2000})
    [queue, _] = [with_owner(one, OWNER) for one in queues.objects(many, POOLS)]
    live = stored(queue)
    live["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] = "2k"
    assert not has_drifted(live, queue)


def test_changed_added_and_removed_quota_fields_are_drift() -> None:
    manifest = child("ClusterQueue")
    for change in ({"nominalQuota": 9}, {"lendingLimit": 0}, {"borrowingLimit": None}):
        live = stored(manifest)
        live["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0] |= change
        assert has_drifted(live, manifest), change


def test_manifest_with_a_removed_field_is_applied_again() -> None:
    live = stored(child("ClusterQueue"))
    less = desired_objects.project({"pool": "a100", "nominal": 8}, cohort="lab")
    [_, queue, _] = queues.objects(less, POOLS)
    assert has_drifted(live, with_owner(queue, OWNER))


def test_dropped_empty_values_are_no_drift() -> None:
    manifest = child("RoleBinding")
    live = stored(manifest)
    del live["subjects"]
    assert manifest["subjects"] == []
    assert not has_drifted(live, manifest)
    live["subjects"] = [{"kind": "User", "name": "mallory"}]
    assert has_drifted(live, manifest)


@pytest.mark.parametrize(
    ("mark", "value"),
    [(MANAGED_BY, None), (MANAGED_BY, "helm"), (PROJECT_LABEL, "ranking")],
)
def test_object_without_our_labels_and_controller_is_not_owned(mark: str, value: str | None) -> None:
    manifest = child("ClusterQueue")
    live = stored(manifest)
    live["metadata"]["labels"][mark] = value
    assert is_owned(live, manifest, OWNER), "the controller reference decides"
    assert has_drifted(live, manifest)
    del live["metadata"]["ownerReferences"]
    assert not is_owned(live, manifest, OWNER)


def test_object_of_an_earlier_project_of_the_name_is_not_owned() -> None:
    queue, space = child("ClusterQueue"), child("Namespace")
    former, ended = stored(queue), stored(space)
    former["metadata"]["ownerReferences"][0]["uid"] = "an earlier one"
    ended["metadata"]["labels"]["windlass.dev/project-uid"] = "an earlier one"
    assert not is_owned(former, queue, OWNER)
    assert not is_owned(ended, space, OWNER)


def test_object_is_adopted_by_the_owner_in_its_annotation() -> None:
    manifest = child("ClusterQueue")
    live: Json = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"]}
    live["metadata"] = {"name": manifest["metadata"]["name"], "annotations": {ADOPT_ANNOTATION: "Project/ranking"}}
    assert not is_owned(live, manifest, OWNER)
    live["metadata"]["annotations"][ADOPT_ANNOTATION] = "Project/search"
    assert is_owned(live, manifest, OWNER)
    assert has_drifted(live, manifest)


def test_default_service_account_is_adopted() -> None:
    accounts = [with_owner(one, OWNER) for one in RENDERED if one["kind"] == "ServiceAccount"]
    ours = set()
    for manifest in accounts:
        name = manifest["metadata"]["name"]
        bare: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        ours |= {name} if is_owned(bare, manifest, OWNER) else set()
    assert ours == {"default"}


def test_a_service_in_another_queue_requires_recreate() -> None:
    manifest: Json = {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": {"name": "ep-live", "labels": {}}}
    live = copy.deepcopy(manifest)
    assert not requires_recreate(live, manifest)
    live["metadata"]["labels"][QUEUE_LABEL] = "h100"
    assert requires_recreate(live, manifest)
    manifest["metadata"]["labels"][QUEUE_LABEL] = "h100"
    assert not requires_recreate(live, manifest)
    other = child("LocalQueue")
    assert not requires_recreate(stored(other), other)


def test_a_service_with_another_queue_is_recreated() -> None:
    """The queue of an admitted object is immutable."""

    def service(queue: str | None) -> Json:
        labels = {QUEUE_LABEL: queue} if queue else {}
        return {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": {"name": "ep-live", "labels": labels}}

    assert requires_recreate(service("a100"), service("h100"))
    assert requires_recreate(service("a100"), service(None))
    assert not requires_recreate(service("a100"), service("a100"))


def test_orphans_are_owned_and_not_desired_and_never_a_namespace() -> None:
    observed = [stored(with_owner(one, OWNER)) for one in RENDERED]
    foreign = stored(child("LocalQueue"))
    foreign["metadata"] |= {"name": "mine", "ownerReferences": []}
    assert orphans([*observed, foreign], {Ref.of(one) for one in observed if one["kind"] != "LocalQueue"}, OWNER) == [
        one for one in observed if one["kind"] == "LocalQueue"
    ]
    left = {Kind.of(one) for one in orphans(observed, [], OWNER)}
    assert NAMESPACE not in left
    assert Kind("kueue.x-k8s.io/v1beta2", "Cohort") not in left
    assert Kind("kueue.x-k8s.io/v1beta2", "ClusterQueue") in left
    assert orphans(observed, [], Owner(PROJECT, "search", "an earlier one")) == []
