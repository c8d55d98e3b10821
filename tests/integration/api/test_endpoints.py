"""Rollouts: load, smoke test, switch, and rollback with a reason."""

from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.endpoints import AppState
from windlass.domain.errors import UnavailableError
from windlass.ports import BackendState


def train(harness: ControlPlaneHarness, key: str, **evaluation: float) -> None:
    job = harness.submit("ours", key=key)
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt(key)
    run.finish(1, {"accuracy": 0.9, **evaluation})
    harness.pipelines.end(run.name, BackendState.SUCCEEDED)
    harness.run_worker_once()


@pytest.fixture
def trained(ready: ControlPlaneHarness) -> ControlPlaneHarness:
    train(ready, "first")
    train(ready, "second")
    return ready


def traffic(*versions: int, **more: Any) -> dict[str, Any]:
    weights = [100] if len(versions) == 1 else [70, 30]
    targets = [{"model": "classifier", "version": n, "weight": w} for n, w in zip(versions, weights, strict=True)]
    return {"spec": {"traffic": targets, **more}}


def create(harness: ControlPlaneHarness, *versions: int, **more: Any) -> dict[str, Any]:
    reply = harness.client.post("/v1/projects/ours/endpoints", json={"name": "live", **traffic(*versions, **more)})
    assert reply.status_code == 202, reply.text
    created: dict[str, Any] = reply.json()
    return created


def get_endpoint(harness: ControlPlaneHarness) -> dict[str, Any]:
    endpoint: dict[str, Any] = harness.client.get("/v1/projects/ours/endpoints/live").json()
    return endpoint


def update(harness: ControlPlaneHarness, body: dict[str, Any]) -> None:
    version = get_endpoint(harness)["version"]
    reply = harness.client.patch("/v1/projects/ours/endpoints/live", json=body, headers={"If-Match": f'"{version}"'})
    assert reply.status_code == 202, reply.text


def test_endpoint_is_ready_after_the_smoke_test(trained: ControlPlaneHarness) -> None:
    assert create(trained, 1, 2)["state"] == "pending"
    trained.rollouts.step()
    trained.rollouts.step()
    endpoint = get_endpoint(trained)
    assert (endpoint["state"], endpoint["ready_replicas"], endpoint["observed_generation"]) == ("ready", 2, 1)
    assert {(target["number"], target["weight"]) for target in endpoint["live"]} == {(1, 70), (2, 30)}


def test_old_version_serves_until_the_new_one_is_healthy(trained: ControlPlaneHarness) -> None:
    create(trained, 1)
    trained.rollouts.step()
    update(trained, traffic(2))
    old = set(trained.serving.apps)
    trained.serving.initial_state = AppState.DEPLOYING
    trained.rollouts.step()
    trained.rollouts.step()
    endpoint = get_endpoint(trained)
    assert (endpoint["state"], [target["number"] for target in endpoint["live"]]) == ("rolling-out", [1])
    trained.serving.states = dict.fromkeys(trained.serving.apps, AppState.READY)
    trained.rollouts.step()
    trained.rollouts.step()
    assert [target["number"] for target in get_endpoint(trained)["live"]] == [2]
    assert set(trained.serving.apps).isdisjoint(old)


@pytest.mark.parametrize(("out_of_memory", "action_by"), [(False, "user"), (True, "admin")])
def test_out_of_memory_needs_an_admin_action(trained: ControlPlaneHarness, out_of_memory: bool, action_by: str) -> None:
    trained.serving.initial_state, trained.serving.out_of_memory = AppState.FAILED, out_of_memory
    create(trained, 1)
    trained.rollouts.step()
    trained.rollouts.step()
    reason = get_endpoint(trained)["reason"]
    assert (reason["code"], reason["action_by"]) == ("rollout_failed", action_by)
    assert ("free the missing resources" in reason["action"]) is out_of_memory


