"""Explains why a workload does not run: one Reason, from the objects of Kueue and of the cluster.

Checked in this order: no Workload; deactivated; evicted and still running; a stopped or missing
queue; the condition QuotaReserved and the position in the queue; admission checks; pods. Quota is explained by the same
Reasons as in embedded mode. Jobs of other projects are never named, and projects only if they share the cohort.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from windlass.domain.jobs import ActionOwner, Reason
from windlass.domain.placement import placement_problem
from windlass.domain.quota import QueueDecision, QuotaCode
from windlass.domain.quota.queue_decisions import counted
from windlass.domain.reasons import ClusterCode
from windlass.kube.kueue.cluster_objects import KubeEvent, Node, Pod
from windlass.kube.kueue.messages import (
    ParsedCondition,
    PendingCause,
    PreemptedBy,
    parse_pending_cause,
    parse_preemption,
)
from windlass.kube.kueue.pods import cluster_reason, explain_pods, quoted
from windlass.kube.kueue.queues import ClusterQueue
from windlass.kube.kueue.snapshot import KueueState
from windlass.kube.kueue.workload import PendingWorkloads, Workload

_NOT_QUEUED_EVENTS = frozenset({"ErrWorkloadCompose", "WorkloadPriorityClassNotFound"})
"""Reasons of events of a job for which Kueue creates no Workload."""
_EVICTIONS = {
    "AdmissionCheck": "an admission check failed",
    "ClusterQueueStopped": "its queue was stopped",
    "FlavorMigration": "it moves to other nodes",
    "LocalQueueStopped": "its queue was stopped",
    "NodeFailures": "a node failed",
}
_RESTART_HINT = "Wait: it restarts by itself, from its last checkpoint"


@dataclass(frozen=True)
class WorkloadObservation:
    """What was observed about one job. Missing or unreadable parts are empty or None.

    ``pending`` are the pending workloads of its ClusterQueue; ``predicted`` is the result of ``schedule`` for its
    demand, which knows limits that Kueue does not report. ``events`` are those of the job, its workload and its pods.
    """

    workload: Workload | None
    state: KueueState
    pending: PendingWorkloads | None = None
    predicted: QueueDecision | None = None
    pods: tuple[Pod, ...] = ()
    nodes: Mapping[str, Node] | None = None
    free_gpus: tuple[int, ...] | None = None
    """Of each node of its pool; None: not known."""
    events: tuple[KubeEvent, ...] = ()


def explain_pending(observation: WorkloadObservation) -> Reason | None:
    """Return why the job does not run; None if it runs or has ended."""
    workload = observation.workload
    if workload is None:
        return _not_queued(observation)
    if workload.finished:
        return None
    if not workload.spec.active:
        return _deactivated(workload)
    if workload.quota_reserved:
        return _with_quota(observation, workload)
    return _without_quota(observation, workload)


def _with_quota(observation: WorkloadObservation, workload: Workload) -> Reason | None:
    if workload.evicted:
        return _evicted(observation, workload, None)
    if not workload.admitted:
        return _admission_checks(workload)
    reason = explain_pods(observation.pods, observation.nodes, observation.events)
    if reason is None or reason.code != ClusterCode.UNSCHEDULABLE:
        return reason
    return _with_placement(observation, workload, reason)


def _not_queued(observation: WorkloadObservation) -> Reason:
    failures = [event for event in observation.events if event.reason in _NOT_QUEUED_EVENTS]
    if failures:
        detail = quoted(failures[-1].message)
        reason = cluster_reason(
            ClusterCode.NOT_QUEUED, f"Kueue cannot queue the job: {detail}", "Ask an admin to fix it", detail=detail
        )
        return reason.model_copy(update={"action_by": ActionOwner.ADMIN})
    return cluster_reason(ClusterCode.NOT_QUEUED, "Kueue has not queued the job yet", "Wait")


def _deactivated(workload: Workload) -> Reason:
    evicted = workload.condition("Evicted")
    detail = quoted(evicted.message) if evicted is not None and evicted.true else "The workload is deactivated"
    return cluster_reason(
        ClusterCode.DEACTIVATED,
        f"Deactivated, it does not restart by itself: {detail}",
        "Cancel the job, fix the cause, and retry it",
        detail=detail,
    )


def _without_quota(observation: WorkloadObservation, workload: Workload) -> Reason:
    condition = parse_pending_cause(workload.condition("QuotaReserved"))
    blocked = _blocked_queue(observation, workload) or _blocked(condition)
    if blocked is not None:
        return blocked
    reason = _in_queue(observation, workload, condition)
    return _evicted(observation, workload, reason) if workload.evicted else reason


def _blocked_queue(observation: WorkloadObservation, workload: Workload) -> Reason | None:
    """Return why the queues admit nothing; their objects are newer than the workload's condition."""
    state, name = observation.state, workload.spec.queue_name
    local_queue = state.local_queue_of(workload)
    if local_queue is None:
        return _misconfigured(f"there is no LocalQueue {quoted(name)!r} in namespace {workload.metadata.namespace}")
    queue = state.queue_of(workload)
    if queue is None:
        return _misconfigured(f"there is no ClusterQueue {local_queue.spec.cluster_queue}")
    if local_queue.stopped or queue.spec.stop_policy != "None":
        return QueueDecision(
            QuotaCode.QUEUE_STOPPED, state.pool_of(queue), _requested(observation, workload, queue)
        ).reason
    if queue.active is not None and queue.active.status == "False":
        return _misconfigured(quoted(queue.active.message))
    return None


