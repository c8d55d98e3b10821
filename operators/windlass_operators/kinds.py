"""Kinds that the operators read and write."""

from windlass.kube.kinds import (
    CLUSTER_QUEUE,
    COHORT,
    ENDPOINT,
    KUEUE,
    LOCAL_QUEUE,
    NAMESPACE,
    NODE,
    POD,
    POOL,
    PROJECT,
    RAY_CLUSTER,
    RAY_SERVICE,
    RESOURCE_QUOTA,
    WORKLOAD,
)
from windlass.kube.objects import Kind
from windlass.kube.resources import GPUPool, ModelEndpoint, Project
from windlass.kube.resources.base import CustomResource

__all__ = [
    "CHILDREN",
    "CLUSTER_QUEUE",
    "COHORT",
    "ENDPOINT",
    "ENDPOINT_CHILDREN",
    "KUEUE",
    "LOCAL_QUEUE",
    "MODELS",
    "NAMESPACE",
    "NODE",
    "POOL",
    "POOL_CHILDREN",
    "PROJECT",
    "PROJECT_CHILDREN",
    "RAY_CLUSTER",
    "RAY_SERVICE",
    "RESOURCE_QUOTA",
    "RUNNABLE_KINDS",
    "WATCHED",
    "WORKLOAD",
]

_RBAC = "rbac.authorization.k8s.io/v1"

MODELS: dict[Kind, type[CustomResource]] = {POOL: GPUPool, PROJECT: Project, ENDPOINT: ModelEndpoint}


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
POOL_CHILDREN = (Kind(KUEUE, "ResourceFlavor"),)
ENDPOINT_CHILDREN = (RAY_SERVICE,)

CHILDREN = (*POOL_CHILDREN, *PROJECT_CHILDREN, COHORT, *ENDPOINT_CHILDREN)
"""Kinds that the operators create: watched with a label selector."""
WATCHED = (POOL, PROJECT, ENDPOINT, NODE, WORKLOAD, *CHILDREN)

RUNNABLE_KINDS = (
    ENDPOINT,
    RAY_SERVICE,
    Kind("ray.io/v1", "RayJob"),
    RAY_CLUSTER,
    Kind("batch/v1", "Job"),
    WORKLOAD,
    POD,
)
"""Kinds that may run in a project's namespace; owners before their dependents."""
