"""The deploy of a job happens once, in the order of acceptance; limits of endpoints and replicas."""

from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun
from tests.integration.api.test_endpoints import create, get_endpoint, traffic, train, update

from windlass.settings import LimitSettings


def accept(harness: ControlPlaneHarness, key: str) -> dict[str, Any]:
    return harness.submit("ours", key=key, deploy={"endpoint": "live"})


def finish(harness: ControlPlaneHarness, job: dict[str, Any]) -> SimulatedRun:
    """Finish the job's training and register its result; the outbox has the deploy intent."""
    run = harness.simulated_run(job)
    run.acquire_attempt()
    assert run.finish(1).status_code == 200
    return run


def desired(harness: ControlPlaneHarness) -> list[int]:
    return [target["version"] for target in get_endpoint(harness)["spec"]["traffic"]]


def events(harness: ControlPlaneHarness, job: dict[str, Any]) -> list[str]:
    items = harness.client.get(f"/v1/projects/ours/jobs/{job['id']}/events").json()["items"]
    return [item["code"] for item in items]


@pytest.mark.parametrize("first", ["intent", "step"])
def test_a_deploy_happens_once_and_a_later_decision_stands(ready: ControlPlaneHarness, first: str) -> None:
    train(ready, "before")
    job = accept(ready, "job")
    ready.run_worker_once(2)
    run = finish(ready, job)
    if first == "intent":
        ready.dispatch_outbox()
    else:
        assert run.post("deploy").status_code == 200
    assert desired(ready) == [2]
    update(ready, traffic(1))  # an operator rolls back
    for _ in range(2):
        assert run.post("deploy").status_code == 200
        ready.dispatch_outbox()
    assert desired(ready) == [1]


def test_of_two_jobs_that_deploy_to_one_endpoint_the_one_accepted_later_wins(ready: ControlPlaneHarness) -> None:
    with ready.database.write() as uow:
        pool = uow.pools.get({"name": "local"})
        uow.pools.save(pool.model_copy(update={"capacity": 2}))
        quotas = uow.all_projects().quotas
        quotas.save(quotas.all()[0].model_copy(update={"nominal": 2}))
    earlier, later = accept(ready, "earlier"), accept(ready, "later")
    ready.run_worker_once(2)
    finish(ready, later)
    ready.dispatch_outbox()
    run = finish(ready, earlier)
    ready.dispatch_outbox()
    assert run.post("deploy").status_code == 200
    # The later job finished first, so its version is number 1.
    assert desired(ready) == [1]
    assert "deploy_superseded" in events(ready, earlier)


def limited(harness: ControlPlaneHarness, **limits: int) -> ControlPlaneHarness:
    object.__setattr__(harness.deps, "limits", LimitSettings.model_validate(limits).project_limits)
    return harness


def post(harness: ControlPlaneHarness, name: str, **spec: Any) -> Any:
    return harness.client.post("/v1/projects/ours/endpoints", json={"name": name, **traffic(1, **spec)})


def test_replicas_of_an_endpoint_are_limited(ready: ControlPlaneHarness) -> None:
    train(ready, "first")
    refused = post(ready, "live", replicas={"min": 1000, "max": 1000})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/spec/replicas/max")
    assert "the limit of an endpoint is 8" in refused.json()["detail"]
    assert "WINDLASS_LIMIT_MAX_ENDPOINT_REPLICAS" in refused.json()["hint"]
    assert post(ready, "live", replicas={"min": 1, "max": 8}).status_code == 202


def test_replicas_and_endpoints_of_a_project_are_limited(ready: ControlPlaneHarness) -> None:
    train(ready, "first")
    limited(ready, max_project_replicas=5, max_endpoints=3)
    assert post(ready, "live", replicas={"max": 4}).status_code == 202
    refused = post(ready, "other", replicas={"max": 2})
    assert (refused.status_code, refused.json()["code"]) == (409, "limit_reached")
    assert refused.json()["context"] == {"used": 4, "requested": 2, "limit": 5}
    assert post(ready, "stopped", replicas={"max": 8}, stopped=True).status_code == 202
    assert post(ready, "other", replicas={"max": 1}).status_code == 202
    assert "3 endpoints" in post(ready, "fourth").json()["detail"]


def test_an_endpoint_above_a_lowered_limit_can_still_be_changed_and_scaled_down(ready: ControlPlaneHarness) -> None:
    train(ready, "first")
    train(ready, "second")
    create(ready, 1, replicas={"max": 8})
    limited(ready, max_project_replicas=2, max_endpoint_replicas=2)
    update(ready, traffic(2, replicas={"max": 8}))
    update(ready, traffic(2, replicas={"max": 3}))
    version = get_endpoint(ready)["version"]
    more = ready.client.patch(
        "/v1/projects/ours/endpoints/live",
        json=traffic(2, replicas={"max": 4}),
        headers={"If-Match": f'"{version}"'},
    )
    assert more.status_code == 422


def test_a_deploy_beyond_the_limit_is_the_reason_of_its_job(ready: ControlPlaneHarness) -> None:
    train(ready, "first")
    limited(ready, max_endpoints=1)
    assert post(ready, "other").status_code == 202
    job = accept(ready, "job")
    ready.run_worker_once(2)
    finish(ready, job)
    ready.dispatch_outbox()
    reason = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()["reason"]
    assert (reason["code"], reason["action_by"]) == ("deploy_failed", "user")
    assert "the limit is 1" in reason["message"]
    with ready.database.read() as uow:
        assert uow.outbox.oldest() is None, "the intent is not repeated"
