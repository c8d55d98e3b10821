"""Endpoints of a cluster whose replicas follow the load; predictions of one that is scaled to zero are held."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.factories.http_servers import serve
from tests.fakes.cluster import MemoryView, make_pool, make_project, make_quota
from tests.fakes.harness import ControlPlaneHarness
from tests.fakes.model_server import StubModelServer, stub_model_server
from tests.integration.api.test_endpoint_gpus import train

from windlass.domain.endpoints import AppState
from windlass.domain.jobs import Reason
from windlass.settings import LimitSettings
from windlass_api.app import create_app
from windlass_api.metrics import REGISTRY

URL = "/v1/projects/ours/endpoints/live"
ANSWER = {"predictions": [[{"label": "good", "score": 0.75}]]}
QUOTA = Reason(code="waiting_for_quota", message="the queue of pool a100 has not admitted 1 replica")


@dataclass
class ScaledEndpoint:
    """An endpoint of a cluster that serves a model version, and its API on a real socket."""

    harness: ControlPlaneHarness
    model: StubModelServer
    api: str

    def step(self, times: int = 1) -> None:
        """Report the load of this replica of the API, and reconcile as the leader of the workers."""
        worker = self.harness.worker
        assert worker.rollouts is not None
        for _ in range(times):
            self.harness.app_context.request_loads.step()
            worker.reconcile_endpoints(worker.rollouts)

    def load(self, ongoing: float, instance: str = "api-2") -> None:
        """Report a load of another replica of the API."""
        with self.harness.database.write() as uow:
            uow.request_loads.record(instance, dict.fromkeys(self.harness.serving.apps, ongoing))

    def reported(self) -> bool:
        with self.harness.database.read() as uow:
            return bool(uow.request_loads.all())

    @property
    def replicas(self) -> list[int]:
        return list(self.harness.serving.replicas.values())

    def shown(self) -> dict[str, Any]:
        endpoint: dict[str, Any] = self.harness.client.get(URL).json()
        return endpoint

    def scale_to_zero(self) -> None:
        """Let the time without requests pass."""
        self.step()
        self.harness.clock.advance(301)
        self.step(2)
        assert self.replicas == [0]

    def set_state(self, state: AppState) -> None:
        self.harness.serving.states = dict.fromkeys(self.harness.serving.states, state)

    def predict(self) -> httpx2.Response:
        headers = {"Authorization": self.harness.client.headers["Authorization"], "Content-Type": "application/json"}
        content = json.dumps({"inputs": ["a"]}).encode()
        return httpx2.post(f"{self.api}{URL}:predict", content=content, headers=headers, trust_env=False, timeout=60)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.01)

    def held(self) -> int:
        return self.harness.app_context.forwarder.held


@pytest.fixture
def limits() -> LimitSettings:
    return LimitSettings(key_cache_seconds=0)


@pytest.fixture
def model() -> Iterator[StubModelServer]:
    with stub_model_server() as stub:
        stub.answer = ANSWER
        yield stub


@pytest.fixture
def endpoint(tmp_path: Path, limits: LimitSettings, model: StubModelServer) -> Iterator[ScaledEndpoint]:
    view = MemoryView()
    view.set_state([make_project("ours", 11, make_quota(2), cohort=None)], pools=[make_pool()])
    harness = ControlPlaneHarness(tmp_path, cluster=view, trains=True, serves=True, limits=limits)
    harness.serving.base_url = model.url
    with harness.client, serve(create_app(harness.app_context)) as port:
        harness.cluster_sync.step()
        harness.create_base_model()
        harness.create_dataset("ours")
        train(harness, resources={"pool": "a100"})
        traffic = [{"model": "classifier", "version": 1, "weight": 100}]
        spec = {"traffic": traffic, "replicas": {"min": 0, "max": 3, "target_ongoing_requests": 2}}
        created = harness.client.post("/v1/projects/ours/endpoints", json={"name": "live", "spec": spec})
        assert created.status_code == 202, created.text
        built = ScaledEndpoint(harness, model, f"http://127.0.0.1:{port}")
        built.step(3)
        assert (built.shown()["state"], built.replicas) == ("ready", [1])
        yield built
    harness.close()


@pytest.fixture
def client() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def metric(state: str) -> float | None:
    labels = {"project": "ours", "endpoint": "live", "state": state}
    return REGISTRY.get_sample_value("windlass_endpoint_replicas", labels)


def held_prediction(endpoint: ScaledEndpoint, client: ThreadPoolExecutor) -> "Future[httpx2.Response]":
    """Send a prediction, and return when it is held."""
    before = endpoint.held()
    reply = client.submit(endpoint.predict)
    endpoint.until(lambda: endpoint.held() > before or reply.done(), "the prediction is held")
    return reply


def test_replicas_follow_the_load_of_all_replicas_of_the_api(endpoint: ScaledEndpoint) -> None:
    endpoint.load(1.5, "api-2")
    endpoint.load(1.0, "api-3")
    endpoint.step(2)
    shown = endpoint.shown()
    assert (endpoint.replicas, shown["desired_replicas"], shown["ready_replicas"]) == ([2], 2, 2)
    assert metric("desired") == metric("ready") == 2
    endpoint.load(90)
    endpoint.step()
    assert endpoint.replicas == [3]


def test_the_load_of_a_dead_replica_of_the_api_expires(endpoint: ScaledEndpoint) -> None:
    endpoint.load(5)
    endpoint.step()
    assert endpoint.replicas == [3]
    endpoint.harness.clock.advance(11)
    endpoint.step()
    assert not endpoint.reported()
    endpoint.harness.clock.advance(60)
    endpoint.step()
    assert endpoint.replicas == [1]


def test_an_idle_endpoint_scales_to_zero_and_stays_ready(endpoint: ScaledEndpoint) -> None:
    endpoint.scale_to_zero()
    shown = endpoint.shown()
    assert (shown["state"], shown["desired_replicas"], shown["ready_replicas"]) == ("ready", 0, 0)
    assert shown["reason"] is None


def test_the_first_request_is_held_and_answered(endpoint: ScaledEndpoint, client: ThreadPoolExecutor) -> None:
    endpoint.scale_to_zero()
    assert metric("desired") == 0
    endpoint.harness.serving.initial_state = AppState.DEPLOYING
    reply = held_prediction(endpoint, client)
    assert REGISTRY.get_sample_value("windlass_held_requests") == 1
    endpoint.step(2)
    assert endpoint.replicas == [1]
    assert (metric("desired"), metric("ready")) == (1, 0)
    assert endpoint.shown()["state"] == "ready", "it starts on demand, and answers"
    assert endpoint.model.requests == []
    endpoint.set_state(AppState.READY)
    answer = reply.result(30)
    assert (answer.status_code, answer.json()["predictions"]) == (200, ANSWER["predictions"])
    assert endpoint.held() == 0


def test_a_request_that_finds_its_replica_gone_is_held_too(
    endpoint: ScaledEndpoint, client: ThreadPoolExecutor
) -> None:
    endpoint.harness.serving.base_url = "http://127.0.0.1:9"  # discard: nothing listens
    reply = held_prediction(endpoint, client)
    endpoint.harness.serving.base_url = endpoint.model.url
    assert reply.result(30).status_code == 200


def test_a_new_version_starts_with_a_replica_when_the_old_one_has_none(endpoint: ScaledEndpoint) -> None:
    endpoint.scale_to_zero()
    shown = endpoint.shown()
    spec = shown["spec"] | {"max_batch_size": 2}
    headers = {"If-Match": f'"{shown["version"]}"'}
    assert endpoint.harness.client.patch(URL, json={"spec": spec}, headers=headers).status_code == 202
    endpoint.step()
    assert sorted(endpoint.replicas) == [0, 1]
    endpoint.step(2)
    assert (endpoint.replicas, endpoint.shown()["observed_generation"]) == ([1], 2)


def test_a_live_version_without_a_replica_starts_one_for_the_rollout_that_it_is_part_of(
    endpoint: ScaledEndpoint,
) -> None:
    """All versions of a rollout are smoke-tested together."""
    endpoint.scale_to_zero()
    shown = endpoint.shown()
    train(endpoint.harness, key="second", resources={"pool": "a100"})
    traffic = [{"model": "classifier", "version": number, "weight": 50} for number in (1, 2)]
    headers = {"If-Match": f'"{shown["version"]}"'}
    body = {"spec": shown["spec"] | {"traffic": traffic}}
    assert endpoint.harness.client.patch(URL, json=body, headers=headers).status_code == 202
    endpoint.step(3)
    assert (endpoint.replicas, endpoint.shown()["observed_generation"]) == ([1, 1], 2)


class TestBoundedTime:
    @pytest.fixture
    def limits(self) -> LimitSettings:
        return LimitSettings(key_cache_seconds=0, held_seconds=0.5)

    def test_a_held_request_ends_with_the_reason(self, endpoint: ScaledEndpoint) -> None:
        endpoint.scale_to_zero()
        endpoint.harness.serving.initial_state = AppState.DEPLOYING
        endpoint.harness.serving.waits = QUOTA
        endpoint.load(1)
        endpoint.step(2)
        shown = endpoint.shown()
        assert (shown["state"], shown["reason"]["code"]) == ("pending", QUOTA.code)
        reply = endpoint.predict()
        problem = reply.json()
        assert (reply.status_code, problem["code"], problem["retryable"]) == (503, "endpoint_not_ready", True)
        assert QUOTA.message in problem["detail"]
        assert "windlass endpoint show live" in problem["hint"]
        assert reply.headers["retry-after"] == "1"


class TestBoundedNumber:
    @pytest.fixture
    def limits(self) -> LimitSettings:
        return LimitSettings(key_cache_seconds=0, held_requests_per_project=1)

    def test_more_requests_than_allowed_are_refused(self, endpoint: ScaledEndpoint, client: ThreadPoolExecutor) -> None:
        endpoint.scale_to_zero()
        held = held_prediction(endpoint, client)
        refused = endpoint.predict()
        assert (refused.status_code, refused.json()["code"]) == (429, "busy")
        assert refused.json()["context"] == {"limit": 1}
        endpoint.step()
        assert held.result(30).status_code == 200


def test_a_client_that_disconnects_is_no_load_any_more(endpoint: ScaledEndpoint) -> None:
    endpoint.scale_to_zero()
    with httpx2.Client(base_url=endpoint.api, trust_env=False, timeout=0.5) as client:
        authorization = {"Authorization": endpoint.harness.client.headers["Authorization"]}
        with pytest.raises(httpx2.ReadTimeout):
            client.post(f"{URL}:predict", json={"inputs": ["a"]}, headers=authorization)
    endpoint.until(lambda: endpoint.held() == 0, "the request is not held any more")
    endpoint.step()
    for _ in range(2):
        endpoint.harness.clock.advance(1)
        endpoint.step()
    assert not endpoint.reported()


@pytest.mark.parametrize("fails", [False, True])
def test_an_answered_request_is_no_load_any_more(endpoint: ScaledEndpoint, fails: bool) -> None:
    endpoint.model.failures = [500] if fails else []
    assert endpoint.predict().status_code == (502 if fails else 200)
    loads = endpoint.harness.app_context.request_loads
    assert loads.ongoing == {}
