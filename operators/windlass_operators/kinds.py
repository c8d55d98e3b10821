"""The kinds of objects that the operators read and write."""

from windlass.kube.kinds import (
    CLUSTER_QUEUE,
    COHORT,
    ENDPOINT,
    KUEUE,
    LOCAL_QUEUE,
    NODE,
    POD,
    POOL,
    PROJECT,
    WORKLOAD,
)
from windlass.kube.objects import Kind
from windlass.kube.resources import GPUPool, ModelEndpoint, Project
from windlass.kube.resources.base import Resource

__all__ = [
    "CHILDREN",
    "CLUSTER_QUEUE",
    "COHORT",
    "ENDPOINT",
    "ENDPOINT_CHILDREN",
    "KUEUE",
    "LIVE",
    "LOCAL_QUEUE",
    "MODELS",
    "NAMESPACE",
    "NODE",
    "POOL",
    "POOL_CHILDREN",
    "PROJECT",
    "PROJECT_CHILDREN",
    "RAY_SERVICE",
    "RESOURCE_QUOTA",
    "WATCHED",
    "WORKLOAD",
]

_RBAC = "rbac.authorization.k8s.io/v1"

MODELS: dict[Kind, type[Resource]] = {POOL: GPUPool, PROJECT: Project, ENDPOINT: ModelEndpoint}

NAMESPACE, RESOURCE_QUOTA = Kind("v1", "Namespace"), Kind("v1", "ResourceQuota")
RAY_SERVICE = Kind("ray.io/v1", "RayService")

PROJECT_CHILDREN = (
    NAMESPACE,
    Kind("networking.k8s.io/v1", "NetworkPolicy"),
    RESOURCE_QUOTA,
    Kind("v1", "LimitRange"),
    Kind("v1", "ServiceAccount"),
    Kind(_RBAC, "Role"),
    Kind(_RBAC, "RoleBinding"),
    CLUSTER_QUEUE,
    LOCAL_QUEUE,
)
POOL_CHILDREN = (Kind(KUEUE, "Topology"), Kind(KUEUE, "ResourceFlavor"))
ENDPOINT_CHILDREN = (RAY_SERVICE,)

CHILDREN = (*POOL_CHILDREN, *PROJECT_CHILDREN, COHORT, *ENDPOINT_CHILDREN)
"""What the operators make: watched by the label that says so."""
WATCHED = (POOL, PROJECT, ENDPOINT, NODE, WORKLOAD, *CHILDREN)

LIVE = (
    ENDPOINT,
    RAY_SERVICE,
    Kind("ray.io/v1", "RayJob"),
    Kind("ray.io/v1", "RayCluster"),
    Kind("batch/v1", "Job"),
    WORKLOAD,
    POD,
)
"""What may run in a project's namespace; owners before what they own."""
