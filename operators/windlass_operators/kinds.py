"""The kinds of objects that the operators read and write."""

from windlass.kube.objects import Kind
from windlass.kube.resources import GPUPool, ModelEndpoint, Project
from windlass.kube.resources.base import GROUP, VERSION, Resource

KUEUE = "kueue.x-k8s.io/v1beta2"
_RBAC = "rbac.authorization.k8s.io/v1"
_OWN = f"{GROUP}/{VERSION}"

POOL, PROJECT, ENDPOINT = Kind(_OWN, "GPUPool"), Kind(_OWN, "Project"), Kind(_OWN, "ModelEndpoint")
MODELS: dict[Kind, type[Resource]] = {POOL: GPUPool, PROJECT: Project, ENDPOINT: ModelEndpoint}

NODE, WORKLOAD = Kind("v1", "Node"), Kind(KUEUE, "Workload")
NAMESPACE, RESOURCE_QUOTA = Kind("v1", "Namespace"), Kind("v1", "ResourceQuota")
CLUSTER_QUEUE, LOCAL_QUEUE, COHORT = (Kind(KUEUE, name) for name in ("ClusterQueue", "LocalQueue", "Cohort"))
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
    Kind("v1", "Pod"),
)
"""What may run in a project's namespace; owners before what they own."""
