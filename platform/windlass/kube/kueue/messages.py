"""What the condition QuotaReserved of a pending workload says, coarse or granular.

Kueue 0.19.2 gives five coarse reasons and tells the rest in the message; with its gate
UnadmittedWorkloadsObservability, and by default in later versions, the reason itself is granular. The words are those
of ``pkg/scheduler``, ``pkg/scheduler/flavorassigner`` and ``pkg/controller/core`` in 0.19.2.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

from windlass.domain.errors import InvalidError
from windlass.kube.kueue.reading import Condition, whole


class Wait(Enum):
    """Why a workload holds no quota."""

    UNSEEN = auto()
    """Kueue has not judged it (again) yet, or never will while another is at the head."""
    QUOTA = auto()
    PREEMPTING = auto()
    EXCEEDS = auto()
    NO_FLAVOR = auto()
    STOPPED = auto()
    MISCONFIGURED = auto()
    DEACTIVATED = auto()
    HELD = auto()
    CHECKS = auto()
    OTHERS_STARTING = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Told:
    """A condition, read; None: not said.

    ``more`` is how many are missing, ``most`` what the quota can ever give, ``stopping`` how many workloads must stop
    first.
    """

    wait: Wait
    message: str = ""
    more: int | None = None
    most: int | None = None
    stopping: int | None = None


@dataclass(frozen=True, slots=True)
class PreemptedBy:
    """Who took a workload's place: uid of the other workload, and the name of its ClusterQueue where it is said."""

    uid: str
    cluster_queue: str | None


_GRANULAR = {
    "AdmissionGated": Wait.HELD,
    "Deactivated": Wait.DEACTIVATED,
    "ExceedsMaxQuota": Wait.EXCEEDS,
    "Misconfigured": Wait.MISCONFIGURED,
    "NoMatchingFlavor": Wait.NO_FLAVOR,
    "OnHold": Wait.HELD,
    "PendingEvaluation": Wait.UNSEEN,
    "Suspended": Wait.STOPPED,
    "TopologyPlacementFailed": Wait.QUOTA,
    "WaitingForPodsReady": Wait.OTHERS_STARTING,
    "WaitingForPreemptedWorkloads": Wait.PREEMPTING,
    "WaitingForQuota": Wait.QUOTA,
}
# In order of severity, as Kueue takes the worst of several pod sets.
_COARSE = (
    (r"Pending the preemption of \d+ workload", Wait.PREEMPTING),
    (r"will fit after these preemptions complete", Wait.PREEMPTING),
    (
        r"untolerated taint|match node affinity|does not support TopologyAware|supports only TopologyAware",
        Wait.NO_FLAVOR,
    ),
    (r"flavor \S+ not found|\bunavailable in ClusterQueue|does not provide resource", Wait.MISCONFIGURED),
    (r"> maximum capacity", Wait.EXCEEDS),
    (r"insufficient unused quota|no longer fits|overlapping preemption targets", Wait.QUOTA),
    (r"LocalQueue \S+ is (?:stopped|inactive)|ClusterQueue \S+ is (?:stopped|inactive)", Wait.STOPPED),
    (r"Queue \S+ (?:doesn't exist|not found|is terminating or missing)", Wait.MISCONFIGURED),
    (r"namespace doesn't match|namespace \S+ does not exist|validation failed|LimitRange", Wait.MISCONFIGURED),
    (r"PodsReady condition", Wait.OTHERS_STARTING),
    (r"has failed admission checks", Wait.CHECKS),
    (r"Admission is gated by|Job is on hold", Wait.HELD),
    (r"workload is deactivated", Wait.DEACTIVATED),
    # What is left in the condition after an eviction, until Kueue looks again.
    (r"Preempted to accommodate|Evicted to accommodate|AdmissionGatedBy cleared|pending evaluation", Wait.UNSEEN),
)
_MORE = re.compile(r"insufficient unused quota for \S+ in flavor \S+, (\S+) more needed")
_MOST = re.compile(r"> maximum capacity \(([^)\s]+)\)")
_STOPPING = re.compile(r"Pending the preemption of (\d+) workload")
_PREEMPTED = re.compile(r"^Preempted to accommodate a workload \(UID: ([^,\s]+), JobUID: [^)]*\)")
_PATH = re.compile(r"; preemptor path: /(?:[^;\s]*/)?([^;/\s]+)")


def read_wait(condition: Condition | None) -> Told:
    """Return what the condition QuotaReserved says; without one Kueue has not judged the workload."""
    if condition is None or condition.true:
        return Told(Wait.UNSEEN)
    message = condition.message
    wait = _GRANULAR.get(condition.reason)
    if wait is None:
        wait = next((kind for words, kind in _COARSE if re.search(words, message)), Wait.UNKNOWN)
    stopping = _STOPPING.search(message)
    return Told(
        wait,
        message,
        more=_number(_MORE, message),
        most=_number(_MOST, message),
        stopping=int(stopping[1]) if stopping else None,
    )


def read_preemption(message: str) -> PreemptedBy | None:
    """Return who preempted a workload, from the message of its condition Preempted (or Evicted)."""
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
        return whole(found[1])
    except InvalidError:
        return None
