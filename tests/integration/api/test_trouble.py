"""When something cannot be done: nobody else waits for it, it says why, and nothing that was wished is forgotten."""

from typing import Any

import pytest
from tests.fakes.backends import MemoryPipelines
from tests.fakes.house import House
from tests.integration.api.test_endpoints import change, create, look, traffic, train

from windlass.domain.endpoints import AppState
from windlass.domain.errors import UnavailableError
from windlass.domain.specs import Task
from windlass.ports import BackendRun, BackendState


def shown(house: House, job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = house.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()
    return found


def events(house: House, job: dict[str, Any]) -> list[str]:
    return [one["code"] for one in house.client.get(f"/v1/projects/ours/jobs/{job['id']}/events").json()["items"]]


def registered(house: House, **spec: Any) -> dict[str, Any]:
    """Return a job whose version is registered, and whose run died before its deploy step."""
    job = house.submit("ours", key=str(spec), **spec)
    house.turn(2)
    run = house.run_of(job)
    run.claim(str(spec))
    assert run.finish(1).json()["decision"] == "candidate"
    house.pipelines.end(run.name, BackendState.LOST, "the machine went down")
    house.turn(2)
    return job


def test_a_wished_deployment_survives_the_death_of_the_run_that_would_have_asked_for_it(ready: House) -> None:
    job = registered(ready, deploy={"endpoint": "live"})
    assert look(ready)["spec"]["traffic"] == [{"model": "classifier", "version": 1, "alias": None, "weight": 100}]
    assert events(ready, job).count("deploy_requested") == 1
    assert shown(ready, job)["state"] == "succeeded"


def test_the_deploy_step_asks_for_what_the_worker_wished_already_without_a_second_effect(ready: House) -> None:
    job = registered(ready, deploy={"endpoint": "live"})
    generation = look(ready)["generation"]
    assert ready.run_of(job).post("deploy").status_code == 200
    assert look(ready)["generation"] == generation
    assert events(ready, job).count("deploy_requested") == 1


def test_a_deployment_that_cannot_be_is_said_on_the_job(ready: House) -> None:
    ready.base_model("speaker", task=Task.CHAT)
    train(ready, "first")
    create(ready, 1)
    with ready.database.write() as work:
        everywhere = work.everywhere()
        [endpoint] = everywhere.endpoints.all()
        work.of(endpoint.project).endpoints.save(endpoint.model_copy(update={"task": Task.CHAT}))
    job = registered(ready, deploy={"endpoint": "live"}, model="classifier")
    reason = shown(ready, job)["reason"]
    assert (reason["code"], reason["owner"]) == ("deploy_failed", "you")
    assert "endpoint live serves chat" in reason["message"]
    assert events(ready, job).count("deploy_failed") == 1


def test_a_deployment_changes_the_traffic_of_an_endpoint_and_nothing_else(ready: House) -> None:
    train(ready, "first")
    create(ready, 1, replicas={"min": 2, "max": 8}, max_batch_size=4, stopped=True)
    registered(ready, deploy={"endpoint": "live"})
    spec = look(ready)["spec"]
    assert [target["version"] for target in spec["traffic"]] == [2]
    assert (spec["replicas"]["max"], spec["max_batch_size"], spec["stopped"]) == (8, 4, True)


class Broken(MemoryPipelines):
    """A back end that cannot start, or look after, runs whose names are in ``bad``."""

    bad: set[str]

    def submit(self, context: Any) -> None:
        if context.run_name in self.bad:
            raise UnavailableError("no process can be started")
        super().submit(context)

    def poll(self, run_name: str) -> BackendRun:
        if run_name in self.bad and run_name in self.contexts:
            raise UnavailableError("its process does not end")
        return super().poll(run_name)


@pytest.fixture
def broken(house: House) -> House:
    house.base_model()
    house.project("ours", gpus=2)
    house.dataset("ours")
    house.pipelines.__class__ = Broken
    house.pipelines.bad = set()  # type: ignore[attr-defined]  # the class was changed above
    return house


def bad(house: House) -> set[str]:
    found: set[str] = house.pipelines.bad  # type: ignore[attr-defined]  # see broken
    return found


def test_a_run_that_cannot_be_started_says_why_and_gives_its_gpus_back(broken: House) -> None:
    job = broken.submit("ours", key="1")
    bad(broken).update(f"job-{job['id'].removeprefix('job_')}-r{number}" for number in range(1, 10))
    broken.turn(2)
    reason = shown(broken, job)["reason"]
    assert (shown(broken, job)["state"], reason["code"], reason["owner"]) == ("starting", "start_failed", "admin")
    assert "no process can be started" in reason["message"]
    for _ in range(6):
        broken.clock.forward(61)
        broken.turn()
    assert shown(broken, job)["runs"][0]["state"] == "lost"
    for _ in range(60):
        broken.clock.forward(61)
        broken.turn()
    ended = shown(broken, job)
    assert (ended["state"], ended["reason"]["code"]) == ("failed", "runs_lost")
    assert broken.client.get("/v1/pools/local").json()["in_use"] == 0


def test_a_run_that_cannot_be_looked_after_keeps_no_other_waiting(broken: House) -> None:
    stuck, fine = broken.submit("ours", key="1"), broken.submit("ours", key="2")
    broken.turn(2)
    run = broken.run_of(fine)
    run.claim()
    run.finish(1)
    broken.pipelines.end(run.name, BackendState.SUCCEEDED)
    bad(broken).add(broken.run_of(stuck).name)
    waiting = broken.submit("ours", key="3")
    broken.intents()
    with pytest.raises(UnavailableError):
        broken.worker.runs()
    assert shown(broken, fine)["runs"][0]["state"] == "succeeded"
    reason = shown(broken, stuck)["reason"]
    assert (reason["code"], reason["owner"]) == ("run_stuck", "admin")
    assert shown(broken, waiting)["state"] == "starting"


def test_endpoints_say_that_no_model_server_can_be_started(ready: House, monkeypatch: pytest.MonkeyPatch) -> None:
    train(ready, "first")
    create(ready, 1)

    def refuse(_apps: object) -> None:
        raise UnavailableError("Ray does not start")

    monkeypatch.setattr(ready.serving, "apply", refuse)
    with pytest.raises(UnavailableError):
        ready.rollouts.step()
    reason = look(ready)["reason"]
    assert (reason["code"], reason["owner"]) == ("serving_unavailable", "admin")
    monkeypatch.undo()
    ready.rollouts.step()
    ready.rollouts.step()
    assert (look(ready)["state"], look(ready)["reason"]) == ("ready", None)


def test_a_rollout_is_not_blamed_for_the_time_without_a_server(ready: House) -> None:
    train(ready, "first")
    create(ready, 1)
    ready.serving.newcomers = AppState.DEPLOYING
    ready.rollouts.step()
    ready.clock.forward(3600)
    ready.restart_rollouts()
    ready.rollouts.step()
    assert look(ready)["state"] == "rolling-out"
    ready.clock.forward(301)
    ready.rollouts.step()
    assert look(ready)["state"] == "failed"


def test_the_same_wish_again_tries_a_failed_rollout_again(ready: House) -> None:
    train(ready, "first")
    create(ready, 1)
    ready.complaint = "it answered 500"
    ready.rollouts.step()
    ready.rollouts.step()
    assert look(ready)["state"] == "failed"
    ready.complaint = ""
    change(ready, traffic(1))
    ready.rollouts.step()
    ready.rollouts.step()
    assert look(ready)["state"] == "ready"


def test_a_lost_attempt_hears_at_its_next_heartbeat_that_it_must_leave(ready: House) -> None:
    job = ready.submit("ours", key="1")
    ready.turn(2)
    run = ready.run_of(job)
    run.claim()
    assert run.post("attempts/1:lost", {"trainer": "t1"}).status_code == 204
    silent = run.report(1)
    assert (silent.status_code, silent.json()["code"]) == (409, "fenced")
    assert run.report(1, {"type": "log", "text": "late words"}).status_code == 200


def test_an_attempt_that_told_its_result_may_still_breathe(ready: House) -> None:
    job = ready.submit("ours", key="1")
    ready.turn(2)
    run = ready.run_of(job)
    run.claim()
    run.finish(1)
    assert run.report(1).status_code == 200


def test_a_stream_goes_on_until_the_run_has_ended_too(ready: House) -> None:
    job = ready.submit("ours", key="1", deploy={"endpoint": "live"})
    ready.turn(2)
    run = ready.run_of(job)
    run.claim()
    run.finish(1)
    url = f"/v1/projects/ours/jobs/{job['id']}"
    assert shown(ready, job)["state"] == "succeeded"
    assert ready.client.get(f"{url}/logs").headers["windlass-log-end"] == "false"
    run.post("deploy")
    ready.pipelines.end(run.name, BackendState.SUCCEEDED)
    ready.turn()
    assert ready.client.get(f"{url}/logs").headers["windlass-log-end"] == "true"
    stream = ready.client.get(f"{url}/events", headers={"Accept": "text/event-stream"}).text
    assert stream.index("deploy_requested") < stream.index("event: end")
