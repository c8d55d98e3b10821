"""Kueue rules that random setups do not cover: stopped queues, and jobs of the same second."""

import time
from collections.abc import Iterator

import pytest
from tests.factories.observations import cluster_state
from tests.integration.cluster.api_objects import object_path, patch
from tests.integration.cluster.cluster_scenario import ClusterScenario, share
from tests.integration.cluster.prediction.forms import BareWorkloads
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import ClusterApi, condition
from tests.testcluster.layout import LocalCluster

from windlass.domain.quota import ResourceDemand, schedule
from windlass.kube.kueue.snapshot import snapshot_from_cluster
from windlass.kube.kueue.workload import Workload
from windlass.kube.names import cluster_queue_of, namespace_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def api(cluster: LocalCluster) -> Iterator[ClusterApi]:
    with ClusterApi(cluster) as client:
        yield client


def bare(scenario: ClusterScenario, suffix: str, name: str, gpus: int) -> str:
    space, name = namespace_of(scenario.project(suffix)), f"{scenario.name}-{name}"
    desired = {
        "project": scenario.project(suffix),
        "pool": scenario.name,
        "gpus": gpus,
        "queued_at": "2026-01-01T00:00:00Z",
    }
    BareWorkloads().submit(scenario.api, ResourceDemand.model_validate({"job": f"{space}/{name}"} | desired))
    return f"{space}/{name}"


def read(scenario: ClusterScenario, job: str) -> Workload:
    space, name = job.split("/")
    found = scenario.api.read(object_path("Workload", name, space))
    assert found is not None
    return Workload.parse(found)


def test_quota_borrowed_by_a_stopped_queue_is_not_reclaimed(api: ClusterApi) -> None:
    scenario = ClusterScenario(api, "stopped-lender")
    scenario.set_up(cohort=True, a=share(4), b=share(4))
    borrower = bare(scenario, "a", "borrower", 8)
    eventually(lambda: read(scenario, borrower).admitted, "the borrower is admitted")
    queue = object_path("ClusterQueue", cluster_queue_of(scenario.project("a"), scenario.name))
    patch(scenario.api, queue, {"spec": {"stopPolicy": "Hold"}})
    eventually(lambda: not condition(api.read(queue), "Active"), "the queue is stopped")
    owner = bare(scenario, "b", "owner", 4)
    eventually(lambda: read(scenario, owner).condition("QuotaReserved") is not None, "Kueue has judged the owner's job")
    assert schedule(snapshot_from_cluster(cluster_state(scenario.seen(owner)))).preempt == ()
    assert not read(scenario, borrower).evicted
    patch(scenario.api, queue, {"spec": {"stopPolicy": "None"}})
    eventually(lambda: read(scenario, borrower).evicted, "the owner's GPUs come back")


def test_jobs_of_the_same_second_start_in_uid_order(api: ClusterApi) -> None:
    scenario = ClusterScenario(api, "same-second")
    scenario.set_up(a=share(1))
    first = bare(scenario, "a", "first", 1)
    eventually(lambda: read(scenario, first).admitted, "the queue is taken")
    time.sleep(1.05 - time.time() % 1)
    jobs = [bare(scenario, "a", f"job-{number}", 1) for number in range(8)]
    assert len({read(scenario, job).metadata.creation_timestamp for job in jobs}) < len(jobs)
    running = first
    while jobs:
        snapshot = snapshot_from_cluster(cluster_state(scenario.seen(first)))
        rest = tuple(demand for demand in snapshot.demands if demand.job != running)
        [predicted] = schedule(snapshot.model_copy(update={"demands": rest})).admit
        BareWorkloads().end(api, running)
        eventually(lambda: any(read(scenario, job).admitted for job in jobs), "one of them starts")
        [running] = [job for job in jobs if read(scenario, job).admitted]
        assert running == predicted
        jobs.remove(running)
