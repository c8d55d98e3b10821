"""Rollouts: load, smoke-test, switch, keep the old one; roll back with the reason shown."""

from typing import Any

import pytest
from tests.fakes.house import House

from windlass.domain.endpoints import AppState
from windlass.ports import BackendState


def train(house: House, key: str, **evaluation: float) -> None:
    job = house.submit("ours", key=key)
    house.turn(2)
    run = house.run_of(job)
    run.claim(key)
    run.finish(1, {"accuracy": 0.9, **evaluation})
    house.pipelines.end(run.name, BackendState.SUCCEEDED)
    house.turn()


@pytest.fixture
def trained(ready: House) -> House:
    train(ready, "first")
    train(ready, "second")
    return ready


def traffic(*versions: int, **more: Any) -> dict[str, Any]:
    weights = [100] if len(versions) == 1 else [70, 30]
    targets = [{"model": "classifier", "version": n, "weight": w} for n, w in zip(versions, weights, strict=True)]
    return {"spec": {"traffic": targets, **more}}


def create(house: House, *versions: int, **more: Any) -> dict[str, Any]:
    reply = house.client.post("/v1/projects/ours/endpoints", json={"name": "live", **traffic(*versions, **more)})
    assert reply.status_code == 202, reply.text
    made: dict[str, Any] = reply.json()
    return made


def look(house: House) -> dict[str, Any]:
    shown: dict[str, Any] = house.client.get("/v1/projects/ours/endpoints/live").json()
    return shown


def change(house: House, body: dict[str, Any]) -> None:
    version = look(house)["version"]
    reply = house.client.patch("/v1/projects/ours/endpoints/live", json=body, headers={"If-Match": f'"{version}"'})
    assert reply.status_code == 202, reply.text


def test_an_endpoint_is_ready_once_its_versions_answered_the_smoke_test(trained: House) -> None:
    assert create(trained, 1, 2)["state"] == "pending"
    trained.rollouts.step()
    trained.rollouts.step()
    shown = look(trained)
    assert (shown["state"], shown["ready_replicas"], shown["observed_generation"]) == ("ready", 2, 1)
    assert {(one["number"], one["weight"]) for one in shown["live"]} == {(1, 70), (2, 30)}


def test_the_old_version_answers_until_the_new_one_is_healthy(trained: House) -> None:
    create(trained, 1)
    trained.rollouts.step()
    change(trained, traffic(2))
    old = set(trained.serving.apps)
    trained.serving.newcomers = AppState.DEPLOYING
    trained.rollouts.step()
    trained.rollouts.step()
    shown = look(trained)
    assert (shown["state"], [one["number"] for one in shown["live"]]) == ("rolling-out", [1])
    trained.serving.states = dict.fromkeys(trained.serving.apps, AppState.READY)
    trained.rollouts.step()
    trained.rollouts.step()
    assert [one["number"] for one in look(trained)["live"]] == [2]
    assert set(trained.serving.apps).isdisjoint(old)


@pytest.mark.parametrize(("cramped", "owner"), [(False, "you"), (True, "admin")])
def test_a_version_is_not_blamed_for_what_the_machine_lacks(trained: House, cramped: bool, owner: str) -> None:
    trained.serving.newcomers, trained.serving.cramped = AppState.FAILED, cramped
    create(trained, 1)
    trained.rollouts.step()
    trained.rollouts.step()
    reason = look(trained)["reason"]
    assert (reason["code"], reason["owner"]) == ("rollout_failed", owner)
    assert ("free what it lacks" in reason["action"]) is cramped


@pytest.mark.parametrize("fault", ["load", "smoke", "time"])
def test_a_bad_version_is_rolled_back_with_the_reason(trained: House, fault: str) -> None:
    create(trained, 1)
    trained.rollouts.step()
    trained.rollouts.step()
    old = set(trained.serving.apps)
    change(trained, traffic(2))
    if fault == "smoke":
        trained.complaint = "it answered 500"
    else:
        trained.serving.newcomers = AppState.FAILED if fault == "load" else AppState.DEPLOYING
    trained.rollouts.step()
    trained.clock.forward(301)
    trained.rollouts.step()
    trained.rollouts.step()
    shown = look(trained)
    assert (shown["state"], [one["number"] for one in shown["live"]]) == ("ready", [1])
    assert shown["reason"]["code"] == "rollout_failed"
    assert "classifier@1 goes on answering" in shown["reason"]["message"]
    assert set(trained.serving.apps) == old


def test_an_alias_that_moves_moves_the_endpoint(trained: House) -> None:
    put = trained.client.put
    assert put("/v1/projects/ours/models/classifier/aliases/champion", json={"version": 1}).status_code == 200
    body = {"name": "live", "spec": {"traffic": [{"model": "classifier", "alias": "champion"}]}}
    assert trained.client.post("/v1/projects/ours/endpoints", json=body).status_code == 202
    trained.rollouts.step()
    assert [one["number"] for one in look(trained)["live"]] == [1]
    put("/v1/projects/ours/models/classifier/aliases/champion", json={"version": 2})
    trained.rollouts.step()
    trained.rollouts.step()
    assert [one["number"] for one in look(trained)["live"]] == [2]


def test_predicting_on_a_stopped_or_missing_endpoint_says_what_to_do(trained: House) -> None:
    create(trained, 1, stopped=True)
    trained.rollouts.step()
    asleep = trained.client.post("/v1/projects/ours/endpoints/live:predict", json={"inputs": ["x"]})
    assert (asleep.status_code, asleep.json()["code"]) == (503, "endpoint_not_ready")
    assert asleep.json()["facts"] == {"state": "stopped"}
    assert "spec.stopped" in asleep.json()["hint"]
    missing = trained.client.post("/v1/projects/ours/endpoints/other:predict", json={"inputs": ["x"]})
    assert missing.status_code == 404


def test_a_deleted_endpoint_goes_when_its_applications_are_gone(trained: House) -> None:
    made = create(trained, 1)
    trained.rollouts.step()
    version = look(trained)["version"]
    url = "/v1/projects/ours/endpoints/live"
    assert trained.client.delete(url, headers={"If-Match": f'"{version}"'}).status_code == 202
    trained.serving.lingering = True
    for _ in range(2):
        trained.rollouts.step()
        assert look(trained)["state"] == "deleting"
    assert trained.serving.apps == {}
    trained.serving.gone()
    trained.rollouts.step()
    assert trained.client.get(url).status_code == 404
    assert made["id"]


def test_a_served_version_cannot_be_deleted(trained: House) -> None:
    create(trained, 1)
    reply = trained.client.delete("/v1/projects/ours/models/classifier/versions/1")
    assert (reply.status_code, reply.json()["code"]) == (409, "conflict")
    assert trained.client.delete("/v1/projects/ours/models/classifier/versions/2").status_code == 204


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
def test_a_wish_that_makes_no_sense_is_refused_by_field(trained: House, spec: dict[str, Any], pointer: str) -> None:
    reply = trained.client.post("/v1/projects/ours/endpoints", json={"name": "live", "spec": spec})
    assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (422, pointer)
