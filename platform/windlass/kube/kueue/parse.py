"""The parsers of Kueue's objects that carry quantities, which are checked here once instead of at each use."""

from windlass.kube.kueue.models import parse_quantity
from windlass.kube.kueue.queues import ClusterQueue
from windlass.kube.kueue.workload import Workload
from windlass.kube.objects import Object


def parse_cluster_queue(raw: Object) -> ClusterQueue:
    """Parse a ClusterQueue and check its quantities.

    Raises:
        ValueError: it is invalid, or a quantity is negative.
        InvalidError: a quantity is malformed.
    """
    queue = ClusterQueue.parse(raw)
    for group in queue.spec.resource_groups:
        for quota in (quota for flavor in group.flavors for quota in flavor.resources):
            _require_non_negative(quota.nominal, quota.borrows or 0, quota.lends or 0)
    return queue


def parse_workload(raw: Object) -> Workload:
    """Parse a Workload and check its quantities.

    Raises:
        ValueError: it is invalid, or a quantity is negative.
        InvalidError: a quantity is malformed.
    """
    workload = Workload.parse(raw)
    admission = workload.status.admission
    for assignment in admission.pod_set_assignments if admission else ():
        _require_non_negative(*(parse_quantity(amount) for amount in assignment.resource_usage.values()))
    for pod_set in workload.spec.pod_sets:
        spec = pod_set.template.spec
        for container in (*spec.containers, *spec.init_containers):
            amounts = (*container.resources.requests.values(), *container.resources.limits.values())
            _require_non_negative(pod_set.count, *(parse_quantity(amount) for amount in amounts))
    return workload


def _require_non_negative(*amounts: int) -> None:
    if min(amounts, default=0) < 0:
        raise ValueError("a quantity is negative")
