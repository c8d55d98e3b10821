"""Project -> its namespace and isolation: service accounts, roles, network policies, limits."""

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
from windlass_operators.render.network import PlatformNetwork, network_policy_specs

RBAC = "rbac.authorization.k8s.io"
_RUNNER = "windlass-runner"
_PLATFORM_ROLES = {"windlass-worker": "windlass-project-worker", _RUNNER: "windlass-project-runner"}

_READ = ["get", "list", "watch"]
_MEMBER_RULES: list[Object] = [
    {"apiGroups": ["ray.io"], "resources": ["rayjobs", "rayclusters", "rayservices"], "verbs": _READ},
    {"apiGroups": ["kueue.x-k8s.io"], "resources": ["workloads", "localqueues"], "verbs": _READ},
    {"apiGroups": ["visibility.kueue.x-k8s.io"], "resources": ["localqueues/pendingworkloads"], "verbs": ["get"]},
    {"apiGroups": ["windlass.dev"], "resources": ["modelendpoints"], "verbs": _READ},
    {"apiGroups": [""], "resources": ["pods", "pods/log", "events", "services", "resourcequotas"], "verbs": _READ},
]
"""Of every role. Jobs and endpoints are created through the API, which checks files, budget and quota."""


def namespace(project: Project, pools: Mapping[str, GPUPool]) -> Object:
    """Return the namespace, with Pod Security *restricted* and the annotations that admission policies read."""
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
    """Yield each queue with the resource that it counts; Kueue ignores resources that a queue does not count."""
    for quota in project.spec.quotas:
        if pool := pools.get(quota.pool):
            yield f"{local_queue_of(quota.pool)}={pool.spec.resource_name}"


def accounts(project: Project) -> list[Object]:
    """Return the pods' service accounts, including the default one; none mounts a token."""
    return [
        _namespaced(project, "v1", "ServiceAccount", name) | {"automountServiceAccountToken": False}
        for name in ("default", TRAINER_ACCOUNT, SERVER_ACCOUNT)
    ]


def roles(project: Project) -> list[Object]:
    """Return a Role and a RoleBinding per project role, without subjects if it has no members."""
    result: list[Object] = []
    for role in Role:
        name = f"windlass-{role.value}"
        result.append(_namespaced(project, f"{RBAC}/v1", "Role", name) | {"rules": _MEMBER_RULES})
        subjects = [
            {"apiGroup": RBAC, "kind": member.kind, "name": member.name}
            for member in project.spec.members
            if member.role == role.value
        ]
        reference = {"apiGroup": RBAC, "kind": "Role", "name": name}
        result.append(
            _namespaced(project, f"{RBAC}/v1", "RoleBinding", name) | {"roleRef": reference, "subjects": subjects}
        )
    return result


def network_policies(project: Project, network: PlatformNetwork) -> list[Object]:
    """Return default deny for ingress and egress, and the exceptions."""
    return [
        _namespaced(project, "networking.k8s.io/v1", "NetworkPolicy", name) | {"spec": spec}
        for name, spec in network_policy_specs(network).items()
    ]


def platform_bindings(project: Project, network: PlatformNetwork) -> list[Object]:
    """Return the RoleBindings of the worker and the runner, which write only in namespaces of projects.

    Their ClusterRoles are part of the Helm chart; the operators may bind them without having their permissions.
    """
    result: list[Object] = []
    for account, role in _PLATFORM_ROLES.items():
        namespaces = {network.namespace}
        if account == _RUNNER and network.runner_namespace:
            namespaces.add(network.runner_namespace)
        subjects = [{"kind": "ServiceAccount", "name": account, "namespace": each} for each in sorted(namespaces)]
        reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
        binding = _namespaced(project, f"{RBAC}/v1", "RoleBinding", account)
        result.append(binding | {"roleRef": reference, "subjects": subjects})
    return result


def resource_quota(project: Project, pools: Mapping[str, GPUPool]) -> Object:
    """Return a limit independent of Kueue: pods use at most the nominal quota plus the borrowing limit.

    Without a borrowing limit there is none here either: Kueue enforces the cohort's total.
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
    # Kueue queues Jobs, and an admission policy restricts who creates them; nothing queues these kinds
    hard |= {"count/deployments.apps": "0", "count/statefulsets.apps": "0"}
    return _namespaced(project, "v1", "ResourceQuota", "windlass") | {"spec": {"hard": hard}}


def limit_range(project: Project) -> Object:
    """Return default requests and limits for containers without them."""
    limits = [
        {
            "type": "Container",
            "default": {"cpu": "2", "memory": "4Gi"},
            "defaultRequest": {"cpu": "250m", "memory": "512Mi"},
        }
    ]
    return _namespaced(project, "v1", "LimitRange", "windlass") | {"spec": {"limits": limits}}


def objects(project: Project, pools: Mapping[str, GPUPool], network: PlatformNetwork) -> list[Object]:
    """Return the namespace and its objects, in the order to apply them: isolation before access."""
    return [
        namespace(project, pools),
        *network_policies(project, network),
        resource_quota(project, pools),
        limit_range(project),
        *accounts(project),
        *roles(project),
        *platform_bindings(project, network),
    ]


def _namespaced(project: Project, api_version: str, kind: str, name: str) -> Object:
    owner = project.metadata.name
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace_of(owner), "labels": labels(owner)},
    }
