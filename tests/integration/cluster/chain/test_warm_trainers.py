"""Warm trainers on the real node: jobs train on them at once, and stop them when they need their quota."""

import json
from collections.abc import Iterator
from functools import partial

import pytest
from tests.factories.small_jobs import SPEC
from tests.integration.cluster import warm_trainers
from tests.integration.cluster.chain.installation import NAMESPACE, PROJECT, Installation
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import Json, kubectl
from tests.testcluster.node import POOL

from windlass.wire.jobs import JobOut

# The first build of the images takes minutes.
pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.timeout(2400)]
WORKLOADS = f"/apis/kueue.x-k8s.io/v1beta2/namespaces/{NAMESPACE}/workloads"
LOWEST = -1000


def ray_jobs(installation: Installation, job: JobOut | None = None) -> list[Json]:
    """The RayJobs of warm trainers without a run, or of a job."""
    return warm_trainers.ray_jobs(installation.cluster, PROJECT, None if job is None else job.id)


def priorities(installation: Installation, name: str) -> list[int]:
    """The priorities of the Workloads of a RayJob."""
    owned = [each for each in installation.items(WORKLOADS) if each["metadata"]["ownerReferences"][0]["name"] == name]
    return [each["spec"]["priority"] for each in owned]


@pytest.fixture
def warm(installation: Installation) -> Iterator[str]:
    """The name of a warm trainer that waits for a run."""
    warm_trainers.keep(installation.cluster, PROJECT, POOL, 1)
    try:
        eventually(
            partial(warm_trainers.are_ready, installation.cluster, PROJECT, 1), "a warm trainer waits for a run", 300
        )
        [found] = ray_jobs(installation)
        assert priorities(installation, found["metadata"]["name"]) == [LOWEST]
        yield found["metadata"]["name"]
    finally:
        warm_trainers.keep(installation.cluster, PROJECT, POOL, 0)
        eventually(lambda: not ray_jobs(installation), "no warm trainer is left", 120)


def test_a_job_trains_on_a_warm_trainer(installation: Installation, warm: str) -> None:
    job = installation.submit("warm", training={**SPEC["training"], "max_steps": 400})
    eventually(lambda: len(ray_jobs(installation, job)) == 1, "the job has a warm trainer", 60)
    [claimed] = ray_jobs(installation, job)
    assert claimed["metadata"]["name"] == warm
    eventually(lambda: priorities(installation, warm) == [0], "it has the priority of the job", 30)
    installation.check_trained_once(job, 400)
    eventually(lambda: not ray_jobs(installation, job), "it is deleted with the run", 60)
    eventually(
        partial(warm_trainers.are_ready, installation.cluster, PROJECT, 1), "another warm trainer replaces it", 300
    )


def test_a_job_that_needs_all_gpus_stops_the_warm_trainer(installation: Installation, warm: str) -> None:
    project = json.loads(kubectl(installation.cluster, "get", "projects.windlass.dev", PROJECT, "-o", "json"))
    [quota] = [each for each in project["spec"]["quotas"] if each["pool"] == POOL]
    resources = {"pool": POOL, "gpus_per_worker": quota["nominal"]}
    job = installation.submit("whole", resources=resources, training={**SPEC["training"], "max_steps": 40})
    installation.check_trained_once(job, 40)
    assert warm not in [each["metadata"]["name"] for each in ray_jobs(installation)]
