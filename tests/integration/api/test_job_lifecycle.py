"""Jobs from submission to a registered version, through real routes, services and SQLite."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun

from windlass.domain.projects import PlatformRole, Principal
from windlass.ports import BackendState
from windlass.services.base import Caller
from windlass.services.jobs import Jobs
from windlass_api.streams import StreamCursor

pytestmark = pytest.mark.database("sqlite", "postgresql")


def test_job_runs_from_submission_to_a_registered_candidate(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="k1", evaluation={"gates": ["accuracy >= 0.8"]})
    assert job["state"] == "queued"
    ready.run_worker_once(2)
    assert ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()["state"] == "starting"
    run = ready.simulated_run(job)
    assert run.acquire_attempt().json()["attempt"] == 1
    started = {"type": "event", "code": "training_started", "message": "go", "context": {"steps": 10, "attempt": 7}}
    loss = {"type": "metric", "name": "train_loss", "step": 5, "value": 0.5}
    assert run.report(1, started, loss, {"type": "log", "text": "hello"}).json()["command"] == "continue"
    shown = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()
    assert (shown["state"], shown["progress"]) == ("running", 0.5)
    warning = {"code": "rows_truncated", "message": "3 rows truncated to 8 tokens", "context": {"rows": 3}}
    registered = run.finish(1, warnings=[warning]).json()
    assert (registered["decision"], registered["number"]) == ("candidate", 1)
    ready.pipelines.end(run.name, BackendState.SUCCEEDED)
    ready.run_worker_once()
    done = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()
    assert (done["state"], done["model_version"], done["warnings"]) == ("succeeded", 1, [warning])
    version = ready.client.get("/v1/projects/ours/models/classifier/versions/1").json()
    assert (version["decision"], version["warnings"]) == ("candidate", [warning])
    assert {edge["relation"] for edge in version["lineage"]} >= {"produced-by", "trained-on", "tuned-from"}
    log = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/logs")
    assert log.text.endswith("attempt 1 rank0 | hello\n")
    assert log.headers["windlass-log-end"] == "true"


def test_a_submitted_run_has_an_event_with_its_page(ready: ControlPlaneHarness) -> None:
    ready.page_url = "https://pipelines.example.com/#/runs/details/{}"
    job = ready.submit("ours", key="k1")
    ready.run_worker_once(2)
    events = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/events").json()["items"]
    [event] = [event for event in events if event["code"] == "run_page"]
    url = ready.page_url.format(ready.simulated_run(job).name)
    assert event["context"] == {"run": 1, "url": url}
    assert url in event["message"]


def test_list_of_model_versions_contains_no_large_part_of_an_evaluation(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="k1")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    evaluation = {"accuracy": 0.9, "confusion": [[1, 2], [3, 4]], "labels": {"a": {"f1": 0.5}}}
    assert run.finish(1, evaluation).status_code == 200
    url = "/v1/projects/ours/models/classifier/versions"
    listed = ready.client.get(url).json()["items"][0]
    assert (listed["evaluation"], listed["lineage"]) == ({"accuracy": 0.9}, [])
    assert ready.client.get(f"{url}/1").json()["evaluation"] == evaluation


def test_job_is_the_audit_actor_of_its_registration_and_deployment(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="k1", deploy={"endpoint": "tickets"})
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    assert run.finish(1).status_code == 200
    for path in ("register", "deploy", "deploy"):
        assert run.post(path).status_code == 200
    ready.run_worker_once()
    rows = ready.client.get("/v1/audit").json()["items"]
    assert sorted(row["action"] for row in rows if row["actor"] == job["id"]) == [
        "endpoint.deploy",
        "model-version.create",
    ]


def test_version_that_fails_its_gate_is_rejected_and_cannot_have_an_alias(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="k1", evaluation={"gates": ["accuracy >= 0.95"]})
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    assert run.finish(1).json()["decision"] == "rejected"
    rejected = ready.client.put("/v1/projects/ours/models/classifier/aliases/champion", json={"version": 1})
    assert rejected.status_code == 422
    assert "accuracy >= 0.95" in rejected.json()["detail"]


def test_idempotency_key_returns_the_same_job_and_rejects_another_body(ready: ControlPlaneHarness) -> None:
    first, second = ready.submit("ours", key="k1"), ready.submit("ours", key="k1")
    assert first["id"] == second["id"]
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "other"}
    reply = ready.client.post("/v1/projects/ours/jobs", json={"spec": spec}, headers={"Idempotency-Key": "k1"})
    assert (reply.status_code, reply.json()["code"]) == (422, "idempotency_mismatch")
    assert len(ready.client.get("/v1/projects/ours/jobs").json()["items"]) == 1


def test_lost_run_is_replaced_by_a_run_that_resumes_from_the_checkpoint(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="k1")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    for step in (1, 2, 3):
        run.report(1, {"type": "metric", "name": "train_loss", "step": step, "value": 1.0})
    run.report(1, {"type": "checkpoint", "step": 2, "manifest": {"files": {}}})
    ready.pipelines.end(run.name, BackendState.LOST, "gone")
    ready.run_worker_once(2)
    second = ready.simulated_run(job)
    assert second.run != run.run
    reply = second.acquire_attempt("t2").json()
    assert (reply["attempt"], reply["resume"]["step"]) == (2, 2)
    series = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/metrics").json()["series"]
    assert series[0]["steps"] == [1, 2]
    late_report = run.report(1, {"type": "metric", "name": "train_loss", "step": 9, "value": 1.0})
    assert (late_report.status_code, late_report.json()["code"]) == (409, "fenced")


def test_only_lost_runs_without_a_new_checkpoint_fail_a_job(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="k1")
    states = []
    for number in range(1, 13):
        ready.run_worker_once(2)
        run = ready.simulated_run(job)
        attempt = run.acquire_attempt(f"t{number}").json()["attempt"]
        if number <= 8:
            run.report(attempt, {"type": "checkpoint", "step": number, "manifest": {"files": {}}})
        ready.pipelines.end(run.name, BackendState.LOST, "gone")
        ready.jobs.poll()
        shown = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()
        states.append(shown["state"])
    assert states == ["queued"] * 11 + ["failed"]
    assert shown["reason"]["message"] == "5 runs of the job were lost: gone"


def test_result_of_a_run_that_was_lost_before_the_registration_is_registered_by_the_next_run(
    ready: ControlPlaneHarness,
) -> None:
    job = ready.submit("ours", key="k1")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    assert run.report_success(1).status_code == 200
    ready.pipelines.end(run.name, BackendState.LOST, "gone")
    ready.run_worker_once(2)
    second = ready.simulated_run(job)
    assert second.run != run.run
    assert second.get().json()["result"]["outcome"] == "succeeded"
    refused = second.acquire_attempt("t2")
    assert (refused.status_code, refused.json()["code"]) == (409, "fenced"), "nothing is trained again"
    assert second.post("register").json()["number"] == 1
    shown = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()
    assert (shown["state"], [attempt["number"] for attempt in shown["attempts"]]) == ("succeeded", [1])


def test_failed_result_of_an_earlier_run_is_not_registered(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="k1")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    run.report(1, {"type": "result", "outcome": "stopped", "trained_seconds": 1.0})
    ready.pipelines.end(run.name, BackendState.STOPPED, "gone")
    ready.run_worker_once(2)
    second = ready.simulated_run(job)
    assert second.get().json()["result"] is None
    assert second.acquire_attempt("t2").json()["attempt"] == 2


class StreamReader:
    """Reads a job's stream step by step."""

    def __init__(self, harness: ControlPlaneHarness, job: str) -> None:
        with harness.database.read() as uow:
            project = uow.projects.get({"name": "ours"}).id
        caller = Caller(Principal(user="admin", credential="test", platform_role=PlatformRole.ADMIN))
        self.jobs, self.job, self.cursor = Jobs(harness.deps, caller, project), job, StreamCursor(0)

    def read(self) -> list[tuple[str, int, float]]:
        """Return the new metric points."""
        update = self.jobs.poll_updates(self.job, self.cursor.sequence, self.cursor.metrics)
        bodies = [
            json.loads(frame.partition("data: ")[2])
            for frame in self.cursor.advance("ours", update)
            if frame.startswith("event: metric")
        ]
        return [(body["name"], body["step"], body["value"]) for body in bodies]


