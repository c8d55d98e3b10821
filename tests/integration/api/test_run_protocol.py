"""The internal API of a run: fencing by heartbeat, tokens that end, reports that cannot be stored, the job's log."""

import re
from threading import Thread
from typing import Any

import pytest
from fastapi.routing import APIRoute
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun
from tests.integration.api.test_spooled_reports import codes, full_store

from windlass.ports import BackendState
from windlass.storage.local import LocalObjectStore
from windlass_api.routers.internal import router

pytestmark = pytest.mark.database("sqlite", "postgresql")

NOW = "2026-01-01T12:00:00Z"


def step_log(sequence: int, text: str) -> dict[str, Any]:
    return {"producer": "0123456789abcdef", "sequence": sequence, "items": [{"text": text, "time": NOW}]}


def log(harness: ControlPlaneHarness, job: dict[str, Any]) -> str:
    return harness.client.get(f"/v1/projects/ours/jobs/{job['id']}/logs").text


def test_a_second_trainer_is_refused_until_the_heartbeats_of_the_first_stop(
    ready: ControlPlaneHarness, run: SimulatedRun
) -> None:
    ready.clock.advance(20)
    assert run.report(1).status_code == 200
    ready.clock.advance(29)
    refused = run.acquire_attempt("second")
    assert (refused.status_code, refused.json()["code"]) == (409, "attempt_active")
    assert run.acquire_attempt("first").json()["attempt"] == 1
    ready.clock.advance(2)
    assert run.acquire_attempt("second").json()["attempt"] == 2
    fenced = run.report(1, {"type": "metric", "name": "train_loss", "step": 1, "value": 1.0})
    assert (fenced.status_code, fenced.json()["code"]) == (409, "fenced")


def test_a_run_token_ends_a_minute_after_its_run_on_every_route(ready: ControlPlaneHarness, run: SimulatedRun) -> None:
    ready.pipelines.end(run.name, BackendState.FAILED, "it failed")
    ready.run_worker_once()
    ready.clock.advance(59)
    assert run.client.get(f"/internal/v1/runs/{run.run}").status_code == 200
    ready.clock.advance(1)
    paths = [
        (method, re.sub(r"{(\w+)}", lambda match: {"run": run.run, "step": "train"}.get(match[1], "1"), route.path))
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    ]
    assert len(paths) >= 8
    for method, path in paths:
        reply = run.client.request(method, path, json={})
        assert (path, reply.status_code, reply.json()["code"]) == (path, 401, "unauthenticated")


