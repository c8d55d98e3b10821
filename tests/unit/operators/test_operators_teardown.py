"""Objects that count as alive when a project is deleted."""

from typing import Any

import pytest

from windlass_operators.teardown import is_alive

DONE = [{"type": "Complete", "status": "True"}]
RUNNABLE_KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("batch/v1", "Job", {}),
    ("batch/v1", "Job", {"conditions": [{"type": "Suspended", "status": "True"}]}),
    ("ray.io/v1", "RayJob", {}),
    ("ray.io/v1", "RayJob", {"jobDeploymentStatus": "Suspended"}),
    ("ray.io/v1", "RayService", {}),
    ("kueue.x-k8s.io/v1beta2", "Workload", {}),
    ("v1", "Pod", {"phase": "Pending"}),
]
ENDED: list[tuple[str, str, dict[str, Any]]] = [
    ("batch/v1", "Job", {"conditions": DONE}),
    ("batch/v1", "Job", {"conditions": [{"type": "Failed", "status": "True"}]}),
    ("ray.io/v1", "RayJob", {"jobDeploymentStatus": "Complete"}),
    ("ray.io/v1", "RayJob", {"jobDeploymentStatus": "Failed"}),
    ("ray.io/v1", "RayJob", {"jobDeploymentStatus": "ValidationFailed"}),
    ("kueue.x-k8s.io/v1beta2", "Workload", {"conditions": [{"type": "Finished", "status": "True"}]}),
    ("v1", "Pod", {"phase": "Succeeded"}),
    ("windlass.dev/v1alpha1", "ModelEndpoint", {}),
]


@pytest.mark.parametrize(
    ("version", "kind", "status", "expected"),
    [(*one, True) for one in RUNNABLE_KINDS] + [(*one, False) for one in ENDED],
)
def test_job_is_alive_from_creation_until_it_ends(
    version: str, kind: str, status: dict[str, Any], expected: bool
) -> None:
    assert is_alive({"apiVersion": version, "kind": kind, "metadata": {"name": "one"}, "status": status}) is expected
