"""Parses the condition QuotaReserved of a pending workload, coarse or granular.

Kueue 0.19.2 sets five coarse reasons and gives the details in the message; with its feature gate
UnadmittedWorkloadsObservability, and by default in later versions, the reason itself is granular. The patterns match
messages of ``pkg/scheduler``, ``pkg/scheduler/flavorassigner`` and ``pkg/controller/core`` in 0.19.2.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

from windlass.domain.errors import InvalidError
from windlass.kube.kueue.models import KubeCondition, parse_quantity


class PendingCause(Enum):
    """Why a workload has no quota."""

    NOT_EVALUATED = auto()
    """Kueue has not evaluated it since its last change, or does not while another workload is at the head."""
    QUOTA = auto()
    PREEMPTING = auto()
    EXCEEDS = auto()
    NO_FLAVOR = auto()
    STOPPED = auto()
    MISCONFIGURED = auto()
    DEACTIVATED = auto()
    QUEUE_ON_HOLD = auto()
    CHECKS = auto()
    WAITING_FOR_PODS_READY = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class ParsedCondition:
    """A parsed condition; None: not reported.

    ``missing``: how many resources are missing; ``maximum``: the most that the quota can ever provide; ``preempting``:
    how many workloads must stop first.
    """

    cause: PendingCause
    message: str = ""
    missing: int | None = None
    maximum: int | None = None
    preempting: int | None = None


@dataclass(frozen=True, slots=True)
class PreemptedBy:
    """The preempting workload's uid, and the name of its ClusterQueue if reported."""

    uid: str
    cluster_queue: str | None


_GRANULAR = {
    "AdmissionGated": PendingCause.QUEUE_ON_HOLD,
    "Deactivated": PendingCause.DEACTIVATED,
    "ExceedsMaxQuota": PendingCause.EXCEEDS,
    "Misconfigured": PendingCause.MISCONFIGURED,
    "NoMatchingFlavor": PendingCause.NO_FLAVOR,
    "OnHold": PendingCause.QUEUE_ON_HOLD,
    "PendingEvaluation": PendingCause.NOT_EVALUATED,
    "Suspended": PendingCause.STOPPED,
    "TopologyPlacementFailed": PendingCause.QUOTA,
    "WaitingForPodsReady": PendingCause.WAITING_FOR_PODS_READY,
    "WaitingForPreemptedWorkloads": PendingCause.PREEMPTING,
    "WaitingForQuota": PendingCause.QUOTA,
}
# Most severe first: Kueue reports the worst of several pod sets.
_COARSE = (
    (r"Pending the preemption of \d+ workload", PendingCause.PREEMPTING),
    (r"will fit after these preemptions complete", PendingCause.PREEMPTING),
    (
        r"untolerated taint|match node affinity|does not support TopologyAware|supports only TopologyAware",
        PendingCause.NO_FLAVOR,
    ),
    (r"flavor \S+ not found|\bunavailable in ClusterQueue|does not provide resource", PendingCause.MISCONFIGURED),
    (r"> maximum capacity", PendingCause.EXCEEDS),
    (r"insufficient unused quota|no longer fits|overlapping preemption targets", PendingCause.QUOTA),
    (r"LocalQueue \S+ is (?:stopped|inactive)|ClusterQueue \S+ is (?:stopped|inactive)", PendingCause.STOPPED),
    (r"Queue \S+ (?:doesn't exist|not found|is terminating or missing)", PendingCause.MISCONFIGURED),
    (r"namespace doesn't match|namespace \S+ does not exist|validation failed|LimitRange", PendingCause.MISCONFIGURED),
    (r"PodsReady condition", PendingCause.WAITING_FOR_PODS_READY),
    (r"has failed admission checks", PendingCause.CHECKS),
    (r"Admission is gated by|Job is on hold", PendingCause.QUEUE_ON_HOLD),
    (r"workload is deactivated", PendingCause.DEACTIVATED),
    # Stays in the condition after an eviction, until Kueue evaluates the workload again.
    (
        r"(?:Preempted|Evicted) to accommodate|Exceeded the PodsReady|AdmissionGatedBy cleared|pending evaluation",
        PendingCause.NOT_EVALUATED,
    ),
)
_MISSING = re.compile(r"insufficient unused quota for \S+ in flavor \S+, (\S+) more needed")
_MAXIMUM = re.compile(r"> maximum capacity \(([^)\s]+)\)")
_PREEMPTING = re.compile(r"Pending the preemption of (\d+) workload")
_PREEMPTED = re.compile(r"^Preempted to accommodate a workload \(UID: ([^,\s]+), JobUID: [^)]*\)")
_PATH = re.compile(r"; preemptor path: /(?:[^;\s]*/)?([^;/\s]+)")


def parse_pending_cause(condition: KubeCondition | None) -> ParsedCondition:
    """Parse the condition QuotaReserved; without one, Kueue has not evaluated the workload."""
    if condition is None or condition.true:
        return ParsedCondition(PendingCause.NOT_EVALUATED)
    message = condition.message
    cause = _GRANULAR.get(condition.reason)
    if cause is None:
        cause = next((kind for pattern, kind in _COARSE if re.search(pattern, message)), PendingCause.UNKNOWN)
    preempting = _PREEMPTING.search(message)
    return ParsedCondition(
        cause,
        message,
        missing=_number(_MISSING, message),
        maximum=_number(_MAXIMUM, message),
        preempting=int(preempting[1]) if preempting else None,
    )


def parse_preemption(message: str) -> PreemptedBy | None:
    """Parse the preempting workload from the message of the condition Preempted or Evicted."""
    found, path = _PREEMPTED.search(message), _PATH.search(message)
    if found is None:
        return None
    queue = path[1] if path else None
    return PreemptedBy(found[1], None if queue == "UNKNOWN" else queue)


def _number(pattern: re.Pattern[str], message: str) -> int | None:
    found = pattern.search(message)
    if found is None:
        return None
    try:
        return parse_quantity(found[1])
    except InvalidError:
        return None
