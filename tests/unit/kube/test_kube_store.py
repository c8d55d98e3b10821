"""What is remembered of the cluster: old news does not replace new, and the gone stay gone."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.names import PROJECT_LABEL
from windlass.kube.objects import Listing, Object, Ref
from windlass.kube.shelf import COHORT_MARK
from windlass.kube.store import Store, without_managed_fields

Json = dict[str, Any]


def queue(version: int, uid: str = "u1", name: str = "q", **spec: Any) -> Json:
    metadata = {"name": name, "uid": uid, "resourceVersion": str(version)}
    return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": metadata, "spec": spec}


REF = Ref.of(queue(1))


def versions(store: Store) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in store.all(REF.kind)}


@given(st.permutations([3, 5, 9, 12]))
def test_the_newest_version_wins_in_whatever_order_they_come(order: list[int]) -> None:
    store = Store(without_managed_fields)
    for version in order:
        store.put(queue(version))
    assert versions(store) == {"q": "12"}


def test_late_news_of_something_gone_does_not_bring_it_back() -> None:
    store = Store(without_managed_fields)
    store.put(queue(3))
    store.remove(queue(4))
    store.put(queue(4))
    store.replace(REF.kind, Listing([queue(3)], "3"))
    assert versions(store) == {}
    store.put(queue(9, uid="u2"))
    store.remove(queue(4))
    assert versions(store) == {"q": "9"}


def test_what_lost_its_label_and_got_it_back_is_known_again() -> None:
    """A watch by label says DELETED of what leaves its selection."""
    store = Store(without_managed_fields)
    store.put(queue(3))
    store.remove(queue(4))
    store.put(queue(5))
    assert versions(store) == {"q": "5"}
    store.remove(queue(6))
    store.replace(REF.kind, Listing([queue(7)], "8"))
    assert versions(store) == {"q": "7"}
    store.remove(queue(6))
    assert versions(store) == {"q": "7"}, "late news of the label that was missing"


def test_nothing_is_left_of_a_kind_that_is_not_served() -> None:
    store = Store(without_managed_fields)
    store.put(queue(3))
    assert store.replace(REF.kind, Listing([], "")) == [REF]
    assert versions(store) == {}


def test_a_list_removes_what_a_watch_forgot_to_and_says_what_it_found() -> None:
    store = Store(without_managed_fields)
    store.put(queue(3))
    store.put(queue(4, uid="u4", name="changed"))
    found = store.replace(REF.kind, Listing([queue(7, uid="u4", name="changed"), queue(6, uid="n", name="new")], "8"))
    assert versions(store) == {"changed": "7", "new": "6"}
    assert sorted(ref.name for ref in found) == ["changed", "new", "q"]


def test_an_old_list_does_not_undo_what_was_seen_since() -> None:
    store = Store(without_managed_fields)
    store.put(queue(10))
    store.put(queue(11, uid="u2", name="made since"))
    assert store.replace(REF.kind, Listing([queue(2)], "5")) == []
    assert versions(store) == {"q": "10", "made since": "11"}


def test_a_new_version_of_the_same_is_no_news() -> None:
    store = Store(without_managed_fields)
    assert store.put(queue(3, stopPolicy="None"))
    assert not store.put(queue(4, stopPolicy="None"))
    assert store.put(queue(5, stopPolicy="Hold"))
    assert not store.put(queue(4, stopPolicy="None"))
    assert not store.remove(queue(4, uid="another"))
    assert store.remove(queue(6))
    assert not store.remove(queue(6))


def test_what_is_of_no_interest_is_not_kept() -> None:
    def ours(subject: Object) -> Object | None:
        return subject if subject["metadata"]["name"].startswith("ours") else None

    store = Store(ours)
    assert not store.put(queue(3, name="theirs"))
    assert store.replace(REF.kind, Listing([queue(4, name="theirs"), queue(5, name="ours-1")], "6")) == [
        Ref(REF.kind, "ours-1")
    ]
    assert versions(store) == {"ours-1": "5"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "x", "y"]), st.booleans()), max_size=30))
def test_what_is_found_by_a_mark_is_what_a_look_at_everything_finds(steps: list[tuple[str, str, bool]]) -> None:
    store = Store(without_managed_fields)
    for version, (name, value, goes) in enumerate(steps, 1):
        one = queue(version, uid=name, name=name, cohort=value)
        one["metadata"]["labels"] = {PROJECT_LABEL: value, "other": value}
        (store.remove if goes else store.put)(one)
        if version % 7 == 0:
            store.replace(REF.kind, Listing(store.all(REF.kind)[:2], str(version)))
    everything = store.all(REF.kind)
    for value in ("", "x", "y"):
        expected = {one["metadata"]["name"] for one in everything if one["metadata"]["labels"]["other"] == value}
        for mark in (PROJECT_LABEL, "other", COHORT_MARK):
            assert {one["metadata"]["name"] for one in store.marked(REF.kind, mark, value)} == expected
