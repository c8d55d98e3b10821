"""The control plane's account: what it needs of the cluster's rights to watch it and to change quotas, and no more."""

from typing import Any

from tests.bed.cluster_api import apply
from tests.bed.layout import Bed
from tests.integration.cluster.installed import admin_of

from windlass.kube.client import Client

Json = dict[str, Any]
ACCOUNT = "system:serviceaccount:windlass-system:windlass-api"
RULES: list[Json] = [
    {"apiGroups": ["windlass.dev"], "resources": ["gpupools"], "verbs": ["list", "watch"]},
    {"apiGroups": ["windlass.dev"], "resources": ["projects"], "verbs": ["get", "list", "watch", "patch"]},
    {
        "apiGroups": ["kueue.x-k8s.io"],
        "resources": ["clusterqueues", "localqueues", "cohorts", "workloads"],
        "verbs": ["list", "watch"],
    },
    {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
    {
        "apiGroups": ["visibility.kueue.x-k8s.io"],
        "resources": ["clusterqueues/pendingworkloads"],
        "verbs": ["get"],
    },
]


def control_of(cluster: Bed) -> Client:
    """Give the account its rights, and return its client."""
    rbac = "rbac.authorization.k8s.io"
    named: Json = {"apiVersion": f"{rbac}/v1", "metadata": {"name": "test-windlass-api"}}
    subject = {"apiGroup": rbac, "kind": "User", "name": ACCOUNT}
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": "test-windlass-api"}
    made = [named | {"kind": "ClusterRole", "rules": RULES}]
    made.append(named | {"kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]})
    apply(cluster, made)
    return admin_of(cluster, impersonate=ACCOUNT)
