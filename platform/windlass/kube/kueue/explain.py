"""Why does a job wait? One Reason for a workload, from what Kueue and the cluster say of it.

Read in this order, the first that answers: no Workload; switched off; told to stop and not gone; a queue that is
stopped or missing; the condition QuotaReserved with the position in the queue; admission checks; pods. What is known of
quota alone comes as the same Reason as in embedded mode. No other project's job is named, and only projects of one's
cohort.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from windlass.domain.jobs import Owner, Reason
from windlass.domain.quota import Code, Verdict
from windlass.domain.reasons import ClusterCode
from windlass.kube.kueue.facts import Event, Node, Pod
from windlass.kube.kueue.messages import PreemptedBy, Told, Wait, read_preemption, read_wait
from windlass.kube.kueue.pods import explain_pods, quoted, reason_of
from windlass.kube.kueue.queues import ClusterQueue
from windlass.kube.kueue.snapshot import ClusterState
from windlass.kube.kueue.workload import PendingWorkloads, Workload

_REFUSALS = frozenset({"ErrWorkloadCompose", "WorkloadPriorityClassNotFound"})
"""Reasons of a job's events after which Kueue makes no Workload."""
_EVICTIONS = {
    "AdmissionCheck": "an admission check failed",
    "ClusterQueueStopped": "its queue was stopped",
    "FlavorMigration": "it moves to other nodes",
    "LocalQueueStopped": "its queue was stopped",
    "NodeFailures": "a node failed",
    "PodsReadyTimeout": "its pods were not ready in time",
}
_AGAIN = "Wait: it starts again by itself, from its last checkpoint"


@dataclass(frozen=True)
class Observation:
    """What was read about one job. Empty or None is what is not there or could not be read.

    ``line`` is who waits in the workload's ClusterQueue; ``foreseen`` what ``schedule`` says of its claim: it knows
    limits that Kueue does not tell. ``events`` are those of the job, its workload and its pods.
    """

    workload: Workload | None
    state: ClusterState
    line: PendingWorkloads | None = None
    foreseen: Verdict | None = None
    pods: tuple[Pod, ...] = ()
    nodes: Mapping[str, Node] | None = None
    events: tuple[Event, ...] = ()


def explain(seen: Observation) -> Reason | None:
    """Return why the job does not run; None when it runs or has ended."""
    workload = seen.workload
    if workload is None:
        return _not_queued(seen)
    if workload.finished:
        return None
    if not workload.spec.active:
        return _deactivated(workload)
    return _holding(seen, workload) if workload.reserves else _pending(seen, workload)


def _holding(seen: Observation, workload: Workload) -> Reason | None:
    if workload.evicted:
        return _stopped_for(seen, workload, None)
    return explain_pods(seen.pods, seen.nodes, seen.events) if workload.admitted else _checks(workload)


def _not_queued(seen: Observation) -> Reason:
    refusals = [one for one in seen.events if one.reason in _REFUSALS]
    if refusals:
        told = quoted(refusals[-1].message)
        found = reason_of(
            ClusterCode.NOT_QUEUED, f"Kueue cannot queue the job: {told}", "Ask an admin to mend it", detail=told
        )
        return found.model_copy(update={"owner": Owner.ADMIN})
    return reason_of(ClusterCode.NOT_QUEUED, "Kueue has not queued the job yet", "Wait")


def _deactivated(workload: Workload) -> Reason:
    told = workload.condition("Evicted")
    words = quoted(told.message) if told is not None and told.true else "The workload is deactivated"
    return reason_of(
        ClusterCode.DEACTIVATED,
        f"Switched off, it does not come back by itself: {words}",
        "Cancel the job, change what it ran into, and retry it",
        detail=words,
    )


def _pending(seen: Observation, workload: Workload) -> Reason:
    told = read_wait(workload.condition("QuotaReserved"))
    blocked = _blocked_queue(seen, workload) or _blocked(told)
    if blocked is not None:
        return blocked
    waits = _in_queue(seen, workload, told)
    return _stopped_for(seen, workload, waits) if workload.evicted else waits


