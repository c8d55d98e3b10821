"""The catalogue of Reasons: every code that a job, version or endpoint can show, who can act, and what it means.

The codes of quotas are the scheduler's own (``windlass.domain.quota``), in a cluster too. Those of ``ClusterCode`` only
a cluster can say. The names are an interface: they are never reused for something else.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from windlass.domain.jobs import Owner
from windlass.domain.quota.verdicts import Code


class ClusterCode(StrEnum):
    """Codes of what happens to a job in a cluster, beside its quota."""

    NOT_QUEUED = "not_queued"
    NOT_LOOKED_AT = "not_looked_at"
    MISCONFIGURED = "misconfigured"
    NO_MATCHING_NODES = "no_matching_nodes"
    PREEMPTED = "preempted"
    EVICTED = "evicted"
    DEACTIVATED = "deactivated"
    HELD = "held"
    WAITING_FOR_CHECKS = "waiting_for_checks"
    OTHERS_STARTING = "others_starting"
    PODS_STARTING = "pods_starting"
    UNSCHEDULABLE = "unschedulable"
    IMAGE_PULL_FAILED = "image_pull_failed"
    CONTAINER_CANNOT_START = "container_cannot_start"
    NODE_LOST = "node_lost"
    UNEXPLAINED = "unexplained"


class Entry(NamedTuple):
    """Who can act, and what it means."""

    owner: Owner
    meaning: str


CATALOGUE: Mapping[str, Entry] = {
    Code.WAITING_FOR_QUOTA: Entry(Owner.NOBODY, "The project's quota, with all that it may borrow, is in use."),
    Code.BEHIND_HEAD_OF_QUEUE: Entry(
        Owner.NOBODY,
        "A job before it waits, and jobs start in order. Owner is `you` when that job can never start.",
    ),
    Code.WAITING_FOR_PREEMPTED: Entry(Owner.NOBODY, "Jobs were told to stop for it, and have not stopped yet."),
    Code.BORROWING_LIMIT_REACHED: Entry(Owner.ADMIN, "There is idle quota, and the project may borrow no more."),
    Code.EXCEEDS_MAX_QUOTA: Entry(Owner.YOU, "It asks for more than the quota can ever give."),
    Code.NO_QUOTA_IN_POOL: Entry(Owner.ADMIN, "The project has no quota in the pool."),
    Code.UNKNOWN_POOL: Entry(Owner.YOU, "There is no such pool."),
    Code.EXCEEDS_POOL_CAPACITY: Entry(Owner.YOU, "It asks for more than the pool has."),
    Code.EXCEEDS_JOB_LIMIT: Entry(Owner.YOU, "It asks for more than one job may have."),
    Code.QUEUE_STOPPED: Entry(Owner.ADMIN, "An admin stopped the project's queue."),
    ClusterCode.NOT_QUEUED: Entry(
        Owner.NOBODY, "Kueue has no Workload for it yet. Owner is `admin` when an event says that it cannot."
    ),
    ClusterCode.NOT_LOOKED_AT: Entry(Owner.NOBODY, "Kueue has it and has not judged it yet."),
    ClusterCode.MISCONFIGURED: Entry(Owner.ADMIN, "A queue, flavor, namespace or limit is missing or contradicts it."),
    ClusterCode.NO_MATCHING_NODES: Entry(Owner.ADMIN, "Its pods may not run on the pool's nodes: taints or labels."),
    ClusterCode.PREEMPTED: Entry(
        Owner.NOBODY, "Another job took its place; it stops, or waits for its turn again and goes on by itself."
    ),
    ClusterCode.EVICTED: Entry(Owner.NOBODY, "It was stopped for another cause, and is queued again."),
    ClusterCode.DEACTIVATED: Entry(Owner.YOU, "It was switched off, by hand or by a limit, and does not come back."),
    ClusterCode.HELD: Entry(Owner.ADMIN, "A gate or a hold keeps it out of the queue."),
    ClusterCode.WAITING_FOR_CHECKS: Entry(Owner.ADMIN, "It has its quota, and an admission check has not passed."),
    ClusterCode.OTHERS_STARTING: Entry(Owner.NOBODY, "Pods of jobs admitted before it are not ready yet."),
    ClusterCode.PODS_STARTING: Entry(Owner.NOBODY, "It is admitted, and its pods start."),
    ClusterCode.UNSCHEDULABLE: Entry(Owner.ADMIN, "It is admitted, and no node has room for its pods."),
    ClusterCode.IMAGE_PULL_FAILED: Entry(Owner.ADMIN, "It is admitted, and a node cannot get its image."),
    ClusterCode.CONTAINER_CANNOT_START: Entry(Owner.ADMIN, "It is admitted, and a container does not start or stay."),
    ClusterCode.NODE_LOST: Entry(Owner.ADMIN, "A node that it runs on does not answer or is gone."),
    ClusterCode.UNEXPLAINED: Entry(Owner.ADMIN, "Kueue says something that Windlass does not know."),
    "deploy_failed": Entry(Owner.YOU, "Its version is registered, and the endpoint cannot serve it."),
    "gates_failed": Entry(Owner.YOU, "A version did not pass its evaluation gates."),
    "replica_failed": Entry(Owner.YOU, "A model server of the endpoint failed."),
    "rollout_failed": Entry(Owner.YOU, "The endpoint went back to what it served before."),
    "run_failed": Entry(Owner.YOU, "Its pipeline failed."),
    "run_stuck": Entry(Owner.ADMIN, "Its run cannot be looked after."),
    "runs_lost": Entry(Owner.ADMIN, "Its processes were lost too often."),
    "serving_unavailable": Entry(Owner.ADMIN, "No model server can be started."),
    "start_failed": Entry(Owner.ADMIN, "It was admitted and cannot be started; it is tried again."),
    "starting": Entry(Owner.NOBODY, "The endpoint's model server is starting."),
    "training_failed": Entry(Owner.YOU, "Training ended with an error."),
}
"""Who can act is the usual case; the Reason itself says it for the job at hand."""