@pytest.mark.parametrize("fault", ["load", "smoke", "time"])
def test_failed_rollout_keeps_the_old_version_and_shows_the_reason(trained: ControlPlaneHarness, fault: str) -> None:
    create(trained, 1)
    trained.rollouts.step()
    trained.rollouts.step()
    old = set(trained.serving.apps)
    update(trained, traffic(2))
    if fault == "smoke":
        trained.prober.error = "status 500"
    else:
        trained.serving.initial_state = AppState.FAILED if fault == "load" else AppState.DEPLOYING
    trained.rollouts.step()
    trained.clock.advance(301)
    trained.rollouts.step()
    trained.rollouts.step()
    endpoint = get_endpoint(trained)
    assert (endpoint["state"], [target["number"] for target in endpoint["live"]]) == ("ready", [1])
    assert endpoint["reason"]["code"] == "rollout_failed"
    assert "classifier@1 still serves" in endpoint["reason"]["message"]
    assert set(trained.serving.apps) == old


def test_endpoint_follows_a_changed_alias(trained: ControlPlaneHarness) -> None:
    put = trained.client.put
    assert put("/v1/projects/ours/models/classifier/aliases/champion", json={"version": 1}).status_code == 200
    body = {"name": "live", "spec": {"traffic": [{"model": "classifier", "alias": "champion"}]}}
    assert trained.client.post("/v1/projects/ours/endpoints", json=body).status_code == 202
    trained.rollouts.step()
    assert [target["number"] for target in get_endpoint(trained)["live"]] == [1]
    put("/v1/projects/ours/models/classifier/aliases/champion", json={"version": 2})
    trained.rollouts.step()
    trained.rollouts.step()
    assert [target["number"] for target in get_endpoint(trained)["live"]] == [2]


def test_prediction_on_a_stopped_or_missing_endpoint_fails_with_a_hint(trained: ControlPlaneHarness) -> None:
    create(trained, 1, stopped=True)
    trained.rollouts.step()
    stopped = trained.client.post("/v1/projects/ours/endpoints/live:predict", json={"inputs": ["x"]})
    assert (stopped.status_code, stopped.json()["code"]) == (503, "endpoint_not_ready")
    assert not stopped.json()["retryable"], "it stays stopped until somebody starts it"
    assert "retry-after" not in stopped.headers
    assert stopped.json()["context"] == {"state": "stopped"}
    assert "windlass endpoint update live --start" in stopped.json()["hint"]
    missing = trained.client.post("/v1/projects/ours/endpoints/other:predict", json={"inputs": ["x"]})
    assert missing.status_code == 404


def test_deleted_endpoint_disappears_after_its_applications(trained: ControlPlaneHarness) -> None:
    created = create(trained, 1)
    trained.rollouts.step()
    version = get_endpoint(trained)["version"]
    url = "/v1/projects/ours/endpoints/live"
    assert trained.client.delete(url, headers={"If-Match": f'"{version}"'}).status_code == 202
    trained.serving.delay_removal = True
    for _ in range(2):
        trained.rollouts.step()
        assert get_endpoint(trained)["state"] == "deleting"
    assert trained.serving.apps == {}
    trained.serving.finish_removal()
    trained.rollouts.step()
    assert trained.client.get(url).status_code == 404
    assert created["id"]


def test_served_version_cannot_be_deleted(trained: ControlPlaneHarness) -> None:
    create(trained, 1)
    reply = trained.client.delete("/v1/projects/ours/models/classifier/versions/1")
    assert (reply.status_code, reply.json()["code"]) == (409, "conflict")
    assert trained.client.delete("/v1/projects/ours/models/classifier/versions/2").status_code == 200


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"traffic": [{"model": "nothing", "version": 1}]}, "/spec/traffic/0"),
        ({"traffic": [{"model": "classifier", "version": 9}]}, "/spec/traffic/0"),
        ({"traffic": [{"model": "classifier", "alias": "none"}]}, "/spec/traffic/0"),
        ({"traffic": [{"model": "classifier", "version": 1, "weight": 50}]}, "/spec"),
        ({"traffic": []}, "/spec/traffic"),
        ({"traffic": [{"model": "classifier"}]}, "/spec/traffic/0"),
    ],
)
def test_invalid_endpoint_spec_is_rejected_with_a_pointer(
    trained: ControlPlaneHarness, spec: dict[str, Any], pointer: str
) -> None:
    reply = trained.client.post("/v1/projects/ours/endpoints", json={"name": "live", "spec": spec})
    assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (422, pointer)


