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
PROGRAM = """
import os, socket, windlass_api.app as app
print(os.getuid(), app.__name__, socket.gethostbyname("kubernetes.default"))
"""


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


def test_the_control_plane_is_imported_without_rights_and_finds_services_by_name(cluster: Bed) -> None:
    ended = command(cluster, "up", "--image", "control-plane")
    if ended.returncode == UNABLE:
        pytest.skip(ended.stderr.strip())
    assert ended.returncode == 0, ended.stderr
    strict = namespace("strict")
    strict["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply(cluster, [strict, restricted(pod("strict", reference("control-plane"), ["python", "-c", PROGRAM]))])
    path = "/api/v1/namespaces/strict/pods/runs"
    with ClusterApi(cluster) as api:
        phases = {"Succeeded", "Failed"}
        eventually(lambda: (api.read(path) or {})["status"].get("phase") in phases, "the pod ends", 60)
    assert kubectl(cluster, "-n", "strict", "logs", "runs") == "1000 windlass_api.app 10.96.0.1\n"
    assert command(cluster, "reset").returncode == 0
