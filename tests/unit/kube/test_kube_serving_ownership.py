"""Which ModelEndpoints a control plane changes: its own, and only while its worker is the leader."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.factories.served_apps import kube_serving, make_served_app
from tests.fakes.kube_api import KubeApiServer, serve_kube_api

from windlass.domain.endpoints import AppState, ServedApp
from windlass.kube.kinds import ENDPOINT, POD, RAY_SERVICE, SECRET
from windlass.kube.names import namespace_of
from windlass.kube.objects import Object, Ref
from windlass.kube.serving.backend import KubernetesServing
from windlass.ports.leadership import NotLeaderError

NAMESPACE = namespace_of("ours")


@dataclass
class Leadership:
    """The guard of a client."""

    is_leader: bool = True

    def ensure_leader(self) -> None:
        if not self.is_leader:
            raise NotLeaderError("another worker is the leader")


@pytest.fixture
def server() -> Iterator[KubeApiServer]:
    with serve_kube_api([ENDPOINT, RAY_SERVICE, POD, SECRET]) as running:
        yield running


def serving(server: KubeApiServer, control_plane: str, leadership: Leadership | None = None) -> KubernetesServing:
    return kube_serving(server.client(guard=(leadership or Leadership()).ensure_leader), control_plane)


def app(endpoint: str, key: str = "") -> ServedApp:
    return make_served_app(key or f"{endpoint}-1", endpoint=endpoint)


def endpoints(server: KubeApiServer) -> dict[str, Object]:
    return {live["metadata"]["name"]: live for live in server.api.of_kind(ENDPOINT)}


def test_a_control_plane_deletes_no_endpoint_of_another_one(server: KubeApiServer) -> None:
    first, second = serving(server, "first"), serving(server, "second")
    first.apply([app("one"), app("removed")])
    second.apply([app("two")])
    assert set(endpoints(server)) == {"one", "removed", "two"}
    second.apply([])
    assert set(endpoints(server)) == {"one", "removed"}
    first.apply([app("one")])
    assert list(endpoints(server)) == ["one"]
    first.stop()
    second.stop()


def test_an_endpoint_that_a_user_created_is_neither_changed_nor_deleted(server: KubeApiServer) -> None:
    manifest = {"apiVersion": ENDPOINT.api_version, "kind": ENDPOINT.kind, "spec": {"versions": []}}
    labels = {"app.kubernetes.io/managed-by": "windlass"}
    server.api.create(manifest | {"metadata": {"name": "live", "namespace": NAMESPACE, "labels": labels}})
    before = endpoints(server)
    backend = serving(server, "first")
    backend.apply([app("live"), app("other")])
    assert endpoints(server)["live"] == before["live"]
    assert set(endpoints(server)) == {"live", "other"}
    [status] = [each for each in backend.status().apps if each.key == "live-1"]
    assert status.state is AppState.DEPLOYING
    assert status.waits is not None
    assert (status.waits.code, "kubectl delete" in status.waits.action) == ("endpoint_not_owned", True)
    backend.apply([])
    assert endpoints(server) == before
    backend.stop()


def test_a_replaced_leader_neither_writes_nor_deletes(server: KubeApiServer) -> None:
    leadership = Leadership()
    backend = serving(server, "first", leadership)
    backend.apply([app("live")])
    before = endpoints(server)
    leadership.is_leader = False
    for desired in ([], [app("live", "live-2")], [app("live"), app("other")]):
        with pytest.raises(NotLeaderError):
            backend.apply(desired)
    assert endpoints(server) == before
    assert {each.key for each in backend.status().apps} == {"live-1"}, "every process reads the status"
    backend.stop()


def test_replicas_of_a_control_plane_continue_each_others_endpoints(server: KubeApiServer) -> None:
    first, successor = serving(server, "first"), serving(server, "first")
    first.apply([app("one"), app("removed")])
    before = server.api.get(Ref(ENDPOINT, "one", NAMESPACE))
    successor.apply([app("one")])
    assert endpoints(server) == {"one": before}
    first.stop()
    successor.stop()


def test_a_new_process_knows_the_applications_with_its_first_status(server: KubeApiServer) -> None:
    """Else the first predictions after the start of an API pod would fail."""
    worker, api = serving(server, "first"), serving(server, "first")
    worker.apply([app("live")])
    assert [each.key for each in api.status().apps] == ["live-1"]
    worker.stop()
    api.stop()
