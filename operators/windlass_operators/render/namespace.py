"""Project -> its namespace and the walls around it: accounts, roles, network, limits."""

from collections.abc import Iterator, Mapping

from windlass.domain.projects import Role
from windlass.kube.names import (
    CEILING_ANNOTATION,
    PROJECT_UID_LABEL,
    QUEUES_ANNOTATION,
    SERVER_ACCOUNT,
    TRAINER_ACCOUNT,
    labels,
    local_queue_of,
    namespace_of,
)
from windlass.kube.resources import GPUPool, Project
from windlass_operators.render import Object

SYSTEM_NAMESPACE_LABEL = "kubernetes.io/metadata.name"
RBAC = "rbac.authorization.k8s.io"

_READ = ["get", "list", "watch"]
_VIEWER_RULES: list[Object] = [
    {"apiGroups": ["ray.io"], "resources": ["rayjobs", "rayclusters", "rayservices"], "verbs": _READ},
    {"apiGroups": ["kueue.x-k8s.io"], "resources": ["workloads", "localqueues"], "verbs": _READ},
    {"apiGroups": ["visibility.kueue.x-k8s.io"], "resources": ["localqueues/pendingworkloads"], "verbs": ["get"]},
    {"apiGroups": ["windlass.dev"], "resources": ["modelendpoints"], "verbs": _READ},
    {"apiGroups": [""], "resources": ["pods", "pods/log", "events", "services", "resourcequotas"], "verbs": _READ},
]
_EDITOR_RULES: list[Object] = [
    *_VIEWER_RULES,
    {
        "apiGroups": ["windlass.dev"],
        "resources": ["modelendpoints", "modelendpoints/scale"],
        "verbs": ["create", "update", "patch", "delete"],
    },
]
_RULES: Mapping[Role, list[Object]] = {
    Role.VIEWER: _VIEWER_RULES,
    Role.EDITOR: _EDITOR_RULES,
    Role.OWNER: _EDITOR_RULES,
}
"""Jobs are submitted through the API, which checks data, budget and quota: nobody may create RayJobs by hand."""


def namespace(project: Project, pools: Mapping[str, GPUPool]) -> Object:
    """Return the namespace, with Pod Security *restricted* enforced, and with what the admission policies go by."""
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    uid = {PROJECT_UID_LABEL: project.metadata.uid}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": namespace_of(project.metadata.name),
            "labels": labels(project.metadata.name) | level | uid,
            "annotations": {
                QUEUES_ANNOTATION: ",".join(_queues(project, pools)),
                CEILING_ANNOTATION: str(project.spec.jobs.priority_ceiling),
            },
        },
    }


def _queues(project: Project, pools: Mapping[str, GPUPool]) -> Iterator[str]:
    """Yield the queues with the one resource that each counts; what a queue does not count is nothing to Kueue."""
    for quota in project.spec.quotas:
        if pool := pools.get(quota.pool):
            yield f"{local_queue_of(quota.pool)}={pool.spec.resource_name}"


def accounts(project: Project) -> list[Object]:
    """Return the accounts of pods: none of them gets a token, the namespace's default one neither."""
    return [
        _inside(project, "v1", "ServiceAccount", name) | {"automountServiceAccountToken": False}
        for name in ("default", TRAINER_ACCOUNT, SERVER_ACCOUNT)
    ]


def roles(project: Project) -> list[Object]:
    """Return a Role and a RoleBinding for each role; one without members is bound to nobody."""
    found: list[Object] = []
    for role, rules in _RULES.items():
        name = f"windlass-{role.value}"
        found.append(_inside(project, f"{RBAC}/v1", "Role", name) | {"rules": rules})
        subjects = [
            {"apiGroup": RBAC, "kind": member.kind, "name": member.name}
            for member in project.spec.members
            if member.role == role.value
        ]
        reference = {"apiGroup": RBAC, "kind": "Role", "name": name}
        found.append(_inside(project, f"{RBAC}/v1", "RoleBinding", name) | {"roleRef": reference, "subjects": subjects})
    return found


def network_policies(project: Project, system: str) -> list[Object]:
    """Return default deny both ways, and the holes that Ray needs.

    Pods of the namespace speak with each other, ask DNS, and reach the control plane and the object store in
    ``system``; the operator of Ray and the control plane reach the pods. Nothing else comes in or goes out.
    """
    here: Object = {"podSelector": {}}
    dns = {"namespaceSelector": {"matchLabels": {SYSTEM_NAMESPACE_LABEL: "kube-system"}}}
    house = {"namespaceSelector": {"matchLabels": {SYSTEM_NAMESPACE_LABEL: system}}}
    both = ["Ingress", "Egress"]
    # the empty lists are said, so that a rule that somebody adds is drift and no addition
    deny: Object = {"podSelector": {}, "policyTypes": both, "ingress": [], "egress": []}
    holes = {
        "podSelector": {},
        "policyTypes": both,
        "ingress": [{"from": [here]}, {"from": [house]}],
        "egress": [
            {"to": [here]},
            {"to": [house]},
            {"to": [dns], "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]},
        ],
    }
    kind = ("networking.k8s.io/v1", "NetworkPolicy")
    return [
        _inside(project, *kind, "windlass-deny") | {"spec": deny},
        _inside(project, *kind, "windlass-ray") | {"spec": holes},
    ]


def resource_quota(project: Project, pools: Mapping[str, GPUPool]) -> Object:
    """Return the backstop behind Kueue: pods never hold more GPUs than nominal quota and permitted borrowing.

    A borrowing without limit has none here either: the sum of the cohort is Kueue's to keep.
    """
    hard: dict[str, str] = {}
    unlimited: set[str] = set()
    sums: dict[str, int] = {}
    for quota in project.spec.quotas:
        if (pool := pools.get(quota.pool)) is None:
            continue
        resource = pool.spec.resource_name
        if project.spec.cohort is not None and quota.borrowing_limit is None:
            unlimited.add(resource)
        sums[resource] = sums.get(resource, 0) + quota.nominal + (quota.borrowing_limit or 0)
    for resource in sorted({pool.spec.resource_name for pool in pools.values()}):
        if resource not in unlimited:
            hard[f"requests.{resource}"] = str(sums.get(resource, 0))
    # Jobs are queued by Kueue, and an admission policy says whose they are; nothing queues these
    hard |= {"count/deployments.apps": "0", "count/statefulsets.apps": "0"}
    return _inside(project, "v1", "ResourceQuota", "windlass") | {"spec": {"hard": hard}}


def limit_range(project: Project) -> Object:
    """Return what a container gets that asks for nothing, so that every pod counts somewhere."""
    limits = [
        {
            "type": "Container",
            "default": {"cpu": "2", "memory": "4Gi"},
            "defaultRequest": {"cpu": "250m", "memory": "512Mi"},
        }
    ]
    return _inside(project, "v1", "LimitRange", "windlass") | {"spec": {"limits": limits}}


def objects(project: Project, pools: Mapping[str, GPUPool], system: str) -> list[Object]:
    """Return the namespace and all that stands in it, in the order to apply it: the walls before the tenants."""
    return [
        namespace(project, pools),
        *network_policies(project, system),
        resource_quota(project, pools),
        limit_range(project),
        *accounts(project),
        *roles(project),
    ]


def _inside(project: Project, api_version: str, kind: str, name: str) -> Object:
    owner = project.metadata.name
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace_of(owner), "labels": labels(owner)},
    }
