"""Failures do not block others, are shown with a reason, and lose no desired state."""

from typing import Any

import pytest
from tests.fakes.backends import MemoryPipelines
from tests.fakes.harness import ControlPlaneHarness
from tests.integration.api.test_endpoints import create, get_endpoint, traffic, train, update

from windlass.domain.endpoints import AppState
from windlass.domain.errors import UnavailableError
from windlass.domain.specs import Task
from windlass.ports import BackendRun, BackendState


def get_job(harness: ControlPlaneHarness, job: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = harness.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()
    return result


def events(harness: ControlPlaneHarness, job: dict[str, Any]) -> list[str]:
    return [event["code"] for event in harness.client.get(f"/v1/projects/ours/jobs/{job['id']}/events").json()["items"]]


def register_without_deploy(harness: ControlPlaneHarness, **spec: Any) -> dict[str, Any]:
    """Return a job whose version is registered but whose run died before its deploy step."""
    job = harness.submit("ours", key=str(spec), **spec)
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt(str(spec))
    assert run.finish(1).json()["decision"] == "candidate"
    harness.pipelines.end(run.name, BackendState.LOST, "the machine went down")
    harness.run_worker_once(2)
    return job


def test_worker_deploys_if_the_run_dies_before_its_deploy_step(ready: ControlPlaneHarness) -> None:
    job = register_without_deploy(ready, deploy={"endpoint": "live"})
    assert get_endpoint(ready)["spec"]["traffic"] == [
        {"model": "classifier", "version": 1, "alias": None, "weight": 100}
    ]
    assert events(ready, job).count("deploy_requested") == 1
    assert get_job(ready, job)["state"] == "succeeded"


def test_deploy_step_after_the_worker_deployed_has_no_effect(ready: ControlPlaneHarness) -> None:
    job = register_without_deploy(ready, deploy={"endpoint": "live"})
    generation = get_endpoint(ready)["generation"]
    assert ready.simulated_run(job).post("deploy").status_code == 200
    assert get_endpoint(ready)["generation"] == generation
    assert events(ready, job).count("deploy_requested") == 1


def test_failed_deployment_is_shown_as_the_reason_of_the_job(ready: ControlPlaneHarness) -> None:
    ready.create_base_model("speaker", task=Task.CHAT)
    train(ready, "first")
    create(ready, 1)
    with ready.database.write() as uow:
        repos = uow.all_projects()
        [endpoint] = repos.endpoints.all()
        uow.project(endpoint.project).endpoints.save(endpoint.model_copy(update={"task": Task.CHAT}))
    job = register_without_deploy(ready, deploy={"endpoint": "live"}, model="classifier")
    reason = get_job(ready, job)["reason"]
    assert (reason["code"], reason["action_by"]) == ("deploy_failed", "user")
    assert "endpoint live serves chat" in reason["message"]
    assert events(ready, job).count("deploy_failed") == 1


def test_deployment_changes_only_the_traffic_of_an_endpoint(ready: ControlPlaneHarness) -> None:
    train(ready, "first")
    create(ready, 1, replicas={"min": 2, "max": 8}, max_batch_size=4, stopped=True)
    register_without_deploy(ready, deploy={"endpoint": "live"})
    spec = get_endpoint(ready)["spec"]
    assert [target["version"] for target in spec["traffic"]] == [2]
    assert (spec["replicas"]["max"], spec["max_batch_size"], spec["stopped"]) == (8, 4, True)


class FailingPipelines(MemoryPipelines):
    """A backend that fails to start or poll the runs in ``failing_runs``."""

    failing_runs: set[str]

    def submit(self, context: Any) -> bool:
        if context.identity.name in self.failing_runs:
            raise UnavailableError("no process can be started")
        return super().submit(context)

    def poll(self, run_name: str) -> BackendRun:
        if run_name in self.failing_runs and run_name in self.contexts:
            raise UnavailableError("its process does not end")
        return super().poll(run_name)


@pytest.fixture
def failing(harness: ControlPlaneHarness) -> ControlPlaneHarness:
    harness.create_base_model()
    harness.create_project("ours", gpus=2)
    harness.create_dataset("ours")
    harness.pipelines.__class__ = FailingPipelines
    harness.pipelines.failing_runs = set()  # type: ignore[attr-defined]  # the class was changed above
    return harness


def failing_runs(harness: ControlPlaneHarness) -> set[str]:
    result: set[str] = harness.pipelines.failing_runs  # type: ignore[attr-defined]  # see failing
    return result


def test_run_that_cannot_start_shows_the_reason_and_releases_its_gpus(failing: ControlPlaneHarness) -> None:
    job = failing.submit("ours", key="1")
    failing_runs(failing).update(f"job-{job['id'].removeprefix('job_')}-r{number}" for number in range(1, 10))
    failing.run_worker_once(2)
    reason = get_job(failing, job)["reason"]
    assert (get_job(failing, job)["state"], reason["code"], reason["action_by"]) == (
        "starting",
        "start_failed",
        "admin",
    )
    assert "no process can be started" in reason["message"]
    for _ in range(6):
        failing.clock.advance(61)
        failing.run_worker_once()
    assert get_job(failing, job)["runs"][0]["state"] == "lost"
    for _ in range(60):
        failing.clock.advance(61)
        failing.run_worker_once()
    ended = get_job(failing, job)
    assert (ended["state"], ended["reason"]["code"]) == ("failed", "runs_lost")
    assert failing.client.get("/v1/pools/local").json()["in_use"] == 0


def test_failing_poll_of_a_run_does_not_block_other_runs(failing: ControlPlaneHarness) -> None:
    stuck, fine = failing.submit("ours", key="1"), failing.submit("ours", key="2")
    failing.run_worker_once(2)
    run = failing.simulated_run(fine)
    run.acquire_attempt()
    run.finish(1)
    failing.pipelines.end(run.name, BackendState.SUCCEEDED)
    failing_runs(failing).add(failing.simulated_run(stuck).name)
    waiting = failing.submit("ours", key="3")
    with pytest.raises(UnavailableError):
        failing.run_worker_once()
    assert get_job(failing, fine)["runs"][0]["state"] == "succeeded"
    reason = get_job(failing, stuck)["reason"]
    assert (reason["code"], reason["action_by"]) == ("run_not_reconciled", "admin")
    assert get_job(failing, waiting)["state"] == "starting"


def test_endpoint_shows_that_the_model_server_cannot_start(
    ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(ready, "first")
    create(ready, 1)

    def refuse(_apps: object) -> None:
        raise UnavailableError("Ray does not start")

    monkeypatch.setattr(ready.serving, "apply", refuse)
    with pytest.raises(UnavailableError):
        ready.rollouts.step()
    reason = get_endpoint(ready)["reason"]
    assert (reason["code"], reason["action_by"]) == ("serving_unavailable", "admin")
    monkeypatch.undo()
    ready.rollouts.step()
    ready.rollouts.step()
    assert (get_endpoint(ready)["state"], get_endpoint(ready)["reason"]) == ("ready", None)


def test_rollout_timeout_excludes_server_downtime(ready: ControlPlaneHarness) -> None:
    train(ready, "first")
    create(ready, 1)
    ready.serving.initial_state = AppState.DEPLOYING
    ready.rollouts.step()
    ready.clock.advance(3600)
    ready.restart_rollouts()
    ready.rollouts.step()
    assert get_endpoint(ready)["state"] == "rolling-out"
    ready.clock.advance(301)
    ready.rollouts.step()
    assert get_endpoint(ready)["state"] == "failed"


def test_updating_with_the_same_spec_retries_a_failed_rollout(ready: ControlPlaneHarness) -> None:
    train(ready, "first")
    create(ready, 1)
    ready.prober.error = "status 500"
    ready.rollouts.step()
    ready.rollouts.step()
    assert get_endpoint(ready)["state"] == "failed"
    ready.prober.error = ""
    update(ready, traffic(1))
    ready.rollouts.step()
    ready.rollouts.step()
    assert get_endpoint(ready)["state"] == "ready"


def test_lost_attempt_is_fenced_at_its_next_heartbeat(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    assert run.post("attempts/1:lost").status_code == 204
    heartbeat = run.report(1)
    assert (heartbeat.status_code, heartbeat.json()["code"]) == (409, "fenced")
    assert run.report(1, {"type": "log", "text": "late line"}).status_code == 200


def test_attempt_may_send_heartbeats_after_its_result(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    run.finish(1)
    assert run.report(1).status_code == 200


def test_stream_ends_after_job_and_run_have_ended(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1", deploy={"endpoint": "live"})
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    run.finish(1)
    url = f"/v1/projects/ours/jobs/{job['id']}"
    assert get_job(ready, job)["state"] == "succeeded"
    assert ready.client.get(f"{url}/logs").headers["windlass-log-end"] == "false"
    run.post("deploy")
    ready.pipelines.end(run.name, BackendState.SUCCEEDED)
    ready.run_worker_once()
    assert ready.client.get(f"{url}/logs").headers["windlass-log-end"] == "true"
    stream = ready.client.get(f"{url}/events", headers={"Accept": "text/event-stream"}).text
    assert stream.index("deploy_requested") < stream.index("event: end")