def test_stream_sends_each_metric_once_and_the_repeated_steps_of_a_resumed_attempt(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="k1")
    ready.run_worker_once(2)
    run, reader = ready.simulated_run(job), StreamReader(ready, job["id"])
    run.acquire_attempt()

    def report_metric(run: SimulatedRun, attempt: int, name: str, step: int, value: float) -> None:
        run.report(attempt, {"type": "metric", "name": name, "step": step, "value": value})

    for step in (1, 2, 3):
        report_metric(run, 1, "loss", step, 1.0)
    assert reader.read() == [("loss", 1, 1.0), ("loss", 2, 1.0), ("loss", 3, 1.0)]
    report_metric(run, 1, "eval_loss", 3, 1.0)
    report_metric(run, 1, "loss", 4, 1.0)
    assert reader.read() == [("eval_loss", 3, 1.0), ("loss", 4, 1.0)]
    assert reader.read() == []
    run.report(1, {"type": "checkpoint", "step": 2, "manifest": {"files": {}}})
    ready.pipelines.end(run.name, BackendState.LOST, "gone")
    ready.run_worker_once(2)
    second = ready.simulated_run(job)
    assert second.acquire_attempt("t2").json()["resume"]["step"] == 2
    for step in (3, 4, 5):
        report_metric(second, 2, "loss", step, 2.0)
    assert reader.read() == [("loss", 3, 2.0), ("loss", 4, 2.0), ("loss", 5, 2.0)]
    assert reader.read() == []


