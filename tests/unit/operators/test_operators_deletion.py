"""What counts as live when a project is deleted."""

from typing import Any

import pytest

from windlass_operators.deletion import lives

DONE = [{"type": "Complete", "status": "True"}]
LIVE: list[tuple[str, str, dict[str, Any]]] = [
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
    [(*one, True) for one in LIVE] + [(*one, False) for one in ENDED],
)
def test_a_job_lives_from_the_moment_it_is_made_until_it_has_ended(
    version: str, kind: str, status: dict[str, Any], expected: bool
) -> None:
    assert lives({"apiVersion": version, "kind": kind, "metadata": {"name": "one"}, "status": status}) is expected
