"""Rules of Kueue that random set-ups do not reach: queues that are stopped, and jobs of the same second."""

import time
from collections.abc import Iterator

import pytest
from tests.bed.cluster_api import ClusterApi, condition
from tests.bed.fixture import command
from tests.bed.layout import Bed
from tests.factories.observations import cluster_state
from tests.integration.cluster.prediction.forms import BareWorkloads
from tests.integration.cluster.stage import Stage, share
from tests.integration.cluster.waiting import eventually
from tests.integration.cluster.writing import patch, path_of

from windlass.domain.quota import Claim, schedule
from windlass.kube.kueue.snapshot import take_snapshot
from windlass.kube.kueue.workload import Workload
from windlass.kube.names import cluster_queue_of, namespace_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def api(cluster: Bed) -> Iterator[ClusterApi]:
    with ClusterApi(cluster) as client:
        yield client
    ended = command(cluster, "reset")
    assert ended.returncode == 0, ended.stderr


def bare(stage: Stage, suffix: str, name: str, gpus: int) -> str:
    space, name = namespace_of(stage.project(suffix)), f"{stage.name}-{name}"
    wish = {"project": stage.project(suffix), "pool": stage.name, "gpus": gpus, "queued_at": "2026-01-01T00:00:00Z"}
    BareWorkloads().submit(stage.api, Claim.model_validate({"job": f"{space}/{name}"} | wish))
    return f"{space}/{name}"


def read(stage: Stage, job: str) -> Workload:
    space, name = job.split("/")
    found = stage.api.read(path_of("Workload", name, space))
    assert found is not None
    return Workload.parse(found)


def test_what_a_stopped_queue_has_borrowed_is_not_reclaimed(api: ClusterApi) -> None:
    stage = Stage(api, "stopped-lender")
    stage.set_up(cohort=True, a=share(4), b=share(4))
    borrower = bare(stage, "a", "borrower", 8)
    eventually(lambda: read(stage, borrower).admitted, "the borrower is admitted")
    queue = path_of("ClusterQueue", cluster_queue_of(stage.project("a"), stage.name))
    patch(stage.api, queue, {"spec": {"stopPolicy": "Hold"}})
    eventually(lambda: not condition(api.read(queue), "Active"), "the queue is stopped")
    owner = bare(stage, "b", "owner", 4)
    eventually(lambda: read(stage, owner).condition("QuotaReserved") is not None, "Kueue has judged the owner's job")
    assert schedule(take_snapshot(cluster_state(stage.seen(owner)))).preempt == ()
    assert not read(stage, borrower).evicted
    patch(stage.api, queue, {"spec": {"stopPolicy": "None"}})
    eventually(lambda: read(stage, borrower).evicted, "the owner's GPUs come back")


def test_jobs_of_one_second_start_in_the_order_of_their_uids(api: ClusterApi) -> None:
    stage = Stage(api, "same-second")
    stage.set_up(a=share(1))
    first = bare(stage, "a", "first", 1)
    eventually(lambda: read(stage, first).admitted, "the queue is taken")
    time.sleep(1.05 - time.time() % 1)
    jobs = [bare(stage, "a", f"job-{number}", 1) for number in range(8)]
    assert len({read(stage, job).metadata.creation_timestamp for job in jobs}) < len(jobs)
    running = first
    while jobs:
        snapshot = take_snapshot(cluster_state(stage.seen(first)))
        rest = tuple(claim for claim in snapshot.claims if claim.job != running)
        [foreseen] = schedule(snapshot.model_copy(update={"claims": rest})).admit
        BareWorkloads().end(api, running)
        eventually(lambda: any(read(stage, job).admitted for job in jobs), "one of them starts")
        [running] = [job for job in jobs if read(stage, job).admitted]
        assert running == foreseen
        jobs.remove(running)
