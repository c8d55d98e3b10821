"""Changes at a steady rate, and how long the operators take to write what answers each.

The clock of one process, this one, is read twice: when the API server has answered the change, and when the
benchmark's watch brings the write that answers it. What the watch itself takes counts against the operators.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.bench.cluster import counting
from tests.bench.cluster.sizes import NOMINAL, POOL, Sizes
from tests.bench.cluster.usage import Meter
from tests.bench.cluster.watching import Watching
from tests.integration.cluster.operating import Operators

from windlass.kube.names import cluster_queue_of
from windlass.kube.objects import Kind, Object, Ref
from windlass_operators.kinds import CLUSTER_QUEUE, PROJECT

_PATIENCE = 120.0
_WRITERS = 4


@dataclass(frozen=True)
class Pace:
    """What came of one rate."""

    what: str
    wished_rate: int
    rate: float
    """Changes a second that the API server took."""
    changes: int
    unanswered: int
    p50_ms: float
    p99_ms: float
    writes_per_change: float
    reads_per_change: float
    cpu_ms_per_change: float


@dataclass
class _Answers:
    """The first moment at which each wish was seen to be met."""

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


class Words:
    """A change of a project's name for people: a new generation, which the status answers, and no child's."""

    name, kind = "spec, no child", PROJECT

    def __init__(self) -> None:
        self.answers = _Answers()
        self.seen = self.answers.of_status

    def send(self, running: Operators, name: str, number: int) -> _Sent:
        fields = {"spec": {"displayName": f"change {number}"}}
        changed = running.client.patch(Ref(PROJECT, name), fields, manager="bench")
        return _Sent((name, changed["metadata"]["generation"]), time.perf_counter())


class Quotas:
    """A change of a quota, which the ClusterQueue answers, and after it the bound of pods and two statuses."""

    name, kind = "quota", CLUSTER_QUEUE

    def __init__(self) -> None:
        self.answers = _Answers()
        self.seen = self.answers.of_queue

    def send(self, running: Operators, name: str, number: int) -> _Sent:
        nominal = NOMINAL + 1 + number
        fields = {"spec": {"quotas": [{"pool": POOL, "nominal": nominal}]}}
        running.client.patch(Ref(PROJECT, name), fields, manager="bench")
        return _Sent((cluster_queue_of(name, POOL), nominal), time.perf_counter())


def paced(running: Operators, sizes: Sizes, change: Words | Quotas, rate: int, first: int) -> Pace:
    """Send changes at a rate, one project after the other, and wait for the answers."""
    # none twice: of two wishes in a row the operators may answer the second alone
    count = min(sizes.projects, max(1, round(rate * sizes.seconds)))
    kind: Kind = change.kind
    with Watching(running.client, kind, change.seen), ThreadPoolExecutor(_WRITERS) as pool:
        counting.settle(running)
        before, meter = counting.requests(running), Meter({"operators": running.pid})
        began = time.perf_counter()
        waiting = []
        for number in range(count):
            threading.Event().wait(max(0.0, began + number / rate - time.perf_counter()))
            name = sizes.names[number % sizes.projects]
            waiting.append(pool.submit(change.send, running, name, first + number))
        sent = [one.result() for one in waiting]
        took = time.perf_counter() - began
        until = time.perf_counter() + _PATIENCE
        while time.perf_counter() < until and any(one.awaited not in change.answers.moments for one in sent):
            time.sleep(0.05)
        counting.settle(running)
        after, used = counting.requests(running), meter.seconds()["operators"]
    found = sorted(
        max(0.0, change.answers.moments[one.awaited] - one.moment)
        for one in sent
        if one.awaited in change.answers.moments
    )
    return Pace(
        what=change.name,
        wished_rate=rate,
        rate=count / took,
        changes=count,
        unanswered=count - len(found),
        p50_ms=_quantile(found, 0.5) * 1000,
        p99_ms=_quantile(found, 0.99) * 1000,
        writes_per_change=sum(after[method] - before[method] for method in counting.WRITES) / count,
        reads_per_change=(after["GET"] - before["GET"]) / count,
        cpu_ms_per_change=used / count * 1000,
    )


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")