def _blocked_queue(seen: Observation, workload: Workload) -> Reason | None:
    """Return what is wrong with the way into the queue, as the queues say it now: a condition may be older."""
    state, name = seen.state, workload.spec.queue_name
    door = state.door_of(workload)
    if door is None:
        return _misconfigured(f"there is no LocalQueue {quoted(name)!r} in namespace {workload.metadata.namespace}")
    queue = state.queue_of(workload)
    if queue is None:
        return _misconfigured(f"there is no ClusterQueue {door.spec.cluster_queue}")
    if door.stopped or queue.spec.stop_policy != "None":
        return Verdict(Code.QUEUE_STOPPED, state.pool_of(queue), _asked(seen, workload, queue)).reason
    if queue.active is not None and queue.active.status == "False":
        return _misconfigured(quoted(queue.active.message))
    return None


def _misconfigured(words: str) -> Reason:
    message = f"The job cannot be queued: {words}"
    return reason_of(ClusterCode.MISCONFIGURED, message, "Ask an admin to mend the project's queue", detail=words)


_BLOCKED: Mapping[Wait, tuple[ClusterCode, str, str]] = {
    Wait.CHECKS: (ClusterCode.WAITING_FOR_CHECKS, "", "Ask an admin what the check wants"),
    Wait.HELD: (ClusterCode.HELD, "Held back: ", "Ask whoever holds it to let it go"),
    Wait.NO_FLAVOR: (
        ClusterCode.NO_MATCHING_NODES,
        "The pool's nodes do not take its pods: ",
        "Ask an admin to mend the pool",
    ),
    Wait.OTHERS_STARTING: (ClusterCode.OTHERS_STARTING, "Jobs admitted before it must be up first: ", "Wait"),
    Wait.UNKNOWN: (ClusterCode.UNEXPLAINED, "Kueue says: ", "Ask an admin"),
}
"""What no free quota ends: code, how the sentence begins, and what to do. A condition that speaks of a stopped queue is
not among them: it is old when the queue itself is open."""


def _blocked(told: Told) -> Reason | None:
    words = quoted(told.message)
    if told.wait is Wait.MISCONFIGURED:
        return _misconfigured(words)
    if told.wait not in _BLOCKED:
        return None
    code, begins, action = _BLOCKED[told.wait]
    return reason_of(code, f"{begins}{words}", action, detail=words)


def _asked(seen: Observation, workload: Workload, queue: ClusterQueue) -> int:
    return workload.asked(seen.state.resources.get(seen.state.pool_of(queue), ""))


def _in_queue(seen: Observation, workload: Workload, told: Told) -> Reason:
    """Return the Reason of a workload that waits for its turn or for quota, in the scheduler's own words."""
    queue = seen.state.queue_of(workload)
    pool, needed = (seen.state.pool_of(queue), _asked(seen, workload, queue)) if queue else ("", 0)
    position = _position(seen, workload)
    code = _code(told, seen.foreseen, position)
    if code is None:
        return _not_looked_at(pool, needed, position)
    behind = position is not None and position > 1
    # What was foreseen knows limits and changes, but only of the same wait.
    known = seen.foreseen if seen.foreseen is not None and seen.foreseen.code is code else None
    base = known or Verdict(code, pool, needed, free=seen.foreseen.free if seen.foreseen else 0)
    stopping = told.stopping or 1
    return replace(
        base,
        position=position,
        free=base.free if told.more is None or behind else max(0, needed - told.more),
        limit=told.most if told.most is not None and code is Code.EXCEEDS_MAX_QUOTA else base.limit,
        ahead=_head(seen, workload) if behind else None,
        leaving=("another job",) * stopping if code is Code.WAITING_FOR_PREEMPTED else (),
    ).reason


def _not_looked_at(pool: str, needed: int, position: int | None) -> Reason:
    place = "" if position is None else f"; {position - 1} are before it in its queue"
    facts = {"pool": pool, "needed": needed} | ({} if position is None else {"position": position})
    message = f"Kueue has the job and has not judged it yet{place}"
    return reason_of(ClusterCode.NOT_LOOKED_AT, message, "Wait", **facts)


_AT_HEAD = {
    Wait.EXCEEDS: Code.EXCEEDS_MAX_QUOTA,
    Wait.PREEMPTING: Code.WAITING_FOR_PREEMPTED,
    Wait.QUOTA: Code.WAITING_FOR_QUOTA,
}


