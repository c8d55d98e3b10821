"""Changes at a constant rate, and the operators' response time to each.

Both times are measured in this process: when the API server has accepted the change, and when the benchmark's watch
receives the resulting write. The delay of the watch is included.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.bench.cluster import operator_metrics
from tests.bench.cluster.response_watch import ResponseWatch
from tests.bench.cluster.sizes import NOMINAL, POOL, Sizes
from tests.bench.cluster.usage import Meter
from tests.integration.cluster.operator_process import OperatorProcess

from windlass.kube.names import cluster_queue_of
from windlass.kube.objects import Kind, Object, Ref
from windlass_operators.kinds import CLUSTER_QUEUE, PROJECT

_TIMEOUT_SECONDS = 120.0
_WRITERS = 4


@dataclass(frozen=True)
class RateResult:
    """The result of one rate."""

    what: str
    target_rate: int
    rate: float
    """Changes per second that the API server accepted."""
    changes: int
    without_response: int
    p50_ms: float
    p99_ms: float
    writes_per_change: float
    reads_per_change: float
    cpu_ms_per_change: float


@dataclass
class _ResponseTimes:
    """The first time at which each change was observed as reconciled."""

    moments: dict[tuple[str, int], float] = field(default_factory=dict)

    def of_status(self, subject: Object, now: float) -> None:
        generation = subject.get("status", {}).get("observedGeneration", 0)
        self.moments.setdefault((subject["metadata"]["name"], generation), now)

    def of_queue(self, subject: Object, now: float) -> None:
        resource = subject["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]
        self.moments.setdefault((subject["metadata"]["name"], int(resource["nominalQuota"])), now)


@dataclass(frozen=True)
class _Sent:
    awaited: tuple[str, int]
    moment: float


class DisplayNameEdit:
    """A change of a project's display name: a new generation in the status, without changes of children."""

    name, kind = "spec, no child", PROJECT

    def __init__(self) -> None:
        self.answers = _ResponseTimes()
        self.seen = self.answers.of_status

    def send(self, running: OperatorProcess, name: str, number: int) -> _Sent:
        fields = {"spec": {"displayName": f"change {number}"}}
        changed = running.client.patch(Ref(PROJECT, name), fields, manager="bench")
        return _Sent((name, changed["metadata"]["generation"]), time.perf_counter())


class QuotaEdit:
    """A change of a quota, visible in the ClusterQueue, and then in the ResourceQuota and two statuses."""

    name, kind = "quota", CLUSTER_QUEUE

    def __init__(self) -> None:
        self.answers = _ResponseTimes()
        self.seen = self.answers.of_queue

    def send(self, running: OperatorProcess, name: str, number: int) -> _Sent:
        nominal = NOMINAL + 1 + number
        fields = {"spec": {"quotas": [{"pool": POOL, "nominal": nominal}]}}
        running.client.patch(Ref(PROJECT, name), fields, manager="bench")
        return _Sent((cluster_queue_of(name, POOL), nominal), time.perf_counter())


def measure_rate(
    running: OperatorProcess, sizes: Sizes, change: DisplayNameEdit | QuotaEdit, rate: int, first: int
) -> RateResult:
    """Send changes at a rate, one project after the other, and wait for the responses."""
    # no project twice: the operators may coalesce two changes
    count = min(sizes.projects, max(1, round(rate * sizes.seconds)))
    kind: Kind = change.kind
    with ResponseWatch(running.client, kind, change.seen), ThreadPoolExecutor(_WRITERS) as pool:
        operator_metrics.wait_idle(running)
        before, meter = operator_metrics.requests(running), Meter({"operators": running.pid})
        began = time.perf_counter()
        waiting = []
        for number in range(count):
            threading.Event().wait(max(0.0, began + number / rate - time.perf_counter()))
            name = sizes.names[number % sizes.projects]
            waiting.append(pool.submit(change.send, running, name, first + number))
        sent = [one.result() for one in waiting]
        took = time.perf_counter() - began
        until = time.perf_counter() + _TIMEOUT_SECONDS
        while time.perf_counter() < until and any(one.awaited not in change.answers.moments for one in sent):
            time.sleep(0.05)
        operator_metrics.wait_idle(running)
        after, used = operator_metrics.requests(running), meter.seconds()["operators"]
    found = sorted(
        max(0.0, change.answers.moments[one.awaited] - one.moment)
        for one in sent
        if one.awaited in change.answers.moments
    )
    return RateResult(
        what=change.name,
        target_rate=rate,
        rate=count / took,
        changes=count,
        without_response=count - len(found),
        p50_ms=_quantile(found, 0.5) * 1000,
        p99_ms=_quantile(found, 0.99) * 1000,
        writes_per_change=sum(after[method] - before[method] for method in operator_metrics.WRITES) / count,
        reads_per_change=(after["GET"] - before["GET"]) / count,
        cpu_ms_per_change=used / count * 1000,
    )


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")
