"""Replicas follow the load, and an endpoint without requests has no pods; its first request is held and answered."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from urllib.parse import quote

import pytest
from tests.integration.cluster.chain.installation import HELD_SECONDS, KILLED, NAMESPACE, Installation
from tests.integration.cluster.chain.prediction_loop import PredictionLoop
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import Json, kubectl
from tests.testcluster.node import GPU, GPUS, POOL

from windlass.domain.endpoints import EndpointState
from windlass.kube.names import SERVICE_LABEL
from windlass.sdk import Client
from windlass.wire.jobs import JobDetailOut

pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.timeout(2400)]
TEXTS = ["the motor is very good", "this screen was awful"]
BUSY, IDLE, ON_GPUS = "busy", "idle", "on-gpus"
# Each loop sends a request 0.2 s after the last one, which waits a second for others: 0.8 ongoing requests.
LOOPS = 4
TIMEOUT = 60.0
"""Of a prediction, while pods start on the two CPUs of the node."""
SPECS: dict[str, Json] = {
    BUSY: {"replicas": {"min": 1, "max": 2, "target_ongoing_requests": 1.5}, "batch_wait_ms": 1000},
    IDLE: {"replicas": {"min": 0, "max": 1}},
}


def pods(installation: Installation, endpoint: str) -> list[str]:
    """Return the names of the pods of an endpoint, also of those that are being deleted."""
    listed = installation.items(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={quote(SERVICE_LABEL, safe='')}")
    services = {pod["metadata"]["name"]: pod["metadata"]["labels"][SERVICE_LABEL] for pod in listed}
    return [name for name, service in services.items() if service.startswith(f"ep-{endpoint}-")]


def has_replicas(installation: Installation, endpoint: str, number: int) -> bool:
    """Whether an endpoint has this number of replicas, each in a pod, beside its Ray head."""
    shown = installation.client.endpoints.get(endpoint)
    expected = number + 1 if number else 0
    state = (shown.state, shown.desired_replicas, shown.ready_replicas)
    return state == (EndpointState.READY, number, number) and len(pods(installation, endpoint)) == expected


def kill_replica(installation: Installation, endpoint: str) -> None:
    """Kill the pod of one replica without a grace period."""
    replica = next(name for name in pods(installation, endpoint) if "worker" in name)
    kubectl(installation.cluster, "-n", NAMESPACE, "delete", "pod", replica, *KILLED)


def labels(client: Client, endpoint: str) -> list[str]:
    """Predict without a retry, and wait for the answer as long as the API holds the request."""
    connection = client.connection
    with Client(
        url=connection.url, key=connection.key, project=connection.project, timeout=HELD_SECONDS + 10, retries=0
    ) as waiting:
        return [each.label for each in waiting.endpoints.predict(endpoint, TEXTS)]


def test_replicas_follow_the_load_and_the_first_request_to_an_idle_endpoint_is_held(
    installation: Installation, trained: JobDetailOut
) -> None:
    client = installation.client
    traffic = [{"model": trained.model, "version": trained.model_version, "weight": 100}]
    for name, spec in SPECS.items():
        client.endpoints.create(name, {"traffic": traffic, **spec})
    for name in SPECS:
        assert client.endpoints.wait(name, timeout=300).state is EndpointState.READY
    with ThreadPoolExecutor() as pool, ExitStack() as load, PredictionLoop(client, BUSY, TIMEOUT) as one:
        loops = [one, *(load.enter_context(PredictionLoop(client, BUSY, TIMEOUT)) for _ in range(LOOPS - 1))]
        eventually(partial(has_replicas, installation, BUSY, 2), "the load gets a second replica", 300)
        assert [loop.errors() for loop in loops] == [[]] * LOOPS
        kill_replica(installation, BUSY)
        one.go_on("the loss of one of two replicas", 90)
        failed = [error for loop in loops for error in loop.errors()]
        assert len(failed) <= 2 * LOOPS, failed  # requests at the lost replica, and those sent to it before it is known
        eventually(partial(has_replicas, installation, BUSY, 2), "the lost replica is replaced", 300)
        eventually(partial(has_replicas, installation, IDLE, 0), "the idle endpoint has no pods", 180)
        held = pool.submit(labels, client, IDLE)
        load.close()
        assert [loop.errors() for loop in loops] == [[]] * LOOPS
        eventually(partial(has_replicas, installation, BUSY, 1), "the second replica is removed", 240)
        assert one.errors() == []
        one.go_on("the removal of a replica")
        assert set(held.result(HELD_SECONDS + 20)) <= {"positive", "negative"}
    for name in SPECS:
        client.endpoints.delete(name)


def gpus(installation: Installation, endpoint: str) -> list[int]:
    """Return the GPUs of each replica's pod."""
    names = [name for name in pods(installation, endpoint) if "worker" in name]
    listed = installation.items(f"/api/v1/namespaces/{NAMESPACE}/pods")
    limits = [pod["spec"]["containers"][0]["resources"]["limits"] for pod in listed if pod["metadata"]["name"] in names]
    return [int(each.get(GPU, 0)) for each in limits]


def test_an_additional_replica_on_a_gpu_waits_for_quota_while_the_first_one_serves(
    installation: Installation, trained: JobDetailOut
) -> None:
    """Kueue admits it as a second slice of the same elastic workload."""
    client = installation.client
    traffic = [{"model": trained.model, "version": trained.model_version, "weight": 100}]
    client.endpoints.create(ON_GPUS, {"traffic": traffic, **SPECS[BUSY], "gpus": 1, "pool": POOL})
    assert client.endpoints.wait(ON_GPUS, timeout=300).state is EndpointState.READY
    assert (gpus(installation, ON_GPUS), installation.quota_in_use()) == ([1], 1)
    job = installation.submit("beside", resources={"pool": POOL, "workers": 1, "gpus_per_worker": GPUS - 1})
    installation.wait_for_progress(job, steps=1)
    with ExitStack() as load:
        loops = [load.enter_context(PredictionLoop(client, ON_GPUS, TIMEOUT)) for _ in range(LOOPS)]
        eventually(lambda: client.endpoints.get(ON_GPUS).desired_replicas == 2, "the load demands a second one", 120)
        waiting = client.endpoints.get(ON_GPUS)
        assert (waiting.state, waiting.ready_replicas) == (EndpointState.READY, 1)
        client.jobs.cancel(job.id)
        eventually(partial(has_replicas, installation, ON_GPUS, 2), "the second replica gets the GPU", 300)
        assert gpus(installation, ON_GPUS) == [1, 1]
        eventually(lambda: installation.quota_in_use() == 2, "two GPUs are in use", 60)
        assert [loop.errors() for loop in loops] == [[]] * LOOPS
    eventually(partial(has_replicas, installation, ON_GPUS, 1), "the second replica is removed", 240)
    eventually(lambda: installation.quota_in_use() == 1, "its GPU is given back", 60)
    client.endpoints.delete(ON_GPUS)
    eventually(lambda: installation.quota_in_use() == 0, "the quota is given back", 120)
