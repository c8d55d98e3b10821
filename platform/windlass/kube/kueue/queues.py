"""Kueue's queues and what they stand on: ClusterQueue, LocalQueue, Cohort, ResourceFlavor (v1beta2)."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from windlass.kube.kueue.reading import Condition, Observed, Reading, find, whole
from windlass.kube.names import POOL_LABEL, PROJECT_LABEL, cluster_queue_of


class ResourceQuota(Reading):
    """A queue's quota of one resource in one flavor."""

    name: str
    nominal_quota: Any = 0
    borrowing_limit: Any = None
    lending_limit: Any = None

    @property
    def nominal(self) -> int:
        """The queue's own share."""
        return whole(self.nominal_quota)

    @property
    def borrows(self) -> int | None:
        """Most that it may borrow; None: no limit."""
        return None if self.borrowing_limit is None else whole(self.borrowing_limit)

    @property
    def lends(self) -> int | None:
        """Most that it lends; None: all of it."""
        return None if self.lending_limit is None else whole(self.lending_limit)


class FlavorQuotas(Reading):
    """A queue's quotas in one flavor."""

    name: str
    resources: tuple[ResourceQuota, ...] = ()


class ResourceGroup(Reading):
    """Resources that are given from the same flavor."""

    covered_resources: tuple[str, ...] = ()
    flavors: tuple[FlavorQuotas, ...] = ()


class Preemption(Reading):
    """Whom a queue's workloads may push out."""

    reclaim_within_cohort: str = "Never"
    within_cluster_queue: str = "Never"


class ClusterQueueSpec(Reading):
    """A queue's wish."""

    cohort_name: str = ""
    queueing_strategy: str = "BestEffortFIFO"
    stop_policy: str = "None"
    resource_groups: tuple[ResourceGroup, ...] = ()
    preemption: Preemption = Preemption()


class QueueStatus(Reading):
    """How a queue is."""

    conditions: tuple[Condition, ...] = ()
    pending_workloads: int = 0
    reserving_workloads: int = 0
    admitted_workloads: int = 0


class _Queue(Observed):
    status: QueueStatus = QueueStatus()

    @property
    def active(self) -> Condition | None:
        """The condition Active; None when Kueue has not looked at the queue yet."""
        return find(self.status.conditions, "Active")


class ClusterQueue(_Queue):
    """Quota and the line before it: one for each project and pool."""

    spec: ClusterQueueSpec = ClusterQueueSpec()

    @cached_property
    def project(self) -> str:
        """The project whose quota it holds; a queue that Windlass has not made is no project's: ``queue:NAME``.

        Labels alone prove nothing, since whoever may make queues may label them: the name must be the one that follows.
        """
        name, labels = self.metadata.name, self.metadata.labels
        project, pool = labels.get(PROJECT_LABEL), labels.get(POOL_LABEL)
        if project and pool and name == cluster_queue_of(project, pool):
            return project
        return f"queue:{name}"

    @cached_property
    def flavors(self) -> tuple[str, ...]:
        """The flavors that it gives from, in the order in which Kueue tries them."""
        return tuple(flavor.name for group in self.spec.resource_groups for flavor in group.flavors)

    @property
    def stopped(self) -> bool:
        """Whether nothing new starts from it: by its own wish, or because Kueue says that it is not active."""
        return self.spec.stop_policy != "None" or (self.active is not None and self.active.status == "False")

    def quota(self, flavor: str, resource: str) -> ResourceQuota | None:
        """Return its quota of a resource in a flavor."""
        return next(
            (
                one
                for group in self.spec.resource_groups
                for given in group.flavors
                if given.name == flavor
                for one in given.resources
                if one.name == resource
            ),
            None,
        )


class LocalQueueSpec(Reading):
    """A local queue's wish."""

    cluster_queue: str = ""
    stop_policy: str = "None"


class LocalQueue(_Queue):
    """A namespace's door to a ClusterQueue."""

    spec: LocalQueueSpec = LocalQueueSpec()

    @property
    def stopped(self) -> bool:
        """Whether it lets nothing through by its own wish; that its ClusterQueue is stopped stands there."""
        return self.spec.stop_policy != "None"


class CohortSpec(Reading):
    """A cohort's wish; Windlass makes cohorts without quota and without parent."""

    parent_name: str = ""
    resource_groups: tuple[ResourceGroup, ...] = ()


class Cohort(Observed):
    """ClusterQueues that lend each other what is idle."""

    spec: CohortSpec = CohortSpec()


class ResourceFlavorSpec(Reading):
    """Which nodes a flavor means."""

    node_labels: Mapping[str, str] = {}


class ResourceFlavor(Observed):
    """A kind of node: one for each pool."""

    spec: ResourceFlavorSpec = ResourceFlavorSpec()
