"""The store: old versions do not replace newer ones, and deleted objects stay deleted."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.cache.indexer import COHORT_INDEX
from windlass.kube.cache.store import Store
from windlass.kube.cache.transform import strip_managed_fields
from windlass.kube.names import PROJECT_LABEL
from windlass.kube.objects import Object, ObjectList, Ref

Json = dict[str, Any]


def queue(version: int, uid: str = "u1", name: str = "q", **spec: Any) -> Json:
    metadata = {"name": name, "uid": uid, "resourceVersion": str(version)}
    return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": metadata, "spec": spec}


REF = Ref.of(queue(1))


def versions(store: Store) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in store.all(REF.kind)}


@given(st.permutations([3, 5, 9, 12]))
def test_newest_version_wins_in_any_order(order: list[int]) -> None:
    store = Store(strip_managed_fields)
    for version in order:
        store.put(queue(version))
    assert versions(store) == {"q": "12"}


def test_late_event_does_not_restore_a_deleted_object() -> None:
    store = Store(strip_managed_fields)
    store.put(queue(3))
    store.delete(queue(4))
    store.put(queue(4))
    store.replace(REF.kind, ObjectList([queue(3)], "3"))
    assert versions(store) == {}
    store.put(queue(9, uid="u2"))
    store.delete(queue(4))
    assert versions(store) == {"q": "9"}


def test_object_that_regains_its_label_is_stored_again() -> None:
    """A watch with a label selector sends DELETED for an object that loses the label."""
    store = Store(strip_managed_fields)
    store.put(queue(3))
    store.delete(queue(4))
    store.put(queue(5))
    assert versions(store) == {"q": "5"}
    store.delete(queue(6))
    store.replace(REF.kind, ObjectList([queue(7)], "8"))
    assert versions(store) == {"q": "7"}
    store.delete(queue(6))
    assert versions(store) == {"q": "7"}, "late news of the label that was missing"


def test_no_event_restores_an_object_that_this_process_deleted() -> None:
    store = Store(strip_managed_fields)
    store.put(queue(3))
    store.delete_finally(queue(3))
    store.put(queue(5, stopPolicy="Hold"))  # changed between the version that was known here and the deletion
    store.replace(REF.kind, ObjectList([queue(5)], "6"))
    assert versions(store) == {}
    store.delete(queue(6))
    store.put(queue(9, uid="u2"))
    store.delete_finally(queue(3))
    assert versions(store) == {"q": "9"}


def test_unserved_kind_has_no_objects() -> None:
    store = Store(strip_managed_fields)
    store.put(queue(3))
    assert [(one.ref, one.after) for one in store.replace(REF.kind, ObjectList([], ""))] == [(REF, None)]
    assert versions(store) == {}


def test_list_removes_objects_and_returns_missed_changes() -> None:
    store = Store(strip_managed_fields)
    store.put(queue(3))
    store.put(queue(4, uid="u4", name="changed"))
    store.put(queue(5, uid="u5", name="equal"))
    changed, equal = queue(7, uid="u4", name="changed", stopPolicy="Hold"), queue(8, uid="u5", name="equal")
    found = store.replace(REF.kind, ObjectList([changed, equal, queue(6, uid="n", name="new")], "9"))
    assert versions(store) == {"changed": "7", "new": "6", "equal": "8"}
    assert sorted((one.ref.name, one.before is None, one.after is None) for one in found) == [
        ("changed", False, False),
        ("new", True, False),
        ("q", False, True),
    ]


def test_old_list_does_not_overwrite_newer_objects() -> None:
    store = Store(strip_managed_fields)
    store.put(queue(10))
    store.put(queue(11, uid="u2", name="made since"))
    assert store.replace(REF.kind, ObjectList([queue(2)], "5")) == []
    assert versions(store) == {"q": "10", "made since": "11"}


def test_new_version_with_equal_content_is_no_change() -> None:
    store = Store(strip_managed_fields)
    assert store.put(queue(3, stopPolicy="None"))
    assert not store.put(queue(4, stopPolicy="None"))
    assert store.put(queue(5, stopPolicy="Hold"))
    assert not store.put(queue(4, stopPolicy="None"))
    assert not store.delete(queue(4, uid="another"))
    assert store.delete(queue(6))
    assert not store.delete(queue(6))


def test_object_without_transform_result_is_ignored() -> None:
    def ours(subject: Object) -> Object | None:
        return subject if subject["metadata"]["name"].startswith("ours") else None

    store = Store(ours)
    assert not store.put(queue(3, name="theirs"))
    found = store.replace(REF.kind, ObjectList([queue(4, name="theirs"), queue(5, name="ours-1")], "6"))
    assert [one.ref for one in found] == [Ref(REF.kind, "ours-1")]
    assert versions(store) == {"ours-1": "5"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "x", "y"]), st.booleans()), max_size=30))
def test_index_lookup_equals_full_scan(steps: list[tuple[str, str, bool]]) -> None:
    store = Store(strip_managed_fields)
    for version, (name, value, goes) in enumerate(steps, 1):
        one = queue(version, uid=name, name=name, cohort=value)
        one["metadata"]["labels"] = {PROJECT_LABEL: value, "other": value}
        (store.delete if goes else store.put)(one)
        if version % 7 == 0:
            store.replace(REF.kind, ObjectList(store.all(REF.kind)[:2], str(version)))
    everything = store.all(REF.kind)
    for value in ("", "x", "y"):
        expected = {one["metadata"]["name"] for one in everything if one["metadata"]["labels"]["other"] == value}
        for mark in (PROJECT_LABEL, "other", COHORT_INDEX):
            assert {one["metadata"]["name"] for one in store.by_index(REF.kind, mark, value)} == expected


def test_revision_of_an_index_value_grows_with_its_changes_only() -> None:
    def labelled(version: int, value: str, **spec: Any) -> Json:
        one = queue(version, uid=value, name=value, **spec)
        one["metadata"]["labels"] = {PROJECT_LABEL: value}
        return one

    store = Store(strip_managed_fields)
    store.put(labelled(1, "x"))
    store.put(labelled(2, "y"))

    def revisions() -> tuple[int, int]:
        x, y = (store.revisions(REF.kind, PROJECT_LABEL)[value] for value in "xy")
        return x, y

    first, of_kind = revisions(), store.revision(REF.kind)
    store.put(labelled(3, "x"))
    assert (revisions(), store.revision(REF.kind)) == (first, of_kind), "only the version changed"
    store.put(labelled(4, "x", stopPolicy="Hold"))
    second = revisions()
    assert second[0] > first[0]
    assert second[1] == first[1]
    assert store.revision(REF.kind) > of_kind
    store.replace(REF.kind, ObjectList([labelled(4, "x", stopPolicy="Hold")], "9"))
    assert revisions()[0] == second[0]
    assert revisions()[1] > second[1], "it was deleted"
