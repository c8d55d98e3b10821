"""Projects that the operators find when they start, and find again when they are started once more."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.bench.cluster import counting, usage
from tests.bench.cluster.sizes import MATES, NOMINAL, POOL, Sizes
from tests.integration.cluster.operating import Operators, ready

from windlass.kube.client import Client
from windlass.kube.objects import Object, Ref
from windlass_operators.kinds import PROJECT


@dataclass(frozen=True)
class TakeOver:
    """One start of the operators among projects."""

    seconds: float
    """From the start of the process until every project had its turn and nothing was left to do."""
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
            "cohort": f"bench-{number // MATES}",
            "quotas": [{"pool": POOL, "nominal": NOMINAL}],
        },
    }


def make_projects(client: Client, sizes: Sizes) -> None:
    with ThreadPoolExecutor(4) as pool:
        wishes = [project(number, name) for number, name in enumerate(sizes.names)]
        list(pool.map(lambda wish: client.create(wish, manager="bench"), wishes))


def start_among(running: Operators, sizes: Sizes) -> TakeOver:
    """Start the operators and wait until they have done all that there is to do.

    Raises:
        TimeoutError: they do not come to rest.
        AssertionError: a project is not ready then.
    """
    began = time.perf_counter()
    running.start_active()
    while counting.turns(running, PROJECT.kind) < sizes.projects:
        time.sleep(1)  # each look costs them a little
    last = counting.settle(running)
    unready = [one for one in sizes.names if ready(running.client, Ref(PROJECT, one))[1] != "Reconciled"]
    assert not unready, f"{len(unready)} projects are not ready, {unready[0]} among them"
    return TakeOver(
        seconds=last - began,
        writes=counting.writes(running),
        cpu_seconds=usage.cpu_seconds(running.pid),
        rss_mib=usage.resident_mib(running.pid),
    )