def test_the_log_of_an_ended_run_accepts_no_step_output(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    step = step_log(1, "before\n")
    assert run.post("steps/train/logs", step).status_code == 204
    ready.pipelines.end(run.name, BackendState.FAILED, "it failed")
    ready.run_worker_once()
    forged = run.post("steps/train/logs", step_log(2, "after\n"))
    assert (forged.status_code, forged.json()["code"]) == (409, "fenced")
    assert "before" in log(ready, job)
    assert "after" not in log(ready, job)


@pytest.mark.parametrize(
    "item",
    [
        '{"type":"metric","name":"train_loss","step":1,"value":NaN,"time":"2026-01-01T12:00:00Z"}',
        '{"type":"metric","name":"train_loss","step":1,"value":1e999,"time":"2026-01-01T12:00:00Z"}',
        '{"type":"metric","name":"train_loss","step":1,"value":1,"time":"2026-01-01T12:00:00"}',
        '{"type":"metric","name":"train_loss","step":1,"value":1,"time":"0001-01-01T00:00:00+14:00"}',
        '{"type":"log","text":"","time":"2026-01-01T12:00:00Z"}',
        '{"type":"log","text":"\\ud800","time":"2026-01-01T12:00:00Z"}',
        '{"type":"event","code":"x","message":"\\u0000","time":"2026-01-01T12:00:00Z"}',
        '{"type":"event","code":"x","message":"","context":{"a":[{"b":NaN}]},"time":"2026-01-01T12:00:00Z"}',
        '{"type":"event","code":"x","message":"","context":{"\\ud800":1},"time":"2026-01-01T12:00:00Z"}',
        '{"type":"result","outcome":"failed","trained_seconds":1e999,"time":"2026-01-01T12:00:00Z"}',
        '{"type":"result","outcome":"failed","evaluation":{"loss":-Infinity},"time":"2026-01-01T12:00:00Z"}',
    ],
)
def test_a_report_that_cannot_be_stored_is_invalid_and_blocks_nothing(run: SimulatedRun, item: str) -> None:
    url = f"/internal/v1/runs/{run.run}/attempts/1/reports"
    body = f'{{"source":"rank0","sequence":1,"items":[{item}]}}'
    reply = run.client.post(url, content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid")
    assert run.report(1, {"type": "log", "text": "next"}).status_code == 200


def test_a_number_of_steps_that_no_column_can_hold_is_ignored(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    started = {"type": "event", "code": "training_started", "message": "", "context": {"steps": 10**30}}
    assert run.report(1, started).status_code == 200
    assert ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()["progress"] is None


def test_the_log_of_a_job_is_one_object(ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun) -> None:
    for number in range(5):
        items = [{"type": "log", "text": text} for text in (f"line {number}", "and")]
        assert run.report(1, *items).status_code == 200
    assert run.post("steps/train/logs", step_log(1, "step\n")).status_code == 204
    [key] = [key for key in ready.store.keys("projects") if job["id"] in key]
    assert key.endswith(f"/jobs/{job['id']}/log")
    assert [line.rsplit(" ", 1)[1] for line in log(ready, job).splitlines()] == [
        *[word for number in range(5) for word in (str(number), "and")],
        "step",
    ]


def test_text_of_a_report_that_was_not_committed_is_never_read(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    run.report(1, {"type": "log", "text": "one"})
    [key] = [key for key in ready.store.keys("projects") if key.endswith(f"{job['id']}/log")]
    ready.store.extend(key, b"text whose transaction failed\n")
    run.report(1, {"type": "log", "text": "two"})
    assert [line.rsplit(" ", 1)[1] for line in log(ready, job).splitlines()] == ["one", "two"]


def test_a_repeated_report_adds_no_text(ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun) -> None:
    for _ in range(2):
        run.sequence = 0
        assert run.report(1, {"type": "log", "text": "once"}).status_code == 200
    assert log(ready, job).count("once") == 1
    [key] = [key for key in ready.store.keys("projects") if key.endswith(f"{job['id']}/log")]
    assert ready.store.size(key) == len(log(ready, job))


def test_no_transaction_waits_for_the_object_store(
    ready: ControlPlaneHarness, run: SimulatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    extend, statuses = LocalObjectStore.extend, []

    def extend_slowly(self: LocalObjectStore, key: str, data: bytes) -> tuple[str, int]:
        def write() -> None:
            statuses.append(ready.client.put("/v1/projects/ours/members/bob", json={"role": "viewer"}).status_code)

        writer = Thread(target=write)
        writer.start()
        writer.join(10)
        return extend(self, key, data)

    monkeypatch.setattr(LocalObjectStore, "extend", extend_slowly)
    assert run.report(1, {"type": "log", "text": "line"}).status_code == 200
    assert run.post("steps/train/logs", step_log(1, "step\n")).status_code == 204
    assert statuses == [200, 200], "other writes commit while log text is stored"


def test_a_full_disk_costs_log_text_and_nothing_else(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = {"type": "metric", "name": "train_loss", "step": 1, "value": 1.0}
    with full_store(monkeypatch):
        for step in (1, 2, 3):
            reply = run.report(1, {"type": "log", "text": "lost"}, {**metric, "step": step})
            assert reply.status_code == 200
        chunk = step_log(1, "lost\n")
        assert run.post("steps/train/logs", chunk).status_code == 204
    assert run.report(1, {"type": "log", "text": "kept"}).status_code == 200
    assert codes(ready, job).count("log_dropped") == 1, "one event for one gap"
    assert "lost" not in log(ready, job)
    assert "kept" in log(ready, job)
    with ready.database.read() as uow:
        assert uow.all_projects().jobs.get({"id": job["id"]}).steps_done == 3