def test_a_slow_smoke_test_delays_only_its_own_endpoint(trained: ControlPlaneHarness) -> None:
    trained.prober.running = True
    create(trained, 1)
    for _ in range(3):
        trained.rollouts.step()
    assert (get_endpoint(trained)["state"], get_endpoint(trained)["live"]) == ("rolling-out", [])
    trained.clock.advance(301)
    trained.rollouts.step()
    assert "not healthy within 300 s" in get_endpoint(trained)["reason"]["message"]
    trained.rollouts.step()
    assert trained.prober.requests == {}, "a retry is probed again"


def test_after_a_restart_an_endpoint_is_pending_until_it_answers(trained: ControlPlaneHarness) -> None:
    create(trained, 1)
    trained.rollouts.step()
    trained.rollouts.step()
    assert (get_endpoint(trained)["state"], get_endpoint(trained)["ready_replicas"]) == ("ready", 1)
    trained.serving.states = dict.fromkeys(trained.serving.states, AppState.DEPLOYING)
    trained.restart_rollouts()
    before = get_endpoint(trained)
    trained.rollouts.step()
    for endpoint in (before, get_endpoint(trained)):
        assert (endpoint["state"], endpoint["ready_replicas"]) == ("pending", 0)
        assert endpoint["reason"]["code"] == "starting"
    trained.serving.states = dict.fromkeys(trained.serving.states, AppState.READY)
    trained.rollouts.step()
    endpoint = get_endpoint(trained)
    assert (endpoint["state"], endpoint["ready_replicas"], endpoint["reason"]) == ("ready", 1, None)


def test_a_failed_rollout_is_still_the_reason_after_a_restart(trained: ControlPlaneHarness) -> None:
    create(trained, 1)
    trained.rollouts.step()
    update(trained, traffic(2))
    trained.prober.error = "status 500"
    trained.rollouts.step()
    trained.restart_rollouts()
    trained.rollouts.step()
    endpoint = get_endpoint(trained)
    assert (endpoint["state"], endpoint["reason"]["code"]) == ("ready", "rollout_failed")


def test_a_back_end_that_starts_nothing_leaves_running_endpoints_ready(
    trained: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(trained, 1)
    trained.rollouts.step()
    trained.rollouts.step()

    def refuse(_apps: object) -> None:
        raise UnavailableError("the disk is full")

    monkeypatch.setattr(trained.serving, "apply", refuse)
    update(trained, traffic(2))
    for _ in range(2):
        with pytest.raises(UnavailableError):
            trained.rollouts.step()
    endpoint = get_endpoint(trained)
    assert (endpoint["state"], endpoint["reason"]["code"]) == ("rolling-out", "serving_unavailable")
    assert [target["number"] for target in endpoint["live"]] == [1]
    update(trained, traffic(1))
    with pytest.raises(UnavailableError):
        trained.rollouts.step()
    assert (get_endpoint(trained)["state"], get_endpoint(trained)["ready_replicas"]) == ("ready", 1)


def test_a_stalled_worker_does_not_make_the_api_unready(trained: ControlPlaneHarness) -> None:
    object.__setattr__(trained.app_context, "worker_problem", lambda: "worker loop 'endpoints' is stalled")
    assert trained.client.get("/readyz").status_code == 200
    worker = trained.client.get("/healthz/worker", headers={"Authorization": ""})
    assert (worker.status_code, worker.json()["detail"]) == (503, "worker loop 'endpoints' is stalled")
