"""The fake Kubeflow Pipelines server in a pod of the test cluster, with the step pods of its runs as Jobs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes import kfp
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import ClusterApi, apply, available, kubectl
from tests.testcluster.layout import LocalCluster
from tests.testcluster.project_images import reference
from tests.testcluster.service_relay import relayed_service

NAMESPACE, NAME, PORT = "kubeflow", "ml-pipeline", 8888
HOST = f"http://{NAME}.{NAMESPACE}.svc:{PORT}"
_ACCOUNT, _RUN_ACCOUNT = "ml-pipeline", "windlass-runner"
_ROLE = "pipeline-runner"
"""Of the pods of runs, and the name of their default account."""
_FOLDER = "/fake"
_FILES = sorted(Path(next(iter(kfp.__path__))).glob("*.py"))
_RULES = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "patch"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
]


def _object(kind: str, name: str, version: str = "v1", **fields: Any) -> dict[str, Any]:
    metadata = {"name": name} if kind == "Namespace" else {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def _objects() -> list[dict[str, Any]]:
    group = "rbac.authorization.k8s.io"
    labels = {"app": NAME}
    options = ["--namespace", NAMESPACE, "--port", str(PORT), "--service-account", _RUN_ACCOUNT]
    paths = [{"key": path.name, "path": f"tests/fakes/kfp/{path.name}"} for path in _FILES]
    container = {
        "name": "server",
        "image": reference("pipelines"),
        "imagePullPolicy": "Never",
        "command": ["python3", "-m", "tests.fakes.kfp.step_jobs", *options],
        "env": [{"name": "PYTHONPATH", "value": _FOLDER}, {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
        "readinessProbe": {"httpGet": {"path": "/apis/v2beta1/healthz", "port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "code", "mountPath": _FOLDER}],
    }
    pod = {
        "serviceAccountName": _ACCOUNT,
        "containers": [container],
        "volumes": [{"name": "code", "configMap": {"name": NAME, "items": paths}}],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    subject = {"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": NAMESPACE}
    return [
        _object("Namespace", NAMESPACE),
        _object("ServiceAccount", _ACCOUNT),
        _object("ServiceAccount", _ROLE),
        _object("ConfigMap", NAME, data={path.name: path.read_text("utf-8") for path in _FILES}),
        _object("Role", NAME, f"{group}/v1", rules=_RULES),
        _object("Role", _ROLE, f"{group}/v1", rules=[]),
        _object(
            "RoleBinding",
            NAME,
            f"{group}/v1",
            roleRef={"apiGroup": group, "kind": "Role", "name": NAME},
            subjects=[subject],
        ),
        _object("Service", NAME, spec={"selector": labels, "ports": [{"port": PORT}]}),
        _object(
            "Deployment",
            NAME,
            "apps/v1",
            spec={"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        ),
    ]


@contextmanager
def fake_server(cluster: LocalCluster) -> Iterator[str]:
    """Run the server in its namespace; the value is its URL on the host."""
    apply(cluster, _objects())
    with ClusterApi(cluster) as api:
        eventually(lambda: available(api, NAMESPACE, NAME), "the server is ready", 60)
    with relayed_service(cluster, NAMESPACE, NAME, PORT) as relay:
        yield f"http://{relay.address}"
    kubectl(cluster, "delete", "namespace", NAMESPACE, "--wait=false")
