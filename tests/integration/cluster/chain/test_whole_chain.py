"""`helm install`, and a job trains in pods, is registered, and its model predicts."""

from functools import partial

import pytest
from tests.factories.small_jobs import SPEC
from tests.integration.cluster.chain.installation import NAMESPACE, Installation
from tests.integration.cluster.waiting import eventually
from tests.testcluster.node import GPU, POOL

from windlass.wire.jobs import JobDetailOut, JobOut

# The first build of the images takes minutes.
pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.timeout(2400)]
TEXTS = ["the motor is very good", "this screen was awful"]


def test_a_job_trains_and_is_registered(installation: Installation, trained: JobDetailOut) -> None:
    installation.check_trained_once(trained, 40)
    assert (trained.model, trained.model_version) == ("small", 1)
    assert any("trainer ended after its result" in line for line in installation.log(trained))
    eventually(partial(installation.nothing_of, trained), "RayJob, pods and Secret are deleted", 60)
    eventually(lambda: installation.quota_in_use() == 0, "the quota is given back", 90)


def test_its_model_predicts(installation: Installation, served: str) -> None:
    labels = [each.label for each in installation.client.endpoints.predict(served, TEXTS)]
    assert len(labels) == len(TEXTS)
    assert set(labels) <= {"positive", "negative"}


def test_two_workers_train_in_two_pods(installation: Installation) -> None:
    resources = {"pool": POOL, "workers": 2}
    job = installation.submit("wide", resources=resources, training={**SPEC["training"], "max_steps": 40})
    selector = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=ray.io%2Fgroup%3Dtrainers"
    eventually(lambda: len(installation.items(selector)) == 2, "there are two worker pods", 60)
    installation.check_trained_once(job, 40)


def gpus_of_pods(installation: Installation, job: JobOut) -> list[int]:
    """The GPUs of each pod of a job's trainer."""
    names = tuple(run.name for run in installation.client.jobs.get(job.id).runs)
    pods = installation.items(f"/api/v1/namespaces/{NAMESPACE}/pods")
    limits = [
        pod["spec"]["containers"][0]["resources"]["limits"] for pod in pods if pod["metadata"]["name"].startswith(names)
    ]
    return [int(each.get(GPU, 0)) for each in limits]


def test_each_gpu_of_the_only_worker_has_a_process(installation: Installation) -> None:
    resources = {"pool": POOL, "gpus_per_worker": 2}
    job = installation.submit("dense", resources=resources, training={**SPEC["training"], "max_steps": 40})
    eventually(lambda: gpus_of_pods(installation, job) == [2], "its only pod has two GPUs", 60)
    assert installation.check_trained_once(job, 40).world_size == 2


def test_the_gpu_time_of_all_jobs_is_the_lifetime_of_their_ray_jobs(
    installation: Installation, trained: JobDetailOut
) -> None:
    """It comes last: the jobs of all modules count, with those whose pods were lost and that were preempted."""
    eventually(lambda: installation.quota_in_use() == 0, "the quota is given back", 90)
    jobs = {job.id: job for job in installation.client.jobs.list()}
    used = {row.job: row.gpu_seconds for row in installation.client.usage.list()}
    lived = {job.id: job.spec.resources.gpus * installation.lifetimes.seconds(job.id) for job in jobs.values()}
    rounding = sum(job.spec.resources.gpus for job in jobs.values())  # up to a second for each
    assert installation.lifetimes.watch.problems == []
    assert lived[trained.id] > 0
    assert sum(used.values()) == pytest.approx(sum(lived.values()), rel=0.02, abs=rounding), (used, lived)
