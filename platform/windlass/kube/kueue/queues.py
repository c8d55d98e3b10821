"""Kueue's ClusterQueue, LocalQueue, Cohort and ResourceFlavor (v1beta2)."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from windlass.kube.kueue.models import KubeCondition, KubeModel, KubeObject, find_condition, parse_quantity
from windlass.kube.names import POOL_LABEL, PROJECT_LABEL, cluster_queue_of


class ResourceQuota(KubeModel):
    """A queue's quota of one resource in one flavor."""

    name: str
    nominal_quota: Any = 0
    borrowing_limit: Any = None
    lending_limit: Any = None

    @property
    def nominal(self) -> int:
        """The nominal quota."""
        return parse_quantity(self.nominal_quota)

    @property
    def borrows(self) -> int | None:
        """The borrowing limit; None: unlimited."""
        return None if self.borrowing_limit is None else parse_quantity(self.borrowing_limit)

    @property
    def lends(self) -> int | None:
        """The lending limit; None: all of the nominal quota."""
        return None if self.lending_limit is None else parse_quantity(self.lending_limit)


class FlavorQuotas(KubeModel):
    """A queue's quotas in one flavor."""

    name: str
    resources: tuple[ResourceQuota, ...] = ()


class ResourceGroup(KubeModel):
    """Resources that are assigned the same flavor."""

    covered_resources: tuple[str, ...] = ()
    flavors: tuple[FlavorQuotas, ...] = ()


class PreemptionPolicy(KubeModel):
    """Which workloads a queue's workloads may preempt."""

    reclaim_within_cohort: str = "Never"
    within_cluster_queue: str = "Never"


class ClusterQueueSpec(KubeModel):
    """The spec of a ClusterQueue."""

    cohort_name: str = ""
    queueing_strategy: str = "BestEffortFIFO"
    stop_policy: str = "None"
    resource_groups: tuple[ResourceGroup, ...] = ()
    preemption: PreemptionPolicy = PreemptionPolicy()


class QueueStatus(KubeModel):
    """The status of a queue."""

    conditions: tuple[KubeCondition, ...] = ()
    pending_workloads: int = 0
    reserving_workloads: int = 0
    admitted_workloads: int = 0


class _Queue(KubeObject):
    status: QueueStatus = QueueStatus()

    @property
    def active(self) -> KubeCondition | None:
        """The condition Active; None if Kueue has not reconciled the queue yet."""
        return find_condition(self.status.conditions, "Active")


class ClusterQueue(_Queue):
    """A queue with quota: one per project and pool."""

    spec: ClusterQueueSpec = ClusterQueueSpec()

    @cached_property
    def project(self) -> str:
        """The project that it belongs to; ``queue:NAME`` for a queue that Windlass did not create.

        Labels are not enough, since anyone who may create queues can set them: the name must match them.
        """
        name, labels = self.metadata.name, self.metadata.labels
        project, pool = labels.get(PROJECT_LABEL), labels.get(POOL_LABEL)
        if project and pool and name == cluster_queue_of(project, pool):
            return project
        return f"queue:{name}"

    @cached_property
    def flavors(self) -> tuple[str, ...]:
        """Its flavors, in the order in which Kueue tries them."""
        return tuple(flavor.name for group in self.spec.resource_groups for flavor in group.flavors)

    @property
    def stopped(self) -> bool:
        """Whether it admits nothing: it has a stop policy, or Kueue reports it as inactive."""
        return self.spec.stop_policy != "None" or (self.active is not None and self.active.status == "False")

    def quota(self, flavor: str, resource: str) -> ResourceQuota | None:
        """Return its quota of a resource in a flavor."""
        return next(
            (
                quota
                for group in self.spec.resource_groups
                for quotas in group.flavors
                if quotas.name == flavor
                for quota in quotas.resources
                if quota.name == resource
            ),
            None,
        )


class LocalQueueSpec(KubeModel):
    """The spec of a LocalQueue."""

    cluster_queue: str = ""
    stop_policy: str = "None"


class LocalQueue(_Queue):
    """A queue in a namespace that points to a ClusterQueue."""

    spec: LocalQueueSpec = LocalQueueSpec()

    @property
    def stopped(self) -> bool:
        """Whether it has a stop policy; the state of its ClusterQueue is separate."""
        return self.spec.stop_policy != "None"


class CohortSpec(KubeModel):
    """The spec of a Cohort; Windlass creates cohorts without quota and without parent."""

    parent_name: str = ""
    resource_groups: tuple[ResourceGroup, ...] = ()


class Cohort(KubeObject):
    """A group of ClusterQueues that lend each other idle quota."""

    spec: CohortSpec = CohortSpec()


class ResourceFlavorSpec(KubeModel):
    """The nodes of a flavor."""

    node_labels: Mapping[str, str] = {}


class ResourceFlavor(KubeObject):
    """A class of nodes: one per pool."""

    spec: ResourceFlavorSpec = ResourceFlavorSpec()