def _misconfigured(detail: str) -> Reason:
    message = f"The job cannot be queued: {detail}"
    return cluster_reason(ClusterCode.MISCONFIGURED, message, "Ask an admin to fix the project's queue", detail=detail)


_BLOCKED: Mapping[PendingCause, tuple[ClusterCode, str, str]] = {
    PendingCause.CHECKS: (ClusterCode.WAITING_FOR_CHECKS, "", "Ask an admin what the check requires"),
    PendingCause.QUEUE_ON_HOLD: (ClusterCode.QUEUE_ON_HOLD, "On hold: ", "Ask an admin to remove the hold or gate"),
    PendingCause.NO_FLAVOR: (
        ClusterCode.NO_MATCHING_NODES,
        "The pods do not match the pool's nodes: ",
        "Ask an admin to fix the pool",
    ),
    PendingCause.WAITING_FOR_PODS_READY: (
        ClusterCode.WAITING_FOR_PODS_READY,
        "The pods of jobs admitted before it must be ready first: ",
        "Wait",
    ),
    PendingCause.UNKNOWN: (ClusterCode.UNKNOWN, "Kueue reports: ", "Ask an admin"),
}
"""Causes that free quota does not resolve: code, message prefix and action. PendingCause.STOPPED is missing: while the
queue itself is active, the condition is outdated."""


def _blocked(condition: ParsedCondition) -> Reason | None:
    detail = quoted(condition.message)
    if condition.cause is PendingCause.MISCONFIGURED:
        return _misconfigured(detail)
    if condition.cause not in _BLOCKED:
        return None
    code, prefix, action = _BLOCKED[condition.cause]
    return cluster_reason(code, f"{prefix}{detail}", action, detail=detail)


def _requested(observation: WorkloadObservation, workload: Workload, queue: ClusterQueue) -> int:
    return workload.requested(observation.state.resources.get(observation.state.pool_of(queue), ""))


def _in_queue(observation: WorkloadObservation, workload: Workload, condition: ParsedCondition) -> Reason:
    """Return the Reason of a workload that waits for its turn or for quota."""
    queue, predicted = observation.state.queue_of(workload), observation.predicted
    pool, needed = (observation.state.pool_of(queue), _requested(observation, workload, queue)) if queue else ("", 0)
    position = _position(observation, workload)
    code = _code(condition, predicted, position)
    if code is None:
        return _not_evaluated(pool, needed, position)
    behind = position is not None and position > 1
    # the prediction knows limits and changes, but applies only if it names the same cause
    same = predicted if predicted is not None and predicted.code is code else None
    base = same or QueueDecision(code, pool, needed, free=predicted.free if predicted else 0)
    preempting = condition.preempting or 1
    return replace(
        base,
        position=position,
        free=base.free if condition.missing is None or behind else max(0, needed - condition.missing),
        limit=condition.maximum
        if condition.maximum is not None and code is QuotaCode.EXCEEDS_MAX_QUOTA
        else base.limit,
        ahead=_head(observation, workload) if behind else None,
        terminating=("another job",) * preempting if code is QuotaCode.WAITING_FOR_PREEMPTED else (),
    ).reason


