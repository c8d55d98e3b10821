"""Project -> Kueue objects: a Cohort, and per pool a ClusterQueue with the quota and a LocalQueue for jobs.

One strict queue per project and pool: a job that waits for one kind of GPU never blocks another kind, and within a kind
the oldest job of the highest priority is next. GPUs are what is counted. The queue also covers cpu and memory, with
more than any cluster has: Kueue 0.19 admits no workload of several kinds of pods of which one, as a Ray head, asks for
nothing that its queue covers. Nothing but the nodes bounds cpu and memory.
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

_UNCOUNTED: Mapping[str, str] = {"cpu": "1M", "memory": "100Ti"}
"""As the API server writes these quantities."""


def cohort(project: Project) -> Object | None:
    """Return the project's Cohort. It is shared, so that it carries no owner: it goes when its last project goes."""
    if project.spec.cohort is None:
        return None
    return {
        "apiVersion": KUEUE,
        "kind": "Cohort",
        "metadata": {"name": cohort_of(project.spec.cohort), "labels": labels()},
        "spec": {},
    }


def cluster_queue(project: Project, quota: ProjectQuota, pool: GPUPool) -> Object:
    """Return the queue that holds a project's quota of a pool.

    A lender takes back what it lent from whoever borrows (``reclaimWithinCohort: Any``); inside the project a higher
    priority takes the place of a lower one.
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
    """Cpu and memory without an end, and nothing of them lent or borrowed."""
    alone = {"borrowingLimit": "0", "lendingLimit": "0"} if project.spec.cohort is not None else {}
    resources = [{"name": name, "nominalQuota": much} | alone for name, much in _UNCOUNTED.items()]
    name = host_flavor_of(pool.metadata.name)
    return {"coveredResources": list(_UNCOUNTED), "flavors": [{"name": name, "resources": resources}]}


def local_queue(project: Project, quota: ProjectQuota) -> Object:
    """Return the queue in the project's namespace whose name a job carries."""
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
    """Return the project's queues, in the order to apply them; a quota of a pool that is not there has none."""
    found: list[Object] = []
    if shared := cohort(project):
        found.append(shared)
    for quota in project.spec.quotas:
        if pool := pools.get(quota.pool):
            found += [cluster_queue(project, quota, pool), local_queue(project, quota)]
    return found
