"""The project's own images run on the bed, as somebody without rights."""

import pytest
from tests.bed.cluster_api import ClusterApi, apply, kubectl
from tests.bed.failures import UNABLE
from tests.bed.fixture import command
from tests.bed.layout import Bed
from tests.bed.project_images import reference
from tests.integration.cluster.objects import Json, namespace, pod
from tests.integration.cluster.waiting import eventually

# The first build fetches Debian's and Python's packages.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
WHO_AND_WHAT = "import os, windlass_api.app as app; print(os.getuid(), app.__name__, app.__cached__ is not None)"


def restricted(subject: Json) -> Json:
    """What the strictest of the Pod Security Standards asks for."""
    subject["spec"]["containers"][0]["securityContext"] = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return subject


def test_the_control_plane_is_imported_by_an_account_without_rights(cluster: Bed) -> None:
    ended = command(cluster, "up", "--image", "control-plane")
    if ended.returncode == UNABLE:
        pytest.skip(ended.stderr.strip())
    assert ended.returncode == 0, ended.stderr
    strict = namespace("strict")
    strict["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply(cluster, [strict, restricted(pod("strict", reference("control-plane"), ["python", "-c", WHO_AND_WHAT]))])
    path = "/api/v1/namespaces/strict/pods/runs"
    with ClusterApi(cluster) as api:
        phases = {"Succeeded", "Failed"}
        eventually(lambda: (api.read(path) or {})["status"].get("phase") in phases, "the pod ends", 60)
    assert kubectl(cluster, "-n", "strict", "logs", "runs") == "1000 windlass_api.app True\n"
    assert command(cluster, "reset").returncode == 0
