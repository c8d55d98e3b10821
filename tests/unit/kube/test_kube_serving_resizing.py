"""Fewer replicas of a running RayService: Serve drains replicas, then their pods are deleted by name."""

from collections.abc import Sequence
from typing import Any

from tests.unit.operators import desired_objects

from windlass.kube.kueue.cluster_objects import Pod
from windlass.kube.objects import Object
from windlass.kube.resources.model_endpoint import ServedVersion
from windlass.kube.serving.resizing import resized
from windlass.kube.serving.status import ObservedVersion

KEY = "ep-1-mv-1"


def version(replicas: int, **fields: Any) -> ServedVersion:
    return ServedVersion.model_validate(desired_objects.served_version(replicas=replicas, **fields))


def pod(name: str, *, ready: bool = True, container: str = "ray-worker", deleted: bool = False) -> Pod:
    metadata: Object = {"name": name} | ({"deletionTimestamp": "2026-11-29T10:00:00Z"} if deleted else {})
    statuses = [{"name": container, "ready": ready}]
    spec = {"containers": [{"name": container}]}
    return Pod.parse({"metadata": metadata, "spec": spec, "status": {"containerStatuses": statuses}})


HEAD = pod("head", container="ray-head")


def observed(*pods: Pod, endpoints: int = 2) -> ObservedVersion:
    status = {
        "conditions": [{"type": "Ready", "status": "True" if endpoints else "False"}],
        "numServeEndpoints": endpoints,
        "activeServiceStatus": {"applicationStatuses": {KEY: {"status": "RUNNING"}}},
    }
    return ObservedVersion(version(1), "wl-search", {"metadata": {}, "status": status}, pods)


def numbers(result: ServedVersion) -> tuple[int, int, Sequence[str]]:
    return result.replicas, result.draining, result.removed_pods


def test_pods_stay_until_serve_has_removed_their_replicas() -> None:
    first = resized(version(1), version(2), observed(HEAD, pod("a"), pod("b")))
    assert numbers(first) == (1, 1, ())
    waits = resized(version(1), first, observed(HEAD, pod("a"), pod("b")))
    assert waits == first
    last = resized(version(1), first, observed(HEAD, pod("a", ready=False), pod("b")))
    assert numbers(last) == (1, 0, ("a",))


def test_the_names_stay_while_kuberay_deletes_the_pods() -> None:
    """It counts terminating pods, and would delete others for those that are not named any more."""
    removed = version(1, removedPods=["a"])
    after = resized(version(1), removed, observed(HEAD, pod("a", deleted=True), pod("b")))
    assert numbers(after) == (1, 0, ("a",))
    assert resized(version(1), removed, observed(HEAD, pod("b"))) == removed, (
        "nothing is written for a pod that is gone"
    )


def test_pods_that_are_not_ready_for_another_reason_end_no_ready_one() -> None:
    draining = version(1, draining=1)
    assert numbers(resized(version(1), draining, observed(pod("a", ready=False), pod("b", ready=False))))[2] == ()
    three = resized(version(1), version(3), observed(pod("a"), pod("b"), pod("c", ready=False)))
    assert numbers(three) == (1, 2, ())


def test_pods_end_one_after_another_and_terminating_ones_are_no_candidates() -> None:
    draining = version(1, draining=2, removedPods=["gone", "z"])
    pods = (pod("a", ready=False), pod("b"), pod("z", ready=False, deleted=True))
    assert numbers(resized(version(1), draining, observed(*pods))) == (1, 1, ("z", "a"))


def test_a_load_that_returns_keeps_the_draining_pods() -> None:
    draining = version(1, draining=2)
    pods = (pod("a"), pod("b", ready=False), pod("c", ready=False))
    assert numbers(resized(version(3), draining, observed(*pods))) == (3, 0, ())
    assert numbers(resized(version(2), draining, observed(pod("a"), pod("b"), pod("c")))) == (2, 1, ())


def test_nothing_drains_where_nothing_serves() -> None:
    """Kueue admits the fewest replicas of a preempted endpoint, not those that it had."""
    assert numbers(resized(version(1), version(3), observed(endpoints=0))) == (1, 0, ())
    assert numbers(resized(version(0), version(2), observed(pod("a"), pod("b")))) == (0, 0, ())
