"""The ModelEndpoint of an endpoint that moves to GPUs."""

from collections.abc import Iterator

import pytest
from tests.fakes.kube_api import KubeApiServer, serve_kube_api
from tests.unit.kube.test_kube_serving_ownership import app, endpoints, serving

from windlass.kube.kinds import ENDPOINT, POD, RAY_SERVICE, SECRET
from windlass.kube.objects import Object, Ref


@pytest.fixture
def server() -> Iterator[KubeApiServer]:
    with serve_kube_api([ENDPOINT, RAY_SERVICE, POD, SECRET]) as running:
        yield running


def test_replicas_on_gpus_are_a_new_service_beside_the_serving_one(server: KubeApiServer) -> None:
    backend = serving(server, "first")
    on_cpus = app("live")
    backend.apply([on_cpus])
    [before] = versions(server)
    backend.apply([on_cpus.model_copy(update={"gpus": 1, "pool": "a100"})])
    after, kept = versions(server)
    assert (after["gpus"], after["pool"]) == (1, "a100")
    assert kept == before
    assert after["service"] != before["service"]
    backend.stop()


def versions(server: KubeApiServer) -> list[Object]:
    assert Ref.of(endpoints(server)["live"]).kind == ENDPOINT
    found: list[Object] = endpoints(server)["live"]["spec"]["versions"]
    return found