def _not_evaluated(pool: str, needed: int, position: int | None) -> Reason:
    place = "" if position is None else f"; {position - 1} are before it in its queue"
    context = {"pool": pool, "needed": needed} | ({} if position is None else {"position": position})
    message = f"Kueue has not evaluated the job yet{place}"
    return cluster_reason(ClusterCode.NOT_EVALUATED_YET, message, "Wait", **context)


_AT_HEAD = {
    PendingCause.EXCEEDS: QuotaCode.EXCEEDS_MAX_QUOTA,
    PendingCause.PREEMPTING: QuotaCode.WAITING_FOR_PREEMPTED,
    PendingCause.QUOTA: QuotaCode.WAITING_FOR_QUOTA,
}


def _code(condition: ParsedCondition, predicted: QueueDecision | None, position: int | None) -> QuotaCode | None:
    """Return what a queued workload waits for; None if Kueue has not evaluated it.

    Kueue evaluates only the head of a queue: behind it the condition is outdated and the prediction is used.
    """
    if position is not None and position > 1:
        behind = {QuotaCode.WAITING_FOR_QUOTA, QuotaCode.BEHIND_HEAD_OF_QUEUE, QuotaCode.EXCEEDS_MAX_QUOTA}
        return predicted.code if predicted is not None and predicted.code in behind else QuotaCode.BEHIND_HEAD_OF_QUEUE
    at_borrowing_limit = predicted is not None and predicted.code is QuotaCode.BORROWING_LIMIT_REACHED
    if condition.cause is PendingCause.QUOTA and at_borrowing_limit:
        return QuotaCode.BORROWING_LIMIT_REACHED
    return _AT_HEAD.get(condition.cause)


def _position(observation: WorkloadObservation, workload: Workload) -> int | None:
    """Return the position in the queue, from 1: as reported by Kueue, else as predicted."""
    index = observation.pending.position(workload.key) if observation.pending else None
    if index is not None:
        return index + 1
    return observation.predicted.position if observation.predicted else None


def _head(observation: WorkloadObservation, workload: Workload) -> str | None:
    """Return the job at the head of the queue; None if it is in another namespace, which may be another project's."""
    head = observation.pending.head if observation.pending else None
    if head is None:
        return observation.predicted.ahead if observation.predicted else None
    return observation.state.jobs.get(head, head) if head.startswith(f"{workload.metadata.namespace}/") else None


def _evicted(observation: WorkloadObservation, workload: Workload, pending: Reason | None) -> Reason:
    """Return why a workload was evicted; ``pending`` is what it waits for now, None while its pods still run."""
    condition = workload.condition("Evicted")
    cause = condition.reason if condition is not None else ""
    if cause == "PodsReadyTimeout":
        return _not_ready_in_time(observation, workload, pending)
    if condition is not None and cause == "Preempted":
        code = ClusterCode.PREEMPTED
        message, context = _preempted(observation, workload, parse_preemption(condition.message))
    else:
        code = ClusterCode.NODE_LOST if cause == "NodeFailures" else ClusterCode.EVICTED
        message, context = f"Evicted: {_EVICTIONS.get(cause, 'Kueue evicted it')}", {"cause": cause}
    if pending is None:
        return cluster_reason(code, f"{message}; it is stopping", _RESTART_HINT, terminating=True, **context)
    return cluster_reason(
        code,
        f"{message}; {pending.message}",
        _RESTART_HINT,
        **pending.context,
        waits_for=pending.code,
        **context,
    )


