"""Trouble of the API server's, told from one object's own, and what is asked of the owner before a change."""

import itertools
from typing import Any

import pytest
from tests.unit.operators import wishes

from windlass.kube.client import Client
from windlass.kube.errors import ConflictError
from windlass.kube.objects import Object, Ref
from windlass.kube.store import Store
from windlass_operators.apply import Children
from windlass_operators.children import Owner
from windlass_operators.kinds import PROJECT
from windlass_operators.queue import Key
from windlass_operators.render import queues
from windlass_operators.slimming import slim
from windlass_operators.strain import Backoffs, Strain

KEYS = [Key(PROJECT, f"p{number}") for number in range(100)]


def test_one_object_that_fails_again_and_again_holds_nobody_up() -> None:
    strain = Strain(lambda: 1.0)
    assert {strain.pause(KEYS[0], None) for _ in range(50)} == {0.0}


def test_pauses_double_while_nothing_succeeds_and_an_answer_ends_them() -> None:
    now = 0.0
    strain = Strain(lambda: now)
    pauses = []
    for key in KEYS[:12]:
        pauses.append(strain.pause(key, None))
        now += pauses[-1]
    assert pauses[:2] == [0.0, 0.0]
    assert all(0.25 * 2**n <= pause <= 0.5 * 2**n for n, pause in enumerate(pauses[2:7]))
    assert all(5.0 <= pause <= 10.0 for pause in pauses[8:])
    strain.answered(503)
    assert strain.pause(KEYS[0], None) >= 5.0
    now += 100
    strain.answered(409)
    assert strain.pause(KEYS[0], None) == 0.0


def test_what_was_under_way_when_a_pause_began_makes_it_no_longer() -> None:
    now = 0.0
    strain = Strain(lambda: now)
    for key in KEYS[:3]:
        longest = strain.pause(key, None)
    assert [strain.pause(key, None) for key in KEYS[3:50]] == [0.0] * 47
    now = longest
    assert strain.pause(KEYS[0], None) <= 1.0


def test_a_server_that_says_when_is_obeyed_by_all() -> None:
    assert Strain(lambda: 1.0).pause(KEYS[0], 7.0) == 7.0


def test_a_watch_is_tried_for_as_long_as_it_takes() -> None:
    pauses = list(itertools.islice(Backoffs(), 30))
    assert pauses[0] <= 0.5
    assert all(5.0 <= pause <= 10.0 for pause in pauses[10:])


class Server(Client):
    """Knows one owner, and keeps what is applied and deleted."""

    def __init__(self, owner: Object | None) -> None:
        self.owner, self.done = owner, list[str]()

    def get(self, ref: Ref) -> Object:
        raise AssertionError(f"{ref} is not looked up")

    def find(self, ref: Ref) -> Object | None:
        return self.owner if ref.kind == PROJECT else None

    def apply(self, wish: Object, **_: Any) -> Object:
        self.done.append(f"apply {wish['kind']}")
        return wish | {"metadata": wish["metadata"] | {"uid": "c", "resourceVersion": "1"}}

    def delete(self, ref: Ref, **_: Any) -> bool:
        self.done.append(f"delete {ref.kind.kind}")
        return True


WISHED = wishes.project({"pool": "a100", "nominal": 8})
OWNER = Owner(PROJECT, "search", WISHED.metadata.uid, None, WISHED.metadata.generation)
CHILDREN = queues.objects(WISHED, {"a100": wishes.pool()})


def as_stored(uid: str = WISHED.metadata.uid, generation: int = WISHED.metadata.generation) -> Object:
    return {"metadata": {"name": "search", "uid": uid, "generation": generation}}


def test_children_are_made_of_an_owner_that_is_still_as_it_was_read() -> None:
    server = Server(as_stored())
    Children(server, Store(slim)).bring(CHILDREN, [], OWNER)
    assert server.done == ["apply ClusterQueue", "apply LocalQueue"]


@pytest.mark.parametrize("owner", [None, as_stored(uid="other"), as_stored(generation=4)])
def test_nothing_is_made_or_deleted_for_a_wish_that_is_over(owner: Object | None) -> None:
    server, store = Server(owner), Store(slim)
    with pytest.raises(ConflictError, match="no longer as it was read"):
        Children(server, store).bring(CHILDREN, [], OWNER)
    made = Server(as_stored())
    Children(made, store).bring(CHILDREN, [], OWNER)
    for one in (child for kind in ("ClusterQueue", "LocalQueue") for child in made_of(store, kind)):
        with pytest.raises(ConflictError):
            Children(server, store).bring([], [one], OWNER)
    assert server.done == []


def made_of(store: Store, kind: str) -> list[Object]:
    return [one for wish in CHILDREN if wish["kind"] == kind for one in store.all(Ref.of(wish).kind)]
