"""Whose an object is, whether it has drifted, and what is too much."""

import copy
from typing import Any

import pytest
from tests.unit.operators import wishes

from windlass.kube.names import ADOPT_ANNOTATION, MANAGED_BY, PROJECT_LABEL, QUEUE_LABEL
from windlass.kube.objects import Kind
from windlass_operators.children import Owner, drifted, is_ours, must_be_made_anew, owned, surplus
from windlass_operators.kinds import NAMESPACE, PROJECT
from windlass_operators.render import namespace, queues

Json = dict[str, Any]
WISHED = wishes.project({"pool": "a100", "nominal": 8, "borrowingLimit": 4}, cohort="lab")
POOLS = {"a100": wishes.pool()}
OWNER = Owner(PROJECT, "search", WISHED.metadata.uid)
RENDERED = [*namespace.objects(WISHED, POOLS, "windlass-system"), *queues.objects(WISHED, POOLS)]


def child(kind: str) -> Json:
    return owned(next(one for one in RENDERED if one["kind"] == kind), OWNER)


def stored(wish: Json) -> Json:
    """What the API server makes of it: a copy with fields of its own."""
    live = copy.deepcopy(wish)
    live["metadata"] |= {"uid": "child-1", "resourceVersion": "7", "managedFields": [{"manager": "someone"}]}
    live["status"] = {"conditions": []}
    live.setdefault("spec", {})["filledIn"] = True
    return live


@pytest.mark.parametrize("wish", [owned(one, OWNER) for one in RENDERED], ids=lambda one: one["kind"])
def test_what_was_applied_is_ours_and_has_not_drifted(wish: Json) -> None:
    live = stored(wish)
    assert is_ours(live, wish, OWNER)
    assert not drifted(live, wish)


def test_every_child_has_its_owner_but_the_namespace_and_the_shared_cohort() -> None:
    without = {
        one["kind"] for one in (owned(one, OWNER) for one in RENDERED) if "ownerReferences" not in one["metadata"]
    }
    assert without == {"Namespace", "Cohort"}
    [reference] = child("ClusterQueue")["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["uid"], reference["controller"]) == ("Project", WISHED.metadata.uid, True)


def test_a_quantity_is_the_same_as_a_number_and_as_a_string() -> None:
    wish = child("ClusterQueue")
    live = stored(wish)
    live["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] = "8"
    assert not drifted(live, wish)
    many = wishes.project({"pool": "a100", "nominal": 2000})
    [queue, _] = [owned(one, OWNER) for one in queues.objects(many, POOLS)]
    live = stored(queue)
    live["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] = "2k"
    assert not drifted(live, queue)


def test_a_changed_an_added_and_a_removed_field_of_a_quota_are_drift() -> None:
    wish = child("ClusterQueue")
    for change in ({"nominalQuota": 9}, {"lendingLimit": 0}, {"borrowingLimit": None}):
        live = stored(wish)
        live["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0] |= change
        assert drifted(live, wish), change


def test_a_wish_that_lost_a_field_is_applied_again() -> None:
    live = stored(child("ClusterQueue"))
    less = wishes.project({"pool": "a100", "nominal": 8}, cohort="lab")
    [_, queue, _] = queues.objects(less, POOLS)
    assert drifted(live, owned(queue, OWNER))


def test_what_the_api_server_drops_because_it_is_empty_is_no_drift() -> None:
    wish = child("RoleBinding")
    live = stored(wish)
    del live["subjects"]
    assert wish["subjects"] == []
    assert not drifted(live, wish)
    live["subjects"] = [{"kind": "User", "name": "mallory"}]
    assert drifted(live, wish)


@pytest.mark.parametrize(
    ("mark", "value"),
    [(MANAGED_BY, None), (MANAGED_BY, "helm"), (PROJECT_LABEL, "ranking")],
)
def test_an_object_without_our_marks_and_without_our_controller_is_not_ours(mark: str, value: str | None) -> None:
    wish = child("ClusterQueue")
    live = stored(wish)
    live["metadata"]["labels"][mark] = value
    assert is_ours(live, wish, OWNER), "its controller tells"
    assert drifted(live, wish)
    del live["metadata"]["ownerReferences"]
    assert not is_ours(live, wish, OWNER)


def test_what_an_earlier_project_of_the_name_left_is_not_ours() -> None:
    queue, space = child("ClusterQueue"), child("Namespace")
    former, ended = stored(queue), stored(space)
    former["metadata"]["ownerReferences"][0]["uid"] = "an earlier one"
    ended["metadata"]["labels"]["windlass.dev/project-uid"] = "an earlier one"
    assert not is_ours(former, queue, OWNER)
    assert not is_ours(ended, space, OWNER)


def test_an_object_is_adopted_by_the_one_that_its_annotation_names() -> None:
    wish = child("ClusterQueue")
    live: Json = {"apiVersion": wish["apiVersion"], "kind": wish["kind"]}
    live["metadata"] = {"name": wish["metadata"]["name"], "annotations": {ADOPT_ANNOTATION: "Project/ranking"}}
    assert not is_ours(live, wish, OWNER)
    live["metadata"]["annotations"][ADOPT_ANNOTATION] = "Project/search"
    assert is_ours(live, wish, OWNER)
    assert drifted(live, wish)


def test_the_account_that_kubernetes_makes_in_each_namespace_is_taken_over() -> None:
    accounts = [owned(one, OWNER) for one in RENDERED if one["kind"] == "ServiceAccount"]
    ours = set()
    for wish in accounts:
        name = wish["metadata"]["name"]
        bare: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        ours |= {name} if is_ours(bare, wish, OWNER) else set()
    assert ours == {"default"}


def test_only_a_service_in_another_queue_is_made_anew() -> None:
    wish: Json = {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": {"name": "ep-live", "labels": {}}}
    live = copy.deepcopy(wish)
    assert not must_be_made_anew(live, wish)
    live["metadata"]["labels"][QUEUE_LABEL] = "h100"
    assert must_be_made_anew(live, wish)
    wish["metadata"]["labels"][QUEUE_LABEL] = "h100"
    assert not must_be_made_anew(live, wish)
    other = child("LocalQueue")
    assert not must_be_made_anew(stored(other), other)


def test_surplus_is_what_we_own_and_nobody_wishes_but_never_a_namespace() -> None:
    observed = [stored(owned(one, OWNER)) for one in RENDERED]
    foreign = stored(child("LocalQueue"))
    foreign["metadata"] |= {"name": "mine", "ownerReferences": []}
    assert surplus([*observed, foreign], [one for one in observed if one["kind"] != "LocalQueue"], OWNER) == [
        one for one in observed if one["kind"] == "LocalQueue"
    ]
    left = {Kind.of(one) for one in surplus(observed, [], OWNER)}
    assert NAMESPACE not in left
    assert Kind("kueue.x-k8s.io/v1beta2", "Cohort") not in left
    assert Kind("kueue.x-k8s.io/v1beta2", "ClusterQueue") in left
    assert surplus(observed, [], Owner(PROJECT, "search", "an earlier one")) == []
