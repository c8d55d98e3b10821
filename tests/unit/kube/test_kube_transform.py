"""Transformed objects lead to the same reasons and numbers as the original objects."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.factories.observations import cluster_state, observation

from windlass.kube.cache.transform import transform, transform_for_operators
from windlass.kube.kinds import CLUSTER_QUEUE, COHORT, LOCAL_QUEUE, NODE, POD, POOL, WORKLOAD
from windlass.kube.kueue.explain import explain_pending
from windlass.kube.kueue.snapshot import snapshot_from_cluster

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))
KINDS = {
    "clusterQueues": CLUSTER_QUEUE,
    "cohorts": COHORT,
    "localQueues": LOCAL_QUEUE,
    "nodes": NODE,
    "pods": POD,
    "pools": POOL,
    "workloads": WORKLOAD,
}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_transform_keeps_all_fields_that_explanations_need(path: Path) -> None:
    full: dict[str, Any] = json.loads(path.read_text("utf-8"))
    small = dict(full)
    for name, kind in KINDS.items():
        typed = {"apiVersion": kind.api_version, "kind": kind.kind}
        small[name] = [kept for one in full[name] if (kept := transform(typed | one)) is not None]
        assert len(small[name]) == len(full[name])
    found, expected = explain_pending(observation(small)), explain_pending(observation(full))
    assert found == expected
    assert snapshot_from_cluster(cluster_state(small)) == snapshot_from_cluster(cluster_state(full))
    assert len(json.dumps([small[name] for name in KINDS])) < len(json.dumps([full[name] for name in KINDS]))


def test_status_counters_of_queues_are_no_change_for_the_operators() -> None:
    active = {"type": "Active", "status": "True"}
    for kind in (CLUSTER_QUEUE, LOCAL_QUEUE, COHORT):
        metadata = {"name": "q", "uid": "q", "annotations": {"a": "b"}, "finalizers": ["f"], "managedFields": ["long"]}
        one = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": {"anything": 1}}
        counted = transform_for_operators(one | {"status": {"pendingWorkloads": 1, "conditions": [active]}})
        again = transform_for_operators(one | {"status": {"pendingWorkloads": 2, "conditions": [active]}})
        assert counted == again
        assert counted is not None
        assert counted["spec"] == {"anything": 1}, "the operators compare all fields that they may have written"
        assert set(counted["metadata"]) == {"name", "uid", "annotations", "finalizers"}


def test_a_heartbeat_of_a_node_is_no_change() -> None:
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-22T10:00:00Z"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"pool": "a100"}}}
    taint = {"key": "gpu", "effect": "NoSchedule"}
    status = {"capacity": {"nvidia.com/gpu": "8"}, "allocatable": {"nvidia.com/gpu": "7"}, "images": ["many"]}
    one = node | {"spec": {"taints": [taint], "podCIDR": "x"}, "status": status | {"conditions": [ready]}}
    later = ready | {"lastHeartbeatTime": "2026-11-22T10:05:00Z"}
    kept = transform_for_operators(one)
    assert kept == transform_for_operators(one | {"status": status | {"conditions": [later]}}) == transform(one)
    assert kept is not None
    assert kept["spec"] == {"taints": [taint]}
    assert (kept["metadata"]["labels"], set(kept["status"])) == (
        {"pool": "a100"},
        {"capacity", "allocatable", "conditions"},
    )
