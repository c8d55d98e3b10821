"""Kueue's admissions with and without Windlass: the same queues and generator, in ABBA order.

With Windlass its policies are applied, and its operators run and write usage into every project's status. Without it
both are removed; the ClusterQueues and LocalQueues that the operators created stay, without a controller.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from tests.bench.cluster import operator_metrics, usage
from tests.bench.cluster.response_watch import ResponseWatch
from tests.bench.cluster.sizes import POOL, Sizes
from tests.integration.cluster.installed import WORKER, admin_client, chart_manifests, queued_job
from tests.integration.cluster.operator_process import OperatorProcess
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import apply

from windlass.kube.client import KubeClient
from windlass.kube.names import namespace_of
from windlass.kube.objects import Kind, Object, Ref
from windlass_operators.kinds import WORKLOAD

_POLICIES = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
_JOB = Kind("batch/v1", "Job")
_GENERATORS = 4
_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class Round:
    """One round of admissions."""

    windlass: bool
    form: str
    workloads: int
    seconds: float
    """From the first creation to the last admission."""
    cpu_ms: dict[str, float]
    """CPU milliseconds per admission, by process."""

    @property
    def rate(self) -> float:
        return self.workloads / self.seconds


class WorkloadGenerator:
    """Workload objects without an owner: measures Kueue alone."""

    name, kind = "Workload", WORKLOAD

    def desired(self, project: str, number: int) -> Object:
        amounts = {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
        container = {"name": "main", "image": "none", "resources": amounts}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        return {
            "apiVersion": WORKLOAD.api_version,
            "kind": WORKLOAD.kind,
            "metadata": {"name": f"w-{number}", "namespace": namespace_of(project)},
            "spec": {"queueName": POOL, "podSets": [{"name": "main", "count": 1, "template": template}]},
        }


class JobGenerator:
    """Jobs with one pod, which pass the policies, are queued by Kueue, and run on fake nodes."""

    name, kind = "Job", _JOB

    def desired(self, project: str, number: int) -> Object:
        return queued_job(project, f"j-{number}", 1, POOL)


class Admissions:
    """Runs rounds on a cluster whose projects are ready."""

    def __init__(self, running: OperatorProcess, sizes: Sizes) -> None:
        self._running, self._sizes = running, sizes
        self._admin = running.client
        self._worker = admin_client(running.cluster, impersonate=WORKER)

    def with_windlass(self) -> None:
        """Apply the policies and start the operators."""
        if self._running.exit_code is not None or not self._running.started:
            apply(self._running.cluster, _policies())
            self._running.start_active()
            operator_metrics.wait_idle(self._running)

    def without_windlass(self) -> None:
        """Delete the policies and stop the operators."""
        if self._running.started and self._running.exit_code is None:
            self._running.stop()
            for one in _policies():
                self._admin.delete(Ref.of(one))
            time.sleep(3)  # until the API server has noticed

    def play(self, form: WorkloadGenerator | JobGenerator, count: int, *, windlass: bool) -> Round:
        """Create ``count`` workloads round-robin over the projects, wait for their admission, and delete them."""
        (self.with_windlass if windlass else self.without_windlass)()
        admitted: dict[tuple[str, str], float] = {}

        def seen(subject: Object, now: float) -> None:
            status, metadata = subject.get("status", {}), subject["metadata"]
            if any(one["type"] == "Admitted" and one["status"] == "True" for one in status.get("conditions", ())):
                admitted.setdefault((metadata["namespace"], metadata["name"]), now)

        names = self._sizes.names
        desired_objects = [form.desired(names[number % len(names)], number) for number in range(count)]
        watched = usage.component_pids(self._running.cluster) | ({"operators": self._running.pid} if windlass else {})
        creator = self._worker if form.kind == _JOB else self._admin
        with ResponseWatch(self._admin, WORKLOAD, seen), ThreadPoolExecutor(_GENERATORS) as pool:
            meter, began = usage.Meter(watched), time.perf_counter()
            made = list(pool.map(partial(creator.create, manager="bench"), desired_objects))
            eventually(lambda: len(admitted) >= count, f"{count} workloads are admitted", _TIMEOUT_SECONDS)
            used = meter.seconds()
        self._clear(made, windlass=windlass)
        return Round(
            windlass=windlass,
            form=form.name,
            workloads=count,
            seconds=max(admitted.values()) - began,
            cpu_ms={name: seconds / count * 1000 for name, seconds in sorted(used.items())},
        )

    def _clear(self, made: Sequence[Object], *, windlass: bool) -> None:
        with ThreadPoolExecutor(_GENERATORS) as pool:
            list(pool.map(lambda one: self._admin.delete(Ref.of(one)), made))
        spaces = {one["metadata"]["namespace"] for one in made}
        eventually(lambda: not _remaining(self._admin, spaces), "they are gone", _TIMEOUT_SECONDS)
        if windlass:
            operator_metrics.wait_idle(self._running)


def _remaining(client: KubeClient, spaces: set[str]) -> list[Object]:
    kinds = (WORKLOAD, _JOB, Kind("v1", "Pod"))
    return [one for kind in kinds for one in client.list(kind).items if one["metadata"]["namespace"] in spaces]


def _policies() -> list[Object]:
    return [one for one in chart_manifests() if one["kind"] in _POLICIES]


def ratio(rounds: Sequence[Round]) -> float:
    """Return the rate with Windlass divided by the rate without it, over all rounds of either side."""
    rates = []
    for windlass in (True, False):
        side = [one for one in rounds if one.windlass is windlass]
        rates.append(sum(one.workloads for one in side) / sum(one.seconds for one in side))
    return rates[0] / rates[1]
