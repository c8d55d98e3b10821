"""Kinds that several components use."""

from typing import Final

from windlass.kube.objects import Kind
from windlass.kube.resources.base import GROUP, VERSION

KUEUE: Final = "kueue.x-k8s.io/v1beta2"
OWN: Final = f"{GROUP}/{VERSION}"

POOL, PROJECT, ENDPOINT = Kind(OWN, "GPUPool"), Kind(OWN, "Project"), Kind(OWN, "ModelEndpoint")
CLUSTER_QUEUE, LOCAL_QUEUE, COHORT = (Kind(KUEUE, name) for name in ("ClusterQueue", "LocalQueue", "Cohort"))
WORKLOAD = Kind(KUEUE, "Workload")
RAY_JOB, RAY_SERVICE = Kind("ray.io/v1", "RayJob"), Kind("ray.io/v1", "RayService")
RAY_CLUSTER = Kind("ray.io/v1", "RayCluster")
NODE, POD, EVENT = Kind("v1", "Node"), Kind("v1", "Pod"), Kind("v1", "Event")
NAMESPACE = Kind("v1", "Namespace")
BATCH_JOB, SECRET = Kind("batch/v1", "Job"), Kind("v1", "Secret")
CONFIG_MAP = Kind("v1", "ConfigMap")
DEPLOYMENT = Kind("apps/v1", "Deployment")
RESOURCE_QUOTA = Kind("v1", "ResourceQuota")
