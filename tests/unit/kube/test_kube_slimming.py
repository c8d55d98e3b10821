"""What the view keeps of objects leads to the same reasons and numbers as the objects themselves."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.factories.observations import cluster_state, observation

from windlass.kube.kinds import CLUSTER_QUEUE, COHORT, LOCAL_QUEUE, NODE, POD, POOL, WORKLOAD
from windlass.kube.kueue.explain import explain
from windlass.kube.kueue.snapshot import take_snapshot
from windlass.kube.slimming import slim

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
def test_what_was_recorded_is_explained_by_what_is_kept_of_it(path: Path) -> None:
    whole: dict[str, Any] = json.loads(path.read_text("utf-8"))
    small = dict(whole)
    for name, kind in KINDS.items():
        typed = {"apiVersion": kind.api_version, "kind": kind.kind}
        small[name] = [kept for one in whole[name] if (kept := slim(typed | one)) is not None]
        assert len(small[name]) == len(whole[name])
    found, expected = explain(observation(small)), explain(observation(whole))
    assert found == expected
    assert take_snapshot(cluster_state(small)) == take_snapshot(cluster_state(whole))
    assert len(json.dumps([small[name] for name in KINDS])) < len(json.dumps([whole[name] for name in KINDS]))
