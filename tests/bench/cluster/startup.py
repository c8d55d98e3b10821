"""The operators' start with existing projects."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.bench.cluster import operator_metrics, usage
from tests.bench.cluster.sizes import NOMINAL, POOL, PROJECTS_PER_COHORT, Sizes
from tests.integration.cluster.operator_process import OperatorProcess, ready

from windlass.kube.client import KubeClient
from windlass.kube.objects import Object, Ref
from windlass_operators.kinds import PROJECT


@dataclass(frozen=True)
class StartupResult:
    """The result of one start of the operators."""

    seconds: float
    """From the start of the process until every project is reconciled and the queue is empty."""
    writes: int
    cpu_seconds: float
    rss_mib: float


def project(number: int, name: str) -> Object:
    return {
        "apiVersion": PROJECT.api_version,
        "kind": PROJECT.kind,
        "metadata": {"name": name},
        "spec": {
            "displayName": "as made",
            "cohort": f"bench-{number // PROJECTS_PER_COHORT}",
            "quotas": [{"pool": POOL, "nominal": NOMINAL}],
        },
    }


def make_projects(client: KubeClient, sizes: Sizes) -> None:
    with ThreadPoolExecutor(4) as pool:
        desired_objects = [project(number, name) for number, name in enumerate(sizes.names)]
        list(pool.map(lambda desired: client.create(desired, manager="bench"), desired_objects))


def measure_startup(running: OperatorProcess, sizes: Sizes) -> StartupResult:
    """Start the operators and wait until they are idle.

    Raises:
        TimeoutError: they do not become idle.
        AssertionError: a project is not ready.
    """
    began = time.perf_counter()
    running.start_active()
    while operator_metrics.reconciliations(running, PROJECT.kind) < sizes.projects:
        time.sleep(1)  # polling costs the operators CPU time
    last = operator_metrics.wait_idle(running)
    unready = [one for one in sizes.names if ready(running.client, Ref(PROJECT, one))[1] != "Reconciled"]
    assert not unready, f"{len(unready)} projects are not ready, {unready[0]} among them"
    return StartupResult(
        seconds=last - began,
        writes=operator_metrics.writes(running),
        cpu_seconds=usage.cpu_seconds(running.pid),
        rss_mib=usage.resident_mib(running.pid),
    )
