"""Every query on a table that grows with use is answered from an index."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import Connection, Engine, event
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.domain.audit import AuditOutcome, ChainLink
from windlass.domain.jobs import JobState
from windlass.domain.usage import Interval
from windlass.ports import BackendState
from windlass.services.audit import AuditQuery, AuditTrail
from windlass.services.usage import Usage
from windlass_api.routers.v1 import audit, datasets, endpoints, jobs, models, platform, projects, usage

pytestmark = pytest.mark.database("sqlite")  # its plans depend on the indexes alone, not on statistics

GROWING = {
    "attempt",
    "audit",
    "checkpoint",
    "dataset_version",
    "endpoint_traffic",
    "event",
    "gpu_reservation",
    "gpu_usage",
    "idempotency_record",
    "job",
    "lineage",
    "log_chunk",
    "metric_chunk",
    "model_version",
    "outbox",
    "queue_time_sample",
    "quota_change",
    "report_cursor",
    "request_usage",
    "run",
    "upload",
}
PARTIAL_INDEXES = {
    *("ix_job_clean_up", "ix_job_history", "ix_job_deleted", "ix_project_deleted"),
    *("ix_gpu_reservation_held", "ix_outbox_leased", "ix_run_active", "ix_audit_unsealed", "ix_audit_denied"),
    *("ix_gpu_reservation_held", "ix_gpu_reservation_unsettled", "ix_outbox_leased", "ix_run_active"),
}
"""Indexes of the few rows that are unfinished, or denied: scanning one is cheap."""
WINDOWS = {"queue_time_sample"}
"""Tables that the ledger reads whole: retention limits them to the samples of a week."""

Statements = dict[str, Any]


@contextmanager
def recorded(engine: Engine) -> Iterator[Statements]:
    """Collect the statements of a block, each with the parameters of one execution."""
    statements: Statements = {}

    def record(_: Connection, __: object, statement: str, parameters: Any, ___: object, many: bool) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            statements.setdefault(statement, parameters[0] if many else parameters)

    event.listen(engine, "before_cursor_execute", record)
    yield statements
    event.remove(engine, "before_cursor_execute", record)


def problems(engine: Engine, statements: Statements) -> list[str]:
    """Return the statements that read all rows of a growing table, or sort them to return a page."""
    found = []
    with engine.connect().execution_options(writes=False) as connection:
        for statement, parameters in statements.items():
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            for step in plan:
                scan = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", step)
                first_page = "WHERE" not in statement and "LIMIT" in statement  # stops after the page, in key order
                if scan and scan[1] in GROWING - WINDOWS and scan[2] not in PARTIAL_INDEXES and not first_page:
                    found.append(f"{step}: {statement}")
            if "LIMIT" in statement and any("TEMP B-TREE FOR ORDER BY" in step for step in plan):
                found.append(f"sorts for a page: {statement}")
    return found


def run_a_job(harness: ControlPlaneHarness, key: str) -> dict[str, Any]:
    """Take a job through a lost run, a resume, a registration and its end."""
    job = harness.submit("ours", key=key)
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt()
    manifest = harness.write_artifact(run.checkpoint(1, 2)).model_dump()
    run.report(
        1,
        {"type": "metric", "name": "train_loss", "step": 1, "value": 0.5},
        {"type": "log", "text": "hello"},
        {"type": "checkpoint", "step": 2, "manifest": manifest},
    )
    harness.pipelines.end(run.name, BackendState.LOST, "gone")
    harness.run_worker_once(2)
    again = harness.simulated_run(job)
    again.acquire_attempt("t2")
    again.finish(2)
    harness.pipelines.end(again.name, BackendState.SUCCEEDED)
    harness.run_worker_once()
    return job


def read_everything(harness: ControlPlaneHarness, job: str) -> None:
    """Call every GET route as an admin and as a member, and every list with its filters."""
    harness.client.put("/v1/projects/ours/members/bob", json={"role": "admin"})
    bob = harness.client_for_user("bob")
    values = {
        "project": "ours",
        "dataset": "reviews",
        "number": "1",
        "split": "train",
        "job": job,
        "model": "classifier",
        "name": "train_loss",
        "month": "2026-11",
    }
    for module in (platform, audit, projects, usage, datasets, jobs, models, endpoints):
        for route in module.router.routes:
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
                path = re.sub(r"{(\w+)}", lambda match: values.get(match[1], "x"), route.path)
                for client in (harness.client, bob):
                    assert client.get(path, params={"limit": 5}).status_code < 500, path
    for state in JobState:
        page = harness.client.get("/v1/projects/ours/jobs", params={"state": state, "limit": 1}).json()
        if cursor := page["next_cursor"]:
            harness.client.get("/v1/projects/ours/jobs", params={"state": state, "cursor": cursor})
    harness.client.get("/v1/projects/ours/jobs", params={"match": "no-id-begins-with-it"})
    with harness.database.read() as uow:
        project = uow.projects.get({"name": "ours"}).id
    trail = AuditTrail(harness.deps, ADMIN)
    for query in (
        AuditQuery(),
        AuditQuery(project=project),
        AuditQuery(actor="admin"),
        AuditQuery(action="job.create"),
        AuditQuery(key="key_test"),
        AuditQuery(request_id="test"),
        AuditQuery(outcome=AuditOutcome.DENIED),
        AuditQuery(since=harness.clock.now(), until=harness.clock.now()),
        AuditQuery(project=project, actor="admin", action="job.create"),
    ):
        trail.page(5, "aud_z", query)
        [*trail.export(query)]
    trail.verify(None, ChainLink())
    Usage(harness.deps, ADMIN, project).page(5, None)
    now = harness.clock.now()
    with harness.database.read() as uow:
        uow.endpoint_traffic.points(project, "texts", Interval(now, now + timedelta(hours=1)), timedelta(minutes=5))


def test_no_query_reads_all_rows_of_a_growing_table(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path)
    harness.retention.audit_retention = timedelta(days=365)
    with recorded(harness.engine) as statements:
        harness.create_project("ours")
        harness.create_base_model()
        harness.create_dataset("ours")
        job, other = run_a_job(harness, "1"), run_a_job(harness, "2")
        waiting = harness.submit("ours", key="3")
        harness.client.post(f"/v1/projects/ours/jobs/{waiting['id']}:cancel")
        read_everything(harness, job["id"])
        harness.rollouts.step()
        harness.processing.poll()
        harness.worker.seal_audit()
        harness.client.put("/v1/projects/ours/budget", json={"gpu_hours": 1, "cost": 0}, headers={"If-Match": '"0"'})
        harness.worker.metering.step()
        harness.delete_expired()
        harness.clock.advance(40 * 24 * 3600)
        harness.worker.metering.step()
        harness.delete_expired()
        assert harness.client.delete("/v1/projects/ours/models/classifier/versions/1").status_code == 200
        harness.client.delete(f"/v1/projects/ours/jobs/{other['id']}")
        etag = harness.client.get("/v1/projects/ours").headers["ETag"]
        assert harness.client.delete("/v1/projects/ours", headers={"If-Match": etag}).status_code == 200
        harness.delete_expired()
    assert len(statements) > 120, "the scenario runs too few queries"
    assert problems(harness.engine, statements) == []
    harness.close()


def test_the_check_finds_a_scan_and_a_sorted_page(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path)
    scan = "SELECT id FROM job WHERE created_by = ?"
    page = "SELECT id FROM run WHERE job = ? ORDER BY created_at LIMIT 5"
    assert len(problems(harness.engine, {scan: ("x",), page: ("x",)})) == 2
    harness.close()