def test_cancelled_job_ends_when_its_run_has_ended(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="k1")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    assert ready.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel").json()["state"] == "cancelling"
    assert run.report(1).json()["command"] == "cancel"
    ready.pipelines.end(run.name, BackendState.SUCCEEDED)
    ready.run_worker_once()
    assert ready.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel").json()["state"] == "cancelled"


def test_a_cancel_before_the_registration_leaves_no_version(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="k1", deploy={"endpoint": "reviews"})
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    assert run.report_success(1).status_code == 200
    assert ready.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel").json()["state"] == "cancelling"
    reply = run.post("register")
    assert (reply.status_code, reply.json()["code"]) == (409, "fenced")
    ready.pipelines.end(run.name, BackendState.STOPPED)
    ready.run_worker_once()
    assert outcome(ready, job) == ("cancelled", [], 0)
    assert ready.client.get("/v1/projects/ours/endpoints").json()["items"] == []


@pytest.mark.parametrize("point", ["register.before_commit", "register.committed"])
def test_a_cancel_while_the_registration_commits_has_one_outcome(
    ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The cancel comes from another thread: before the commit it waits for it, or makes the database repeat it."""
    job = ready.submit("ours", key="k1")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    assert run.report_success(1).status_code == 200
    with ThreadPoolExecutor(1) as other:
        cancels: list[Future[Any]] = []

        def cancel(name: str) -> None:
            if name == point and not cancels:
                cancels.append(other.submit(ready.client.post, f"/v1/projects/ours/jobs/{job['id']}:cancel"))

        monkeypatch.setattr("windlass.kit.failpoints._handler", cancel)
        registered = run.post("register").status_code
        cancelled = cancels[0].result().status_code
    ready.pipelines.end(run.name, BackendState.STOPPED if cancelled == 200 else BackendState.SUCCEEDED)
    ready.run_worker_once()
    assert (cancelled, registered, outcome(ready, job)) in [
        (200, 409, ("cancelled", [], 0)),
        (409, 200, ("succeeded", [1], 0)),
    ]
    assert point == "register.before_commit" or registered == 200


def outcome(harness: ControlPlaneHarness, job: dict[str, Any]) -> tuple[str, list[int], int]:
    """Return the state of a job, the numbers of its model's versions and the GPUs in use."""
    state = harness.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()["state"]
    versions = harness.client.get("/v1/projects/ours/models/classifier/versions").json().get("items", [])
    in_use = harness.client.get("/v1/pools/local").json()["in_use"]
    return state, [version["number"] for version in versions], in_use


def test_borrowed_gpus_are_reclaimed_and_the_preempted_job_resumes(harness: ControlPlaneHarness) -> None:
    harness.create_base_model()
    for name in ("ours", "theirs"):
        harness.create_project(name, gpus=1, cohort="lab")
        harness.create_dataset(name)
    first, second = harness.submit("ours", key="1"), harness.submit("ours", key="2")
    harness.run_worker_once(2)
    runs = [harness.simulated_run(job) for job in (first, second)]
    for number, run in enumerate(runs):
        assert run.acquire_attempt(f"t{number}").status_code == 200
    quotas = {quota["project"]: quota for quota in harness.client.get("/v1/quotas").json()["items"]}
    assert quotas["ours"]["borrowed_from"] == {"theirs": 1}
    owner = harness.submit("theirs", key="3")
    harness.run_worker_once(2)
    commands = [run.report(1).json()["command"] for run in runs]
    assert sorted(commands) == ["continue", "preempt"]
    preempted = commands.index("preempt")
    harness.pipelines.end(runs[preempted].name, BackendState.SUCCEEDED)
    harness.run_worker_once(2)
    assert harness.client.get(f"/v1/projects/theirs/jobs/{owner['id']}").json()["state"] == "starting"
    waiting = harness.client.get(f"/v1/projects/ours/jobs/{(first, second)[preempted]['id']}").json()
    assert waiting["state"] == "queued"
    assert waiting["reason"]["code"] == "waiting_for_quota"
    run = harness.simulated_run(owner)
    run.acquire_attempt("t9")
    run.finish(1)
    harness.pipelines.end(run.name, BackendState.SUCCEEDED)
    harness.run_worker_once(2)
    again = harness.simulated_run((first, second)[preempted])
    assert again.acquire_attempt("t10").json()["attempt"] == 2
