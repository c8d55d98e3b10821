"""The ModelEndpoint of an endpoint whose number of replicas changes."""

import time
from collections.abc import Callable, Iterator

import pytest
from tests.fakes.kube_api import KubeApiServer, serve_kube_api
from tests.unit.kube.test_kube_serving_gpus import versions
from tests.unit.kube.test_kube_serving_ownership import NAMESPACE, app, serving

from windlass.domain.endpoints import AppState, ReplicaRange, ServedApp
from windlass.kube.kinds import ENDPOINT, POD, RAY_SERVICE, SECRET
from windlass.kube.names import ENDPOINT_LABEL
from windlass.kube.objects import Ref


@pytest.fixture
def server() -> Iterator[KubeApiServer]:
    with serve_kube_api([ENDPOINT, RAY_SERVICE, POD, SECRET]) as running:
        yield running


def scaled(number: int | None, least: int = 0) -> ServedApp:
    update = {"replicas": ReplicaRange(min=least, max=3), "desired_replicas": number}
    return app("live").model_copy(update=update)


@pytest.mark.parametrize(("least", "first"), [(0, 1), (1, 1), (2, 2)])
def test_an_application_starts_with_the_fewest_replicas_but_at_least_one(
    server: KubeApiServer, least: int, first: int
) -> None:
    backend = serving(server, "first")
    backend.apply([scaled(None, least)])
    [version] = versions(server)
    assert version["replicas"] == first
    backend.stop()


def test_the_number_stays_until_another_one_is_desired(server: KubeApiServer) -> None:
    backend, successor = serving(server, "first"), serving(server, "first")
    backend.apply([scaled(3)])
    successor.apply([scaled(None)])
    [version] = versions(server)
    assert version["replicas"] == 3
    successor.apply([scaled(2)])
    [version] = versions(server)
    assert version["replicas"] == 2
    backend.stop()
    successor.stop()


def test_scaled_to_zero_it_is_ready_without_a_url_and_starts_again(server: KubeApiServer) -> None:
    backend = serving(server, "first")
    backend.apply([scaled(1)])
    backend.apply([scaled(0)])
    [version] = versions(server)
    assert version["replicas"] == 0
    [status] = backend.status().apps
    assert (status.state, status.url, status.desired_replicas) == (AppState.READY, "", 0)
    backend.apply([scaled(1)])
    [status] = backend.status().apps
    assert (status.state, status.desired_replicas) == (AppState.DEPLOYING, 1)
    backend.stop()


def test_an_upgrade_starts_no_replica_of_an_application_that_is_scaled_to_zero(server: KubeApiServer) -> None:
    backend = serving(server, "first")
    backend.apply([scaled(0)])
    [before] = versions(server)
    backend.apply([scaled(None).model_copy(update={"gpus": 1, "pool": "a100"})])  # other pods, as after an upgrade
    [after] = versions(server)
    assert (after["replicas"], after["service"] == before["service"]) == (0, False)
    backend.stop()


def test_the_service_of_before_scaling_to_zero_answers_nothing_while_it_is_deleted(server: KubeApiServer) -> None:
    backend = serving(server, "first")
    backend.apply([scaled(1)])
    [version] = versions(server)
    status = {"conditions": [{"type": "Ready", "status": "True"}], "numServeEndpoints": 1}
    application = {"applicationStatuses": {"live-1": {"status": "RUNNING"}}}
    metadata = {"name": version["service"], "namespace": NAMESPACE, "labels": {ENDPOINT_LABEL: "live"}}
    kind = {"apiVersion": RAY_SERVICE.api_version, "kind": RAY_SERVICE.kind}
    service = server.api.create(kind | {"metadata": metadata, "status": status | {"activeServiceStatus": application}})
    eventually(lambda: backend.status().apps[0].state is AppState.READY)
    server.api.patch(Ref.of(service), {"metadata": {"deletionTimestamp": "2026-11-29T10:00:00Z"}})
    eventually(lambda: backend.status().apps[0].state is AppState.DEPLOYING)
    backend.stop()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for the watch."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
