"""Lists longer than a statement allows, errors of constraints, orders, and values that databases treat differently."""

import math
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import StatementError
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.artifacts import Manifest
from windlass.domain.cluster_sync import ChangeState, QuotaChange
from windlass.domain.errors import ConflictError
from windlass.domain.projects import Member, Role
from windlass.domain.records import Checkpoint


def test_a_list_may_have_more_values_than_a_statement_binds(tmp_path: Path, database_kind: str) -> None:
    """SQLite binds 32,766 values, PostgreSQL 65,535."""
    harness = ControlPlaneHarness(tmp_path)
    names = [f"p{number}" for number in range(3)]
    for name in names:
        harness.create_project(name)
    with harness.database.read() as uow:
        if database_kind == "sqlite":  # builds of SQLite raise the limit
            uow.projects._connection._connection.connection.driver_connection.setlimit(  # type: ignore[attr-defined]  # private attribute
                sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766
            )
        listed = uow.projects.all({"name": [*names, *(f"missing{number}" for number in range(70_000))]})
    assert sorted(project.name for project in listed) == names
    harness.close()


def test_only_a_taken_key_is_reported_as_a_conflict(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path)
    uid = harness.create_project("ours")
    with pytest.raises(ConflictError, match="exists already"), harness.database.write() as uow:
        uow.project(uid).members.add(Member(project=uid, name="admin", role=Role.ADMIN))
    with pytest.raises(ConflictError, match="conflicts with stored data"), harness.database.write() as uow:
        uow.project("prj_none").members.add(Member(project="prj_none", name="admin", role=Role.ADMIN))
    harness.close()


def test_names_are_listed_in_the_order_of_their_code_points(tmp_path: Path) -> None:
    """The locale of the PostgreSQL server of the tests sorts upper and lower case together."""
    harness = ControlPlaneHarness(tmp_path)
    names = ["Bob", "Zoe", "admin", "ann", "ann-b", "ann.a", "ann_a", "bob"]
    uid = harness.create_project("ours")
    with harness.database.write() as uow:
        for name in reversed(names):
            if name != "admin":  # its admin already
                uow.project(uid).members.add(Member(project=uid, name=name, role=Role.VIEWER))
    listed, cursor = [], None
    while True:
        query = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = harness.client.get("/v1/projects/ours/members", params=query).json()
        listed += [member["name"] for member in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert listed == sorted(names)
    with harness.database.read() as uow:
        assert [member.name for member in uow.project(uid).members.all()] == sorted(names)
    harness.close()


def test_none_is_stored_as_null(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path)
    harness.create_project("ours")
    harness.create_base_model()
    harness.create_dataset("ours")
    job = harness.submit("ours", key="one")
    with harness.database.read() as uow:
        query = text("SELECT reason IS NULL FROM job WHERE id = :id")
        assert uow.projects._connection._connection.scalar(query, {"id": job["id"]})  # type: ignore[attr-defined]  # private attribute
        assert uow.all_projects().jobs.get({"id": job["id"]}).reason is None
    harness.close()


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_no_database_stores_a_number_that_json_does_not_have(tmp_path: Path, number: float) -> None:
    harness = ControlPlaneHarness(tmp_path)
    project = harness.create_project("ours")
    manifest, metrics = Manifest(files={}), {"loss": number}
    checkpoint = Checkpoint(
        project=project, job="j", attempt=1, step=1, manifest=manifest, metrics=metrics, created_at=harness.clock.now()
    )
    errors = (StatementError, ValueError)  # SQLAlchemy encodes for SQLite, the driver for PostgreSQL
    with pytest.raises(errors, match="not JSON compliant"), harness.database.write() as uow:
        uow.project(project).checkpoints.add(checkpoint)
    harness.close()


def test_quota_changes_are_applied_in_the_order_of_acceptance_whatever_the_clock(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path)
    uid = harness.create_project("ours")
    for key in ("qch_2", "qch_9", "qch_1"):  # ids begin with the time; the clock is set back between the requests
        harness.clock.advance(-3600)
        change = QuotaChange(
            id=key, project=uid, name="ours", pool="local", spec=None, created_by="ann", created_at=harness.clock.now()
        )
        with harness.database.write() as uow:
            uow.project(uid).quota_changes.add(change)
    with harness.database.write() as uow:
        changes = uow.all_projects().quota_changes
        pending = changes.all({"state": ChangeState.PENDING})
        assert [change.id for change in pending] == ["qch_2", "qch_9", "qch_1"]
        update = {"state": ChangeState.APPLIED, "ended_at": harness.clock.now()}
        applied = changes.save(pending[-1].model_copy(update=update))
        changes.delete_older({"ended_at": harness.clock.now() + timedelta(1)}, 10)
        uow.project(uid).quota_changes.add(applied.model_copy(update={"id": "qch_0", "sequence": None}))
        assert (changes.get({"id": "qch_0"}).sequence or 0) > (applied.sequence or 0), "a number is not used again"
    harness.close()
