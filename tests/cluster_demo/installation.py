"""Installs Windlass with Helm on the test cluster: the images, PostgreSQL, an S3 server, both charts."""

import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from tests.testcluster import backing_services, node, project_images
from tests.testcluster.cluster_api import kubectl
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import REPOSITORY, LocalCluster

SYSTEM_NAMESPACE = "windlass-system"
API_PORT = 8741
_CHARTS = REPOSITORY / "helm"
_HELM_TIMEOUT = "5m"
_SECRET, _ADMIN_KEY = "windlass-secrets", "admin-key"


def run(*command: str) -> None:
    """Run a command of this repository with its output.

    Raises:
        LocalClusterError: it failed.
    """
    ended = subprocess.run(command, cwd=REPOSITORY, check=False)
    if ended.returncode:
        raise LocalClusterError(f"{' '.join(command[:3])} failed with exit code {ended.returncode}")


def start_cluster(cluster: LocalCluster, *, install: bool) -> None:
    """Start the cluster unless it is up, and add what Windlass needs; ``install`` installs missing Debian packages."""
    images = [option for name in project_images.NAMES for option in ("--image", name)]
    options = ["--backing-services", *images, *(["--install"] if install else [])]
    run(sys.executable, "-m", "tests.testcluster", "--state", str(cluster.state), "up", *options)


def install_charts(cluster: LocalCluster, project: str, changes: Mapping[str, Any] | None = None) -> None:
    """Install or upgrade both charts, and wait until every pod is ready. The project may use all GPUs of the real node.

    The cluster has the images and the backing services. ``changes`` replace values of the chart.
    """
    upgrade = ["upgrade", "--install", "--create-namespace"]
    helm(cluster, *upgrade, "windlass-crds", str(_CHARTS / "windlass-crds"))
    profile = f"--values={_CHARTS / 'windlass' / 'values-testcluster.yaml'}"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as values:
        json.dump(_values(project) | dict(changes or {}), values)
        values.flush()
        helm(cluster, *upgrade, "windlass", str(_CHARTS / "windlass"), profile, f"--values={values.name}")


def helm(cluster: LocalCluster, *command: str) -> None:
    """Run a command of Helm in the namespace of the installation, and wait until what it changes is ready or gone."""
    options = [f"--kubeconfig={cluster.kubeconfig}", f"--namespace={SYSTEM_NAMESPACE}"]
    run(str(cluster.bin / "helm"), *command, *options, "--wait", f"--timeout={_HELM_TIMEOUT}")


def _values(project: str) -> dict[str, Any]:
    """The chart's values beside those of the profile: this cluster's backing services and node, and a project."""
    return {
        # The tags of the images stay the same; pods of other images must be replaced.
        "podAnnotations": {f"images/{name}": project_images.digest(name) for name in ("control-plane", "operators")},
        "pools": {node.POOL: {"nodeLabels": {node.POOL_LABEL: node.POOL}, "gpuType": "none, simulated"}},
        "projects": {
            project: {"quotas": [{"pool": node.POOL, "nominal": node.GPUS}], "jobs": {"priorityCeiling": 100}}
        },
        "database": {"url": backing_services.DATABASE_URL},
        "objectStore": {
            "endpoint": backing_services.S3_ENDPOINT,
            "bucket": backing_services.BUCKET,
            "accessKeyId": backing_services.S3_ACCESS_KEY_ID,
            "secretAccessKey": backing_services.S3_SECRET_ACCESS_KEY,
        },
    }


def admin_key(cluster: LocalCluster) -> str:
    """Return the first admin key, which the chart generated."""
    secret = json.loads(kubectl(cluster, "-n", SYSTEM_NAMESPACE, "get", "secret", _SECRET, "-o", "json"))
    return base64.b64decode(secret["data"][_ADMIN_KEY]).decode()
