"""Project -> Kueue objects: a Cohort, and per pool a ClusterQueue with the quota and a LocalQueue for jobs.

One StrictFIFO queue per project and pool: a job never blocks jobs of another pool, and within a pool the oldest job of
the highest priority is next. Only GPUs are limited. The queue also covers cpu and memory, with more than any cluster
has: Kueue 0.19 rejects a workload if a pod set, as a Ray head, requests none of the queue's resources.
"""

from collections.abc import Mapping

from windlass.kube.names import (
    PROJECT_LABEL,
    cluster_queue_of,
    cohort_of,
    host_flavor_of,
    labels,
    local_queue_of,
    namespace_of,
)
from windlass.kube.resources import GPUPool, Project, ProjectQuota
from windlass_operators.render import Object
from windlass_operators.render.gpu_pool import KUEUE

_UNLIMITED: Mapping[str, str] = {"cpu": "1M", "memory": "100Ti"}
"""In the API server's normalized form."""


def cohort(project: Project) -> Object | None:
    """Return the project's Cohort. It is shared and has no owner; it is deleted with its last project."""
    if project.spec.cohort is None:
        return None
    return {
        "apiVersion": KUEUE,
        "kind": "Cohort",
        "metadata": {"name": cohort_of(project.spec.cohort), "labels": labels()},
        "spec": {},
    }


def cluster_queue(project: Project, quota: ProjectQuota, pool: GPUPool) -> Object:
    """Return the queue with a project's quota of a pool.

    Lent quota is reclaimed from any borrower (``reclaimWithinCohort: Any``); within the project, jobs of higher
    priority preempt jobs of lower priority.
    """
    name = project.metadata.name
    resource: Object = {"name": pool.spec.resource_name, "nominalQuota": quota.nominal}
    if project.spec.cohort is not None:
        limits = {"borrowingLimit": quota.borrowing_limit, "lendingLimit": quota.lending_limit}
        resource |= {field: value for field, value in limits.items() if value is not None}
    spec: Object = {
        "namespaceSelector": {"matchLabels": {PROJECT_LABEL: name}},
        "queueingStrategy": "StrictFIFO",
        "resourceGroups": [
            {
                "coveredResources": [pool.spec.resource_name],
                "flavors": [{"name": pool.metadata.name, "resources": [resource]}],
            },
            _host(project, pool),
        ],
        "preemption": {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"},
        "stopPolicy": "None",
    }
    if project.spec.cohort is not None:
        spec["cohortName"] = cohort_of(project.spec.cohort)
    return {
        "apiVersion": KUEUE,
        "kind": "ClusterQueue",
        "metadata": {"name": cluster_queue_of(name, quota.pool), "labels": labels(name, quota.pool)},
        "spec": spec,
    }


def _host(project: Project, pool: GPUPool) -> Object:
    """Return practically unlimited cpu and memory, not lent or borrowed."""
    no_lending = {"borrowingLimit": "0", "lendingLimit": "0"} if project.spec.cohort is not None else {}
    resources = [{"name": name, "nominalQuota": amount} | no_lending for name, amount in _UNLIMITED.items()]
    name = host_flavor_of(pool.metadata.name)
    return {"coveredResources": list(_UNLIMITED), "flavors": [{"name": name, "resources": resources}]}


def local_queue(project: Project, quota: ProjectQuota) -> Object:
    """Return the LocalQueue in the project's namespace, which jobs name."""
    name = project.metadata.name
    return {
        "apiVersion": KUEUE,
        "kind": "LocalQueue",
        "metadata": {
            "name": local_queue_of(quota.pool),
            "namespace": namespace_of(name),
            "labels": labels(name, quota.pool),
        },
        "spec": {"clusterQueue": cluster_queue_of(name, quota.pool), "stopPolicy": "None"},
    }


def objects(project: Project, pools: Mapping[str, GPUPool]) -> list[Object]:
    """Return the project's queues, in the order to apply them; none for quotas of missing pools."""
    result: list[Object] = []
    if shared := cohort(project):
        result.append(shared)
    for quota in project.spec.quotas:
        if pool := pools.get(quota.pool):
            result += [cluster_queue(project, quota, pool), local_queue(project, quota)]
    return result
