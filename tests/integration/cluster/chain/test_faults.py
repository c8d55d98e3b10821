"""Parts of an installation fail while a job trains and a client predicts: no work is lost, and predictions go on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from tests.cluster_demo.installation import SYSTEM_NAMESPACE
from tests.factories.small_jobs import SPEC
from tests.integration.cluster.chain.installation import (
    API,
    KUBERAY,
    KUEUE,
    NAMESPACE,
    OPERATORS,
    POSTGRESQL,
    PROJECT,
    S3,
    WORKER,
    Installation,
)
from tests.integration.cluster.chain.prediction_loop import PredictionLoop
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import kubectl
from tests.testcluster.node import GPUS, POOL

from windlass.domain.jobs import JobState
from windlass.wire.jobs import JobOut

# The first build of the images takes minutes.
pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.timeout(2400)]
SLOW = {**SPEC["training"], "batch_size": 128, "gradient_accumulation": 128, "checkpoint_every_steps": 5}
"""Training settings with steps of parts of a second, so that faults find the job in training."""
STEPS = 200
STEPS_DURING_OUTAGES = 300
"""More, because no fault stops this training."""


def test_services_fail_while_a_job_trains_and_an_endpoint_predicts(installation: Installation, served: str) -> None:
    job = installation.submit_with_lost_reply("outages", training={**SLOW, "max_steps": STEPS_DURING_OUTAGES})
    other = installation.submit("stopped", training={**SLOW, "max_steps": 100_000})
    with PredictionLoop(installation.client, served) as predictions:
        installation.wait_for_progress(job)
        predictions.go_on("the start of the training")
        controllers = (WORKER, OPERATORS, KUEUE, KUBERAY)
        installation.kill(*controllers)
        runner = installation.client.jobs.get(job.id).runs[0].name
        assert installation.delete_pods(SYSTEM_NAMESPACE, f"job-name={runner}")
        installation.wait_ready(*controllers)
        installation.wait_for_progress(job)
        assert predictions.errors() == [], "the path of predictions has none of these"

        installation.kill(POSTGRESQL)
        installation.wait_ready(POSTGRESQL)
        predictions.go_on("the restart of PostgreSQL")
        installation.wait_for_progress(job)
        installation.kill(API)
        predictions.go_on("the restart of the API")
        installation.wait_for_progress(job)

        with installation.outage(S3):
            cancel_at_each_stage(installation, other)
            assert predictions.errors() == [], "a loaded model needs no object store"
    ended = installation.check_trained_once(job, STEPS_DURING_OUTAGES)
    assert (len(ended.runs), len(ended.attempts)) == (1, 1), "no service took work with it"


def cancel_at_each_stage(installation: Installation, training: JobOut) -> None:
    """Cancel a job that waits for quota, one whose pods start, and one that cannot publish a checkpoint."""
    client = installation.client
    starting = installation.submit("starting")
    installation.wait_for_state(starting, JobState.STARTING)
    waiting = installation.submit("waiting", resources={"pool": POOL, "workers": GPUS})
    for job in (starting, waiting, training):
        state = client.jobs.get(job.id).state
        assert client.jobs.cancel(job.id).state in (JobState.CANCELLING, JobState.CANCELLED), state
    for job in (starting, waiting, training):
        ended = client.jobs.wait(job.id, timeout=120)
        assert (ended.state, ended.model_version) == (JobState.CANCELLED, None), job.name
        eventually(partial(installation.nothing_of, job), f"nothing of {job.name} is left", 60)


@pytest.mark.long
def test_pods_of_ray_are_lost_objects_are_deleted_and_a_job_is_preempted(
    installation: Installation, served: str
) -> None:
    client = installation.client
    # The only worker of a job trains in the pod of the Ray head.
    resources = {"pool": POOL, "workers": 2}
    job = installation.submit("lost", resources=resources, training={**SLOW, "max_steps": STEPS})
    with PredictionLoop(client, served) as predictions:
        installation.wait_for_progress(job)
        with next_attempt(installation, job):
            assert len(installation.delete_pods(NAMESPACE, "ray.io/node-type=worker")) >= 3
        installation.wait_for_progress(job)
        predictions.go_on("the loss of the only replica")
        with next_attempt(installation, job):
            kubectl(installation.cluster, "-n", NAMESPACE, "delete", "modelendpoint", served, "--wait=false")
            kubectl(installation.cluster, "-n", NAMESPACE, "delete", "rayjob", "--all", "--wait=false")
        installation.wait_for_progress(job)
        predictions.go_on("the deletion of the ModelEndpoint")
        with next_attempt(installation, job):
            preempt(installation, job)
        installation.wait_for_progress(job)
        # Last, because the worker trains on for a while.
        with next_attempt(installation, job):
            assert len(installation.delete_pods(NAMESPACE, "ray.io/node-type=head")) >= 2
        predictions.go_on("the loss of the Ray heads")
    ended = installation.check_trained_once(job, STEPS)
    assert [run.number for run in ended.runs] == [1, 2], "the deletion of its RayJob ended the first run"
    assert len(ended.attempts) >= 5
    eventually(lambda: installation.quota_in_use() == 0, "the quota is given back", 90)


@contextmanager
def next_attempt(installation: Installation, job: JobOut) -> Iterator[None]:
    """Wait at the end of the block until another attempt of a job has started than before it."""
    before = installation.client.jobs.get(job.id).attempt
    yield
    eventually(lambda: installation.client.jobs.get(job.id).attempt > before, "the next attempt starts", 300)


def preempt(installation: Installation, job: JobOut) -> None:
    """Let a job of higher priority take a part of the quota, so that the job with two GPUs does not fit."""
    set_quota(installation, 2)
    try:
        urgent = installation.submit("urgent", priority=100, training={**SPEC["training"], "max_steps": 40})
        installation.wait_for_state(job, JobState.QUEUED)
        installation.check_trained_once(urgent, 40)
        installation.wait_for_state(job, JobState.RUNNING)
    finally:
        set_quota(installation, GPUS)


def set_quota(installation: Installation, gpus: int) -> None:
    patch = json.dumps({"spec": {"quotas": [{"pool": POOL, "nominal": gpus}]}})
    kubectl(installation.cluster, "patch", "projects.windlass.dev", PROJECT, "--type=merge", "-p", patch)
