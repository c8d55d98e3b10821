"""A job's way from the wire to a registered version, through real routes, services and SQLite."""

import json

from tests.fakes.house import House, RunClient

from windlass.domain.projects import Principal
from windlass.ports import BackendState
from windlass.services.backing import Caller
from windlass.services.jobs import Jobs
from windlass_api.streams import Told


def test_a_job_goes_from_accepted_to_a_registered_candidate(ready: House) -> None:
    job = ready.submit("ours", key="k1", evaluation={"gates": ["accuracy >= 0.8"]})
    assert job["state"] == "accepted"
    ready.turn(2)
    assert ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()["state"] == "starting"
    run = ready.run_of(job)
    assert run.claim().json()["attempt"] == 1
    started = {"type": "event", "code": "training_started", "message": "go", "facts": {"steps": 10, "attempt": 7}}
    loss = {"type": "metric", "name": "train_loss", "step": 5, "value": 0.5}
    assert run.report(1, started, loss, {"type": "log", "text": "hello"}).json()["command"] == "continue"
    shown = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()
    assert (shown["state"], shown["progress"]) == ("running", 0.5)
    registered = run.finish(1).json()
    assert (registered["decision"], registered["number"]) == ("candidate", 1)
    ready.pipelines.end(run.name, BackendState.SUCCEEDED)
    ready.turn()
    done = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()
    assert (done["state"], done["model_version"]) == ("succeeded", 1)
    version = ready.client.get("/v1/projects/ours/models/classifier/versions/1").json()
    assert version["decision"] == "candidate"
    assert {edge["relation"] for edge in version["lineage"]} >= {"produced-by", "trained-on", "tuned-from"}
    log = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/logs")
    assert log.text.endswith("attempt 1 rank0 | hello\n")
    assert log.headers["windlass-log-end"] == "true"


def test_what_a_job_makes_is_audited_as_its_own_doing(ready: House) -> None:
    job = ready.submit("ours", key="k1", deploy={"endpoint": "tickets"})
    ready.turn(2)
    run = ready.run_of(job)
    run.claim()
    assert run.finish(1).status_code == 200
    for path in ("register", "deploy", "deploy"):
        assert run.post(path).status_code == 200
    ready.turn()
    rows = ready.client.get("/v1/audit").json()["items"]
    assert sorted(row["action"] for row in rows if row["actor"] == job["id"]) == [
        "endpoint.deploy",
        "model-version.create",
    ]


def test_a_result_below_its_gate_is_kept_as_rejected_and_takes_no_alias(ready: House) -> None:
    job = ready.submit("ours", key="k1", evaluation={"gates": ["accuracy >= 0.95"]})
    ready.turn(2)
    run = ready.run_of(job)
    run.claim()
    assert run.finish(1).json()["decision"] == "rejected"
    refused = ready.client.put("/v1/projects/ours/models/classifier/aliases/champion", json={"version": 1})
    assert refused.status_code == 422
    assert "accuracy >= 0.95" in refused.json()["detail"]


def test_the_same_key_gives_the_same_job_and_another_body_is_refused(ready: House) -> None:
    first, second = ready.submit("ours", key="k1"), ready.submit("ours", key="k1")
    assert first["id"] == second["id"]
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "other"}
    reply = ready.client.post("/v1/projects/ours/jobs", json={"spec": spec}, headers={"Idempotency-Key": "k1"})
    assert (reply.status_code, reply.json()["code"]) == (422, "idempotency_mismatch")
    assert len(ready.client.get("/v1/projects/ours/jobs").json()["items"]) == 1


def test_a_lost_run_is_followed_by_another_that_resumes_from_the_checkpoint(ready: House) -> None:
    job = ready.submit("ours", key="k1")
    ready.turn(2)
    run = ready.run_of(job)
    run.claim()
    prefix = ready.pipelines.contexts[run.name].checkpoint_prefix
    for step in (1, 2, 3):
        run.report(1, {"type": "metric", "name": "train_loss", "step": step, "value": 1.0})
    run.report(1, {"type": "checkpoint", "step": 2, "prefix": f"{prefix}/1/2", "manifest": {"files": {}}})
    ready.pipelines.end(run.name, BackendState.LOST, "gone")
    ready.turn(2)
    second = ready.run_of(job)
    assert second.run != run.run
    reply = second.claim("t2").json()
    assert (reply["attempt"], reply["resume"]["step"]) == (2, 2)
    series = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/metrics").json()["series"]
    assert series[0]["steps"] == [1, 2]
    stale = run.report(1, {"type": "metric", "name": "train_loss", "step": 9, "value": 1.0})
    assert (stale.status_code, stale.json()["code"]) == (409, "fenced")


