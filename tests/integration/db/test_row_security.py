"""Row security of PostgreSQL holds where the code of the API fails (docs/adr/0061)."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import ProgrammingError
from sqlmodel import SQLModel
from tests.factories import postgres_server
from tests.factories.databases import new_engine, using
from tests.factories.two_tenants import POOL, THEIRS, TwoTenants, two_tenants
from tests.fakes.harness import ControlPlaneHarness
from tests.integration.api.stored_runs import LOG

from windlass.db.__main__ import upgrade
from windlass.db.engines import postgres_engine
from windlass.db.migrate import head_revision, migrate
from windlass.db.preflight import check_database
from windlass.db.repository import SqlRepository
from windlass.db.row_scope import RowScope, ScopedConnection, Setting
from windlass.db.row_security import GLOBAL_TABLES, TENANT_TABLES, bypass_problem
from windlass.db.session import SqlDatabase
from windlass.domain.checks import CheckState
from windlass.domain.errors import InvalidError, NotFoundError
from windlass.domain.projects import Project, Role
from windlass.ports import BackendState
from windlass.services.data_keys import ProjectKeys
from windlass.storage.master_keys import FileMasterKeys
from windlass_api.app import create_app

pytestmark = pytest.mark.database("postgresql")

SHARED = {"demand", "queue_quota"}
"""Inputs of predictions, which the API reads of all projects."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoTenants]:
    with using("postgresql"), two_tenants(tmp_path_factory.mktemp("platform"), "postgresql") as built:
        yield built


@pytest.fixture
def api(platform: TwoTenants) -> Iterator[Engine]:
    engine = postgres_server.engine_of(platform.owner, postgres_server.API_ROLE, connections=2)
    yield engine
    engine.dispose()


@pytest.fixture
def database(platform: TwoTenants, api: Engine) -> SqlDatabase:
    return SqlDatabase(api, platform.harness.clock)