def _not_ready_in_time(observation: WorkloadObservation, workload: Workload, pending: Reason | None) -> Reason:
    """Return why a workload was evicted whose pods were not ready in time, and when it is admitted again."""
    requeue_at = workload.status.requeue_state.requeue_at
    context: dict[str, object] = {"cause": "PodsReadyTimeout", "evictions": workload.status.requeue_state.count}
    if pending is None:
        then, context["terminating"] = "it is stopping", True
    elif requeue_at is not None and requeue_at > observation.state.now:
        then, context["retry_at"] = f"it is tried again at {requeue_at:%H:%M:%S} UTC", requeue_at.isoformat()
    else:
        then, context = pending.message, {**pending.context, **context, "waits_for": pending.code}
    reason = cluster_reason(
        ClusterCode.PODS_NOT_READY,
        f"Its pods were not ready in time, so its quota was given back; {then}",
        "Ask an admin to check the pool's nodes",
        **context,
    )
    return _with_placement(observation, workload, reason)


def _with_placement(observation: WorkloadObservation, workload: Workload, reason: Reason) -> Reason:
    """Add to a reason that the nodes have no room for the workload now, and which request of its user they have."""
    queue, free = observation.state.queue_of(workload), observation.free_gpus
    if queue is None or free is None:
        return reason
    resource = observation.state.resources.get(observation.state.pool_of(queue), "")
    workers, gpus = workload.largest_pods(resource)
    placed = sum(bool(pod.spec.node_name) and pod.spec.requested(resource) == gpus for pod in observation.pods)
    problem = placement_problem(free, workers - placed, gpus)
    if not problem:
        return reason
    most = max(free, default=0)
    smaller = f"Ask for at most {counted(most, 'GPU')} per worker, or ask" if 0 < most < gpus else "Ask"
    return reason.model_copy(
        update={
            "message": f"{reason.message}; {problem}",
            "action": f"{smaller} an admin to free nodes of the pool, or to lower the quotas to what they have",
            "action_by": ActionOwner.USER if 0 < most < gpus else reason.action_by,
            "context": {**reason.context, "free_gpus": list(free)},
        }
    )


def _preempted(
    observation: WorkloadObservation, workload: Workload, by: PreemptedBy | None
) -> tuple[str, dict[str, str]]:
    """Return message and context of a preemption: the preempting project, and the job if it is of the same project."""
    condition = workload.condition("Preempted")
    cause = condition.reason if condition is not None and condition.true else "Preempted"
    project, job = _preemptor(observation, workload, by) if by is not None else (None, None)
    context = {"cause": cause, "by_project": project, "by_job": job}
    if cause == "InClusterQueue":
        message = f"Preempted by {f'job {job}' if job else 'a job'} of higher priority"
    else:
        message = f"Preempted: {f'project {project}' if project else 'another project'} reclaimed GPUs that it had lent"
    return message, {name: value for name, value in context.items() if value is not None}


def _preemptor(observation: WorkloadObservation, workload: Workload, by: PreemptedBy) -> tuple[str | None, str | None]:
    """Return the preempting project if it shares the cohort, and the job if it is of the same project."""
    state, own_queue = observation.state, observation.state.queue_of(workload)
    other = next((candidate for candidate in state.workloads if candidate.metadata.uid == by.uid), None)
    queue = (state.cluster_queue(by.cluster_queue) if by.cluster_queue else None) or (
        state.queue_of(other) if other else None
    )
    if queue is None or own_queue is None:
        return None, None
    if queue.key == own_queue.key:
        return own_queue.project, state.jobs.get(other.key) if other else None
    shared = queue.spec.cohort_name != "" and queue.spec.cohort_name == own_queue.spec.cohort_name
    return (queue.project if shared else None), None


def _admission_checks(workload: Workload) -> Reason:
    """Return which admission checks have not passed; meanwhile Kueue reserves the quota."""
    open_checks = [check for check in workload.status.admission_checks if check.state != "Ready"]
    names = ", ".join(check.name for check in open_checks) or "its admission"
    detail = quoted("; ".join(check.message for check in open_checks if check.message))
    return cluster_reason(
        ClusterCode.WAITING_FOR_CHECKS,
        f"It has quota and waits for {names}" + (f": {detail}" if detail else ""),
        "Wait, or ask an admin what the check requires",
        checks=[check.name for check in open_checks],
        detail=detail,
    )
