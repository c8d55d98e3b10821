"""The kinds of objects that more than one part of Windlass reads."""

from typing import Final

from windlass.kube.objects import Kind
from windlass.kube.resources.base import GROUP, VERSION

KUEUE: Final = "kueue.x-k8s.io/v1beta2"
OWN: Final = f"{GROUP}/{VERSION}"

POOL, PROJECT, ENDPOINT = Kind(OWN, "GPUPool"), Kind(OWN, "Project"), Kind(OWN, "ModelEndpoint")
CLUSTER_QUEUE, LOCAL_QUEUE, COHORT = (Kind(KUEUE, name) for name in ("ClusterQueue", "LocalQueue", "Cohort"))
WORKLOAD = Kind(KUEUE, "Workload")
NODE, POD, EVENT = Kind("v1", "Node"), Kind("v1", "Pod"), Kind("v1", "Event")
