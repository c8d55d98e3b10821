"""A release is upgraded, rolled back, uninstalled and installed again while clients use it: no work is lost."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from tests.cluster_demo.installation import SYSTEM_NAMESPACE, helm, install_charts
from tests.factories.small_jobs import SPEC
from tests.integration.cluster.chain.installation import NAMESPACE, PROJECT, Installation
from tests.integration.cluster.chain.prediction_loop import PredictionLoop, SubmissionLoop
from tests.integration.cluster.waiting import eventually
from tests.testcluster import images, project_images
from tests.testcluster.cluster_api import kubectl
from tests.testcluster.node import GPUS, POOL

from windlass.domain.endpoints import EndpointState
from windlass.domain.jobs import JobState
from windlass.sdk import Client
from windlass.wire.jobs import JobOut

# The first build of the images takes minutes.
pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.timeout(2400)]
NEXT = "next"
"""Another tag of the images: pods with it are other pods."""
SLOW = {**SPEC["training"], "batch_size": 128, "gradient_accumulation": 128, "checkpoint_every_steps": 5}
SHORT: dict[str, Any] = {**SPEC, "resources": {"pool": POOL}, "training": {**SPEC["training"], "max_steps": 20}}
SECONDS = 30.0
"""Time of a request: processes start on the same two CPUs."""
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
OF_PROJECT = "pods,secrets,rayjobs,rayservices,rayclusters,workloads,modelendpoints"
OF_RELEASE = "pods,jobs,deployments,services,configmaps,secrets,serviceaccounts,roles,networkpolicies,leases"
KEPT = {
    "configmap/kube-root-ca.crt",
    "secret/sh.helm.release.v1.windlass-crds",
    "secret/windlass-secrets",
    "lease/windlass-operators",
    "serviceaccount/default",
}


@pytest.fixture(scope="module")
def training(installation: Installation) -> Iterator[JobOut]:
    """A job that trains during all tests of this module."""
    job = installation.submit("training", training={**SLOW, "max_steps": 100_000})
    installation.wait_for_progress(job)
    yield job
    installation.client.jobs.cancel(job.id)
    assert installation.client.jobs.wait(job.id, timeout=120).state == JobState.CANCELLED


def check_steps(installation: Installation, job: JobOut) -> None:
    """Check that a running job has reported every step of its metrics once; a long training reports every n-th step."""
    steps = installation.steps(job)
    assert steps == list(range(steps[0], steps[-1] + 1, steps[0]))


def test_clients_notice_neither_an_upgrade_nor_a_rollback(
    installation: Installation, served: str, training: JobOut
) -> None:
    cluster, client = installation.cluster, installation.client
    for name in project_images.NAMES:
        images.tag(cluster, project_images.reference(name), project_images.reference(name, NEXT))
    with (
        PredictionLoop(client, served, SECONDS) as predictions,
        SubmissionLoop(client, {**SHORT, "name": "steady"}, SECONDS) as submissions,
    ):
        predictions.go_on("the start of the training")
        before = images_of(installation)
        install_charts(cluster, PROJECT, {"images": {"tag": NEXT}})
        upgraded = {image.replace(f":{project_images.TAG}", f":{NEXT}") for image in before}
        eventually(lambda: images_of(installation) == upgraded, "every pod of the release has the next image")
        servers = partial(images_of, installation, NAMESPACE, "windlass.dev/service")
        eventually(lambda: servers() == {project_images.reference("ray", NEXT)}, "the next model server serves", 400)
        helm(cluster, "rollback", "windlass")
        eventually(lambda: images_of(installation) == before, "every pod of the release has the image of before")
        installation.wait_for_progress(training)
        assert (predictions.errors(), submissions.errors()) == ([], [])
    for accepted in submissions.jobs:
        installation.succeeded(client.jobs.get(accepted))
    check_steps(installation, training)
    going_on = client.jobs.get(training.id)
    assert (going_on.state, len(going_on.runs), len(going_on.attempts)) == (JobState.RUNNING, 1, 1)
    [trainer] = [pod for pod in installation.items(PODS) if pod["metadata"]["name"].startswith(going_on.runs[0].name)]
    assert {each["image"] for each in trainer["spec"]["containers"]} == {project_images.reference("ray")}


def images_of(
    installation: Installation, namespace: str = SYSTEM_NAMESPACE, selector: str = "app.kubernetes.io/name=windlass"
) -> set[str]:
    """The images of pods, by default of those of the release, that are not being deleted."""
    query = f"/api/v1/namespaces/{namespace}/pods?labelSelector={quote(selector)}"
    pods = [pod for pod in installation.items(query) if "deletionTimestamp" not in pod["metadata"]]
    return {each["image"] for pod in pods for each in pod["spec"]["containers"]}


@pytest.mark.long
def test_work_that_an_uninstallation_ends_goes_on_after_the_next_installation(
    installation: Installation, served: str, training: JobOut
) -> None:
    cluster, client = installation.cluster, installation.client
    starting = installation.submit("starting-anew", training=SHORT["training"])
    waiting = installation.submit("waiting-anew", resources={"pool": POOL, "workers": GPUS})
    rays = f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayjobs"
    eventually(lambda: len(installation.items(rays)) == 3, "the jobs are queued", 60)
    before = resources_of(client)

    helm(cluster, "uninstall", "windlass")
    eventually(lambda: names_in(installation, NAMESPACE, OF_PROJECT) == set(), "nothing of the project runs", 30)
    eventually(lambda: names_in(installation, SYSTEM_NAMESPACE, OF_RELEASE) == KEPT, "the release is deleted", 150)
    queues = installation.items("/apis/kueue.x-k8s.io/v1beta2/clusterqueues")
    assert queues
    assert all(queue["status"]["reservingWorkloads"] == 0 for queue in queues), "the quota is given back"

    install_charts(cluster, PROJECT)
    installation.relay.connect()
    assert resources_of(client) == before
    client.jobs.cancel(waiting.id)
    assert client.endpoints.wait(served, timeout=400).state is EndpointState.READY
    with PredictionLoop(client, served, SECONDS) as predictions:
        predictions.go_on("the installation")
    installation.check_trained_once(starting, SHORT["training"]["max_steps"])
    installation.wait_for_progress(training)
    check_steps(installation, training)
    assert [run.number for run in client.jobs.get(training.id).runs] == [1, 2]
    assert client.jobs.wait(waiting.id, timeout=120).state == JobState.CANCELLED


def names_in(installation: Installation, namespace: str, kinds: str) -> set[str]:
    """The objects of these kinds, without the number of a revision of Helm."""
    listed = json.loads(kubectl(installation.cluster, "-n", namespace, "get", kinds, "-o", "json"))["items"]
    names = [f"{each['kind'].lower()}/{each['metadata']['name']}" for each in listed]
    return {name.rpartition(".v")[0] if "sh.helm.release" in name else name for name in names}


def resources_of(client: Client) -> dict[str, list[Any]]:
    """What the database has: ids of jobs, versions of models and datasets, specs of endpoints, names of base models."""
    return {
        "jobs": sorted(job.id for job in client.jobs.list()),
        "versions": [
            (model.name, [version.number for version in client.models.versions(model.name)])
            for model in client.models.list()
        ],
        "datasets": [(dataset.name, dataset.id) for dataset in client.datasets.list()],
        "endpoints": [(endpoint.name, endpoint.spec) for endpoint in client.endpoints.list()],
        "base models": [model.name for model in client.base_models.list()],
    }