@pytest.fixture
def without_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a bug: no repository filters by its scope, nor checks it."""

    def create(self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **{**options, "scope": {}})

    original = SqlRepository.__init__
    monkeypatch.setattr(SqlRepository, "__init__", create)


def test_every_table_is_declared() -> None:
    declared = set(TENANT_TABLES) | set(GLOBAL_TABLES)
    assert declared == set(SQLModel.metadata.tables) | {"alembic_version"}


def test_a_table_that_refers_to_a_project_or_a_job_is_one_of_tenants() -> None:
    for name, table in SQLModel.metadata.tables.items():
        if {"project", "job", "dataset", "model"} & {column.name for column in table.columns}:
            assert name in TENANT_TABLES


def test_a_query_without_a_scope_sees_no_row_of_a_tenant(platform: TwoTenants, api: Engine) -> None:
    owned = platform.rows_of(platform.theirs)
    empty = {name for name, rows in owned.items() if not rows} - SHARED
    assert empty <= {"gpu_reservation", "gpu_usage", "outbox", "queue_time_sample", "service_account"}
    with api.connect() as connection:
        for table in TENANT_TABLES.keys() - SHARED:
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0, table  # noqa: S608 - constants


def test_a_scope_shows_the_rows_of_its_project_only(platform: TwoTenants, api: Engine) -> None:
    with api.connect() as connection:
        connection.execute(text("SELECT set_config('windlass.project', :uid, true)"), {"uid": platform.ours.uid})
        for table in TENANT_TABLES.keys() - SHARED:
            rows = [str(row) for row in connection.execute(text(f"TABLE {table}"))]
            assert sorted(rows) == platform.rows_of(platform.ours)[table], table


def test_a_scope_ends_with_its_transaction(platform: TwoTenants, database: SqlDatabase) -> None:
    with database.read() as uow:
        assert uow.project(platform.ours.uid).jobs.all()
    with database.read() as uow:
        assert uow.all_projects().jobs.all() == []


def test_the_memberships_of_groups_show_their_projects_only(platform: TwoTenants, database: SqlDatabase) -> None:
    for groups in (
        [platform.ours.ids["group"]],
        ["none", platform.ours.ids["group"]],
        ["a'b", platform.ours.ids["group"]],
    ):
        with database.read() as uow:
            memberships = uow.memberships("nobody", groups).all()
            assert [member.project for member in memberships] == [platform.ours.uid]
            assert [project.id for project in uow.projects.all()] == [platform.ours.uid]
    with database.read() as uow:
        assert uow.memberships("nobody").all() == []
        assert uow.projects.all() == []


@pytest.mark.usefixtures("without_filter")
def test_a_repository_without_its_filter_reads_no_row_of_another_tenant(
    platform: TwoTenants, database: SqlDatabase
) -> None:
    theirs = platform.theirs.ids
    with database.read() as uow:
        ours = uow.project(platform.ours.uid)
        assert {job.project for job in ours.jobs.all()} == {platform.ours.uid}
        assert ours.jobs.find({"id": theirs["job"]}) is None
        assert ours.datasets.find({"name": theirs["dataset"]}) is None
        assert {member.project for member in ours.members.all()} == {platform.ours.uid}
        assert ours.erasures.find({"id": theirs["erasure"]}) is None
        assert {each.project for each in ours.erasures.all()} == {platform.ours.uid}
        assert {each.project for each in ours.cascade_deletions.all()} == {platform.ours.uid}
        assert {each.project for each in ours.data_keys.all()} == {platform.ours.uid}


@pytest.mark.usefixtures("without_filter")
def test_the_api_without_filters_shows_no_name_of_another_tenant(platform: TwoTenants) -> None:
    client = platform.client(platform.ours.tokens[Role.VIEWER.value])
    for kind in ("jobs", "datasets", "models", "endpoints", "erasures", "members", "usage", "quotas"):
        reply = client.get(f"/v1/projects/{platform.ours.name}/{kind}")
        assert reply.status_code == 200, reply.text
        assert reply.json()["items"]
        assert THEIRS not in reply.text


@pytest.mark.usefixtures("without_filter")
def test_a_repository_without_its_filter_writes_no_row_of_another_tenant(
    platform: TwoTenants, database: SqlDatabase
) -> None:
    before = platform.rows_of(platform.theirs)
    with platform.harness.database.read() as uow:
        everything, ids = uow.all_projects(), platform.theirs.ids
        dataset = everything.datasets.get({"name": ids["dataset"]})
        erasure = everything.erasures.get({"id": ids["erasure"]})
        [deletion] = everything.cascade_deletions.all({"subject": dataset.id})
    with database.write() as uow:
        ours = uow.project(platform.ours.uid)
        assert ours.endpoints.delete({"name": platform.theirs.ids["endpoint"]}) == 0
        with pytest.raises(NotFoundError):
            ours.datasets.save(dataset.model_copy(update={"description": "changed"}))
        with pytest.raises(NotFoundError):
            ours.erasures.save(erasure.model_copy(update={"problem": "changed"}))
        with pytest.raises(NotFoundError):
            ours.cascade_deletions.save(deletion.model_copy(update={"problem": "changed"}))
        assert ours.erasures.delete({"id": erasure.id}) == ours.cascade_deletions.delete({"id": deletion.id}) == 0
    with pytest.raises(ProgrammingError, match="row-level security"), database.write() as uow:
        uow.project(platform.ours.uid).datasets.add(dataset.model_copy(update={"id": "ds_new", "name": "new"}))
    with pytest.raises(ProgrammingError, match="row-level security"), database.write() as uow:
        uow.project(platform.ours.uid).erasures.add(erasure.model_copy(update={"id": "ers_new"}))
    new = deletion.model_copy(update={"id": "del_new", "subject": "ds_new"})
    with pytest.raises(ProgrammingError, match="row-level security"), database.write() as uow:
        uow.project(platform.ours.uid).cascade_deletions.add(new)
    assert platform.rows_of(platform.theirs) == before


def test_the_role_of_the_api_deletes_by_lineage_and_erases_in_its_project_only(platform: TwoTenants) -> None:
    harness, ours = platform.harness, platform.ours
    dataset = f"{ours.name}-letters"
    harness.create_dataset(ours.name, dataset)
    key, resources = f"{ours.name}-lineage", {"pool": POOL}
    job = harness.submit(ours.name, key=key, dataset=dataset, model=f"{ours.name}-letters", resources=resources)
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt()
    assert run.finish(1).status_code == 200
    harness.pipelines.end(run.name, BackendState.SUCCEEDED)
    harness.run_worker_once(2)
    client, base = platform.client(ours.tokens[Role.ADMIN.value]), f"/v1/projects/{ours.name}"
    before = platform.rows_of(platform.theirs)
    started = client.post(f"{base}/datasets/{dataset}:erase", json={"contains": ["text 1"]})
    assert started.status_code == 202, started.text
    assert client.post(f"{base}/erasures/{started.json()['id']}:cancel").status_code == 200
    etag = client.get(f"{base}/datasets/{dataset}").headers["ETag"]
    deleted = client.delete(f"{base}/datasets/{dataset}", params={"cascade": True}, headers={"If-Match": etag})
    assert (deleted.status_code, deleted.json().get("contains")) == (
        200,
        {"model version": 1, "job": 1, "dataset version": 1},
    ), deleted.text
    for path in (f"datasets/{dataset}", f"models/{ours.name}-letters/versions/1", f"jobs/{job['id']}"):
        assert client.get(f"{base}/{path}").status_code == 404
    assert platform.rows_of(platform.theirs) == before


def test_the_role_of_the_api_reads_the_data_key_of_each_project_that_it_serves(
    platform: TwoTenants, database: SqlDatabase, tmp_path: Path
) -> None:
    path = tmp_path / "master-keys"
    path.write_text(f"k1:{base64.b64encode(b'm' * 32).decode()}")
    keys = ProjectKeys(database, FileMasterKeys.read(path), platform.harness.clock)
    with platform.harness.database.write() as uow:
        for name in ("sealed", "clear"):
            uow.projects.add(Project(id=f"prj_{name}", name=name, created_at=platform.harness.clock.now()))
        keys.create(uow, "prj_sealed")
    assert len(keys.data_key("projects/prj_sealed/x") or b"") == 32
    assert keys.data_key("projects/prj_clear/x") is None
    with pytest.raises(NotFoundError):
        keys.data_key("projects/prj_none/x")


def test_the_role_of_the_api_cannot_turn_row_security_off(api: Engine) -> None:
    statements = (
        "ALTER TABLE job DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE job NO FORCE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON job USING (true)",
        f"SET ROLE {postgres_server.WORKER_ROLE}",
        "ALTER ROLE CURRENT_USER BYPASSRLS",
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        "UPDATE project SET name = 'mine'",
        "UPDATE data_key SET wrapped = 'mine'",
        "DELETE FROM data_key",
        "SELECT * FROM admission_sequence",
    )
    for statement in statements:
        with api.connect() as connection, pytest.raises(ProgrammingError):
            connection.execute(text(statement))
    with api.connect() as connection:
        connection.execute(text("SET LOCAL row_security = off"))
        with pytest.raises(ProgrammingError):
            connection.execute(text("SELECT * FROM job"))


def test_the_view_of_cohorts_has_nothing_else_of_a_project(api: Engine) -> None:
    with api.connect() as connection:
        assert set(connection.execute(text("SELECT * FROM project_cohort")).keys()) == {"name", "cohort"}


@pytest.mark.parametrize(
    ("role", "problem"),
    [
        (postgres_server.API_ROLE, ""),
        (postgres_server.WORKER_ROLE, "has the rows of all projects, as the worker"),
        ("postgres", "is a superuser or can become one"),
        ("half", "owns the tables, or is a member of their owner"),
        ("strong", "has BYPASSRLS or can get it"),
    ],
)
def test_a_role_that_row_security_does_not_restrict_is_reported(role: str, problem: str) -> None:
    owner = postgres_server.new_engine(connections=1, migrated=False)
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = 'plain'")) is None:
            for statement in (
                "CREATE ROLE plain LOGIN",
                "CREATE ROLE half LOGIN IN ROLE plain",
                "CREATE ROLE strong LOGIN BYPASSRLS",
            ):
                connection.execute(text(statement))
        connection.execute(text("GRANT ALL ON SCHEMA public TO plain"))
    migrating = postgres_server.engine_of(owner, "plain", connections=1)
    migrate(migrating)
    engine = postgres_server.engine_of(owner, role, connections=1)
    with engine.connect() as connection:
        found = bypass_problem(connection)
    assert problem in found
    assert bool(found) == bool(problem)
    for each in (engine, migrating, owner):
        each.dispose()


@pytest.mark.parametrize(("role", "ok"), [(postgres_server.API_ROLE, True), (postgres_server.WORKER_ROLE, False)])
def test_the_doctor_and_the_readiness_say_whether_the_api_is_restricted(*, role: str, ok: bool, tmp_path: Path) -> None:
    engine = new_engine(tmp_path, connections=1)
    url = postgres_server.postgres_server().url(str(engine.url.database), role)
    [found] = [result for result, _ in check_database(url) if result.check == "row security"]
    assert (found.state is CheckState.OK) == ok
    assert (role in found.result) != ok
    harness = ControlPlaneHarness(tmp_path)
    with harness.engine.connect() as connection:
        problem = "" if ok else bypass_problem(connection)
    app = create_app(replace(harness.app_context, database_problem=problem))
    reply = TestClient(app).get("/readyz")
    assert (reply.status_code, reply.text == "ok") == (200, ok)
    assert role not in reply.text, "anybody may ask"
    harness.close()


def test_a_migration_creates_the_roles_of_the_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres_server.postgres_server().new_database(migrated=False)
    names = {"API": "made_api", "WORKER": "made_worker"}
    monkeypatch.setenv("WINDLASS_DATABASE_URL", url)
    for kind, role in names.items():
        monkeypatch.setenv(f"WINDLASS_DATABASE_{kind}_ROLE", role)
        monkeypatch.setenv(f"WINDLASS_DATABASE_{kind}_URL", f"postgresql+psycopg://{role}:p%25w'd@db/windlass")
    for _ in range(2):
        assert upgrade(creates_roles=True) == head_revision()
    owner = postgres_engine(url, connections=1)
    query = text("SELECT rolname, rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname LIKE 'made%'")
    with owner.connect() as connection:
        assert sorted(map(tuple, connection.execute(query))) == [("made_api", True), ("made_worker", True)]
    api = postgres_server.engine_of(owner, "made_api", connections=1)
    with api.connect() as connection:
        assert bypass_problem(connection) == ""
        assert connection.scalar(text("SELECT count(*) FROM job")) == 0
    for engine in (owner, api):
        engine.dispose()
    monkeypatch.delenv("WINDLASS_DATABASE_API_URL")
    with pytest.raises(InvalidError, match="made_api"):
        upgrade(creates_roles=True)


def test_a_second_migration_changes_no_policy(platform: TwoTenants) -> None:
    owner = postgres_server.engine_of(platform.owner, "postgres", connections=1)
    policies = text("SELECT oid, polname FROM pg_policy ORDER BY oid")
    with owner.connect() as connection:
        before = connection.execute(policies).all()
    migrate(owner)
    with owner.connect() as connection:
        assert connection.execute(policies).all() == before
        assert len(before) > len(TENANT_TABLES)
    owner.dispose()


def test_a_value_that_a_begin_must_not_contain_is_a_parameter(tmp_path: Path) -> None:
    engine = new_engine(tmp_path, connections=1)
    value = "o'brien\\; DROP TABLE job"
    scope = RowScope("BEGIN")
    scope.want({Setting.USER: value, Setting.PROJECT: "prj_1"})
    assert scope.begin() == "BEGIN; SET LOCAL windlass.\"project\" = 'prj_1'"
    database = SqlDatabase(engine, clock=None)  # type: ignore[arg-type]  # no time is read
    with database.read() as uow:
        assert uow.memberships(value).all() == []
        connection: ScopedConnection = uow.projects._connection  # type: ignore[attr-defined]  # private attribute
        assert connection.scalar(text("SELECT current_setting('windlass.user')")) == value
    database.close()


def test_the_pool_of_a_prediction_is_shared(platform: TwoTenants) -> None:
    reply = platform.client(platform.ours.tokens[Role.VIEWER.value]).get(f"/v1/pools/{POOL}")
    assert reply.json()["nominal"] == 8, "the quotas of both tenants"


def test_the_scope_costs_no_statement(platform: TwoTenants, api: Engine) -> None:
    """It is sent with the BEGIN, or a query sets it."""
    statements: list[str] = []
    event.listen(api, "before_cursor_execute", lambda *call: statements.append(call[2]))
    app = platform.replica(SqlDatabase(api, platform.harness.clock))
    editor = TestClient(app, headers={"Authorization": f"Bearer {platform.ours.tokens[Role.EDITOR.value]}"})
    jobs, ids, run = f"/v1/projects/{platform.ours.name}/jobs", platform.ours.ids, platform.ours.run
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": ids["dataset"], "model": "m"}
    body = {"spec": {**spec, "resources": {"pool": POOL}}}
    replies = [
        editor.get(jobs),
        editor.get(f"{jobs}/{ids['job']}"),
        editor.post(jobs, json=body, headers={"Idempotency-Key": "k"}),
    ]
    assert run is not None
    late = {"source": "rank0", "sequence": 9, "items": [{**LOG, "time": platform.harness.clock.now().isoformat()}]}
    path, token = f"/internal/v1/runs/{run.run}/attempts/1/reports", platform.harness.access_control.run_token(run.run)
    replies.append(editor.post(path, json=late, headers={"Authorization": f"Bearer {token}"}))
    assert [reply.status_code for reply in replies] == [200, 200, 202, 200], [reply.text for reply in replies]
    assert [each for each in statements if each.startswith("SELECT set_config")] == []
    assert sum("SET LOCAL windlass" in each for each in statements) > len(replies)