def _code(told: Told, foreseen: Verdict | None, position: int | None) -> Code | None:
    """Return what a workload in the queue waits for; None when only Kueue could say, and it has not.

    Behind the head nothing is judged, and a condition there is older than the place: what is foreseen says more.
    """
    if position is not None and position > 1:
        behind = {Code.WAITING_FOR_QUOTA, Code.BEHIND_HEAD_OF_QUEUE, Code.EXCEEDS_MAX_QUOTA}
        return foreseen.code if foreseen is not None and foreseen.code in behind else Code.BEHIND_HEAD_OF_QUEUE
    if told.wait is Wait.QUOTA and foreseen is not None and foreseen.code is Code.BORROWING_LIMIT_REACHED:
        return Code.BORROWING_LIMIT_REACHED
    return _AT_HEAD.get(told.wait)


def _position(seen: Observation, workload: Workload) -> int | None:
    """Return the place in the queue, from 1: Kueue's own word, else what is foreseen."""
    place = seen.line.position(workload.key) if seen.line else None
    if place is not None:
        return place + 1
    return seen.foreseen.position if seen.foreseen else None


def _head(seen: Observation, workload: Workload) -> str | None:
    """Return the job at the head of the queue; none of another namespace, which may be another project's."""
    head = seen.line.head if seen.line else None
    if head is None:
        return seen.foreseen.ahead if seen.foreseen else None
    return seen.state.jobs.get(head, head) if head.startswith(f"{workload.metadata.namespace}/") else None


def _stopped_for(seen: Observation, workload: Workload, waits: Reason | None) -> Reason:
    """Return why a workload was stopped; ``waits`` is what it waits for now, None while it has not gone."""
    told = workload.condition("Evicted")
    cause = told.reason if told is not None else ""
    if told is not None and cause == "Preempted":
        code = ClusterCode.PREEMPTED
        why, facts = _preempted(seen, workload, read_preemption(told.message))
    else:
        code = ClusterCode.NODE_LOST if cause == "NodeFailures" else ClusterCode.EVICTED
        why, facts = f"Stopped: {_EVICTIONS.get(cause, 'Kueue evicted it')}", {"cause": cause}
    if waits is None:
        return reason_of(code, f"{why}; it is stopping", _AGAIN, leaving=True, **facts)
    return reason_of(code, f"{why}; {waits.message}", _AGAIN, **waits.facts, waits_for=waits.code, **facts)


def _preempted(seen: Observation, workload: Workload, by: PreemptedBy | None) -> tuple[str, dict[str, str]]:
    """Return the sentence and the facts of a preemption: whose job took the place, and which, if it is one's own."""
    condition = workload.condition("Preempted")
    cause = condition.reason if condition is not None and condition.true else "Preempted"
    project, job = _preemptor(seen, workload, by) if by is not None else (None, None)
    facts = {"cause": cause, "by_project": project, "by_job": job}
    if cause == "InClusterQueue":
        why = f"Preempted: {f'job {job}' if job else 'a job'} of higher priority took its place"
    else:
        why = f"Preempted: {f'project {project}' if project else 'another project'} took back GPUs that it had lent"
    return why, {name: value for name, value in facts.items() if value is not None}


def _preemptor(seen: Observation, workload: Workload, by: PreemptedBy) -> tuple[str | None, str | None]:
    """Return the project that took a workload's place, if it is of the same cohort, and the job, if it is one's own."""
    state, mine = seen.state, seen.state.queue_of(workload)
    other = next((one for one in state.workloads if one.metadata.uid == by.uid), None)
    queue = (state.cluster_queue(by.cluster_queue) if by.cluster_queue else None) or (
        state.queue_of(other) if other else None
    )
    if queue is None or mine is None:
        return None, None
    if queue.key == mine.key:
        return mine.project, state.jobs.get(other.key) if other else None
    shared = queue.spec.cohort_name != "" and queue.spec.cohort_name == mine.spec.cohort_name
    return (queue.project if shared else None), None


def _checks(workload: Workload) -> Reason:
    """Return which admission checks have not passed; Kueue holds the quota meanwhile."""
    open_ = [one for one in workload.status.admission_checks if one.state != "Ready"]
    names = ", ".join(one.name for one in open_) or "its admission"
    words = quoted("; ".join(one.message for one in open_ if one.message))
    return reason_of(
        ClusterCode.WAITING_FOR_CHECKS,
        f"It has its quota and waits for {names}" + (f": {words}" if words else ""),
        "Wait, or ask an admin what the check wants",
        checks=[one.name for one in open_],
        detail=words,
    )
