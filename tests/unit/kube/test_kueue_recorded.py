"""Objects recorded from a real cluster (Kueue 0.19.2, Kubernetes 1.36) lead to the expected reasons.

tests/integration/cluster/test_reasons.py records them into the folder WINDLASS_TESTCLUSTER_RECORD. Files with prefix
``granular-`` come from the same Kueue with its feature gate UnadmittedWorkloadsObservability.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.factories.observations import observation

from windlass.kube.kueue.explain import explain_pending

RECORDED = Path(__file__).parent / "recorded"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "a-missing-pool": ("misconfigured", {}),
    "a-missing-queue": ("misconfigured", {}),
    "a-node-that-is-gone": ("node_lost", {"node": "doomed"}),
    "a-node-that-is-silent": ("node_lost", {"node": "silent"}),
    "a-stopped-queue": ("queue_stopped", {"pool": "a-stopped-queue", "needed": 1}),
    "behind-the-head": (
        "behind_head_of_queue",
        {"position": 2, "needed": 1, "free": 1, "ahead": "wl-stage-a/behind-the-head-head"},
    ),
    "larger-than-the-quota": ("exceeds_max_quota", {"limit": 4, "needed": 6, "position": 1}),
    "no-image": ("image_pull_failed", {"image": "bed.local/nothing:v1", "node": "testcluster"}),
    "no-matching-nodes": ("no_matching_nodes", {}),
    "no-room": ("unschedulable", {"pods": 1, "unschedulable": 1}),
    "not-queued": ("not_queued", {}),
    "others-must-stop": ("waiting_for_preempted", {"terminating": 1, "needed": 4, "position": 1}),
    "overtaken": (
        "preempted",
        {"cause": "InClusterQueue", "by_job": "wl-stage-a/overtaken-urgent", "waits_for": "waiting_for_quota"},
    ),
    "quota-in-use": ("waiting_for_quota", {"needed": 2, "free": 0, "position": 1}),
    "ray-jobs": (
        "waiting_for_quota",
        {"needed": 1, "free": 0, "position": 2, "ahead": "job_zzzzzzzzzzabcdefghjkmnpqrs"},
    ),
    "switched-off": ("deactivated", {"detail": "The workload is deactivated"}),
    "taken-back": (
        "preempted",
        {"cause": "InCohortReclamation", "by_project": "stage-b", "waits_for": "waiting_for_quota", "position": 1},
    ),
    "the-borrowing-limit": ("borrowing_limit_reached", {"limit": 1, "needed": 2, "position": 1}),
}


CASES |= {
    f"granular-{name}": CASES[name]
    for name in (
        "a-stopped-queue",
        "larger-than-the-quota",
        "no-matching-nodes",
        "others-must-stop",
        "quota-in-use",
    )
}


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_state_has_its_reason(name: str) -> None:
    code, context = CASES[name]
    reason = explain_pending(observation(json.loads((RECORDED / f"{name}.json").read_text("utf-8"))))
    assert reason is not None
    assert reason.code == code
    assert {key: reason.context.get(key) for key in context} == context


def test_every_recording_is_used() -> None:
    assert {path.stem for path in RECORDED.glob("*.json")} == CASES.keys()