class Follower:
    """Somebody who follows a job's stream, look by look."""

    def __init__(self, house: House, job: str) -> None:
        with house.database.read() as work:
            project = work.projects.get(name="ours").id
        caller = Caller(Principal(user="admin", key="test", admin=True))
        self.jobs, self.job, self.told = Jobs(house.backing, caller, project), job, Told(0)

    def look(self) -> list[tuple[str, int, float]]:
        """Return the metric points that the next look tells."""
        seen = self.jobs.glance(self.job, self.told.sequence, self.told.metrics)
        bodies = [
            json.loads(frame.partition("data: ")[2])
            for frame in self.told.news("ours", seen)
            if frame.startswith("event: metric")
        ]
        return [(body["name"], body["step"], body["value"]) for body in bodies]


def test_a_follower_is_told_each_point_once_and_what_a_resumed_attempt_tells_again(ready: House) -> None:
    job = ready.submit("ours", key="k1")
    ready.turn(2)
    run, follower = ready.run_of(job), Follower(ready, job["id"])
    run.claim()
    prefix = ready.pipelines.contexts[run.name].checkpoint_prefix

    def say(run: RunClient, attempt: int, name: str, step: int, value: float) -> None:
        run.report(attempt, {"type": "metric", "name": name, "step": step, "value": value})

    for step in (1, 2, 3):
        say(run, 1, "loss", step, 1.0)
    assert follower.look() == [("loss", 1, 1.0), ("loss", 2, 1.0), ("loss", 3, 1.0)]
    say(run, 1, "eval_loss", 3, 1.0)
    say(run, 1, "loss", 4, 1.0)
    assert follower.look() == [("eval_loss", 3, 1.0), ("loss", 4, 1.0)]
    assert follower.look() == []
    run.report(1, {"type": "checkpoint", "step": 2, "prefix": f"{prefix}/1/2", "manifest": {"files": {}}})
    ready.pipelines.end(run.name, BackendState.LOST, "gone")
    ready.turn(2)
    second = ready.run_of(job)
    assert second.claim("t2").json()["resume"]["step"] == 2
    for step in (3, 4, 5):
        say(second, 2, "loss", step, 2.0)
    assert follower.look() == [("loss", 3, 2.0), ("loss", 4, 2.0), ("loss", 5, 2.0)]
    assert follower.look() == []


def test_a_cancelled_job_ends_when_its_run_is_gone(ready: House) -> None:
    job = ready.submit("ours", key="k1")
    ready.turn(2)
    run = ready.run_of(job)
    run.claim()
    assert ready.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel").json()["state"] == "cancelling"
    assert run.report(1).json()["command"] == "cancel"
    ready.pipelines.end(run.name, BackendState.SUCCEEDED)
    ready.turn()
    assert ready.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel").json()["state"] == "cancelled"


def test_borrowed_gpus_are_reclaimed_and_the_job_resumes(house: House) -> None:
    house.base_model()
    for name in ("ours", "theirs"):
        house.project(name, gpus=1, cohort="lab")
        house.dataset(name)
    first, second = house.submit("ours", key="1"), house.submit("ours", key="2")
    house.turn(2)
    runs = [house.run_of(job) for job in (first, second)]
    for number, run in enumerate(runs):
        assert run.claim(f"t{number}").status_code == 200
    lines = {line["project"]: line for line in house.client.get("/v1/quotas").json()["items"]}
    assert lines["ours"]["borrowed_from"] == {"theirs": 1}
    owner = house.submit("theirs", key="3")
    house.turn(2)
    commands = [run.report(1).json()["command"] for run in runs]
    assert sorted(commands) == ["continue", "preempt"]
    preempted = commands.index("preempt")
    house.pipelines.end(runs[preempted].name, BackendState.SUCCEEDED)
    house.turn(2)
    assert house.client.get(f"/v1/projects/theirs/jobs/{owner['id']}").json()["state"] == "starting"
    waiting = house.client.get(f"/v1/projects/ours/jobs/{(first, second)[preempted]['id']}").json()
    assert waiting["state"] == "queued"
    assert waiting["reason"]["code"] == "waiting_for_quota"
    run = house.run_of(owner)
    run.claim("t9")
    run.finish(1)
    house.pipelines.end(run.name, BackendState.SUCCEEDED)
    house.turn(2)
    again = house.run_of((first, second)[preempted])
    assert again.claim("t10").json()["attempt"] == 2
