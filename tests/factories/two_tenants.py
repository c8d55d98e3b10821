"""Two tenants with an object of every kind, and the API as it serves them: on PostgreSQL in the role of the API.

Each name of an object contains the name of its tenant, so that a test finds it wherever it appears.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text
from tests.factories import postgres_server
from tests.factories.databases import Kind
from tests.fakes.cluster import MemoryView, make_pool, make_project, make_quota
from tests.fakes.harness import ADMIN, ControlPlaneHarness, SimulatedRun
from tests.integration.api.stored_runs import LOG, checkpoint, event, metric

from windlass.db.row_security import TENANT_TABLES
from windlass.db.session import SqlDatabase
from windlass.domain.budgets import BudgetAlert
from windlass.domain.encryption import DataKey
from windlass.domain.endpoint_traffic import EndpointMinute, TrafficCounts
from windlass.domain.erasures import Erasure, ErasureDescendant, ErasureState, SearchedVersion
from windlass.domain.projects import Member, Role, SubjectKind
from windlass.domain.records import CascadeDeletion
from windlass.domain.usage import RequestCounts, RequestUsage, month_of
from windlass.services.base import RequestOrigin
from windlass.services.keys import Keys
from windlass.services.service_accounts import ServiceAccounts
from windlass.settings import WorkerSettings
from windlass_api.app import create_app
from windlass_api.composition import ApplicationSettings, compose

OURS, THEIRS = "walrus", "zebra"
POOL = "shared"
MEMBER_OF_BOTH = "both"


@dataclass
class Tenant:
    """A project, and the ids and names of its objects."""

    name: str
    uid: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    """Values of the parameters of paths, by parameter."""
    tokens: dict[str, str] = field(default_factory=dict)
    """API keys of its members by role; ``confined``: of an admin of the project, for this project only."""
    run: SimulatedRun | None = None

    def member(self, role: Role) -> str:
        """Return the user with a role."""
        return f"{self.name}-{role.value}"


@dataclass
class TwoTenants:
    """The platform."""

    harness: ControlPlaneHarness
    app: FastAPI
    owner: Engine
    """Reads the rows of all tenants."""
    ours: Tenant
    theirs: Tenant

    def client(self, token: str | None) -> TestClient:
        """Return a client of the API; None sends no key."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return TestClient(self.app, headers=headers, raise_server_exceptions=False)

    def replica(self, database: SqlDatabase) -> FastAPI:
        """Return the API of a replica that shares all but its connections with the worker."""
        return api_of(self.harness, database)

    def key(self, user: str, **options: Any) -> str:
        """Return a new API key."""
        return Keys(self.harness.deps, ADMIN).create(user, **options)[1]

    def rows_of(self, tenant: Tenant) -> dict[str, list[str]]:
        """Return all rows of a tenant by table, without those of denied requests in the audit log."""
        rows: dict[str, list[str]] = {}
        with self.owner.connect() as connection:
            for table in sorted(TENANT_TABLES):
                columns = connection.execute(text(f'SELECT * FROM "{table}" LIMIT 0')).keys()  # noqa: S608 - constants
                if "project" in columns:
                    where, key = "project IN (:uid, :name)", {"uid": tenant.uid, "name": tenant.name}
                elif table == "project":
                    where, key = "id = :uid", {"uid": tenant.uid}
                else:
                    where, key = "job IN (SELECT id FROM job WHERE project = :uid)", {"uid": tenant.uid}
                if table == "audit":
                    where += " AND outcome = 'accepted'"
                found = connection.execute(text(f'SELECT * FROM "{table}" WHERE {where}'), key)  # noqa: S608 - constants
                rows[table] = sorted(str(row) for row in found)
        return rows


@contextmanager
def two_tenants(folder: Path, kind: Kind) -> Iterator[TwoTenants]:
    """Build the platform: on SQLite a server of the embedded mode, on PostgreSQL a replica of the API in a cluster."""
    harness, ours, theirs = _embedded(folder) if kind == "sqlite" else _cluster(folder)
    harness.create_base_model()
    for tenant in (ours, theirs):
        _fill(harness, tenant)
    app, owner = harness.app, harness.engine
    if kind == "postgresql":
        engine = postgres_server.engine_of(harness.engine, postgres_server.API_ROLE, connections=5)
        app = api_of(harness, SqlDatabase(engine, harness.clock))
    with TestClient(app):
        yield TwoTenants(harness, app, owner, ours, theirs)
    if kind == "postgresql":
        engine.dispose()
    harness.close()


def _embedded(folder: Path) -> tuple[ControlPlaneHarness, Tenant, Tenant]:
    harness = ControlPlaneHarness(folder)
    ours, theirs = (Tenant(name, harness.create_project(name, gpus=4, pool=POOL)) for name in (OURS, THEIRS))
    return harness, ours, theirs


def _cluster(folder: Path) -> tuple[ControlPlaneHarness, Tenant, Tenant]:
    view = MemoryView()
    harness = ControlPlaneHarness(folder, cluster=view, trains=True, serves=True)
    projects = [make_project(name, number, make_quota(4, POOL)) for number, name in enumerate((OURS, THEIRS), 1)]
    view.set_state(projects, pools=[make_pool(POOL)])
    harness.cluster_sync.step()
    ours, theirs = (Tenant(each.project.name, each.project.id) for each in projects)
    return harness, ours, theirs


def api_of(harness: ControlPlaneHarness, database: SqlDatabase) -> FastAPI:
    """Return the application of a replica of the API that shares all but its connections with the worker."""
    settings = ApplicationSettings(
        harness.limits, WorkerSettings(), harness.deps.hasher, harness.sign_in, "api-1", runs_worker=False
    )
    ports = replace(harness.application.ports, database=database)
    return create_app(compose(settings, ports).app_context)


def _add_usage(harness: ControlPlaneHarness, tenant: Tenant) -> None:
    """Create a budget, an alert and counted requests."""
    name, base = tenant.name, f"/v1/projects/{tenant.name}"
    limits = {"gpu_hours": 9, "cost": None}
    _expect(harness.client.put(f"{base}/budget", json=limits, headers={"If-Match": '"0"'}))
    now = harness.clock.now()
    with harness.database.write() as uow:
        alert = BudgetAlert(project=tenant.uid, month=month_of(now), percent=80, reached_at=now)
        uow.project(tenant.uid).budget_alerts.add(alert)
        used = RequestUsage(
            project=tenant.uid,
            api_key="",
            endpoint=f"{name}-live",
            model=f"{name}-model",
            number=1,
            counts=RequestCounts(),
        )
        uow.request_usage.record("api-1", now, [used])
        minute = EndpointMinute(project=tenant.uid, endpoint=used.endpoint, minute=now, counts=TrafficCounts(failed=1))
        uow.endpoint_traffic.record("api-1", [minute])


def _add_deletions(harness: ControlPlaneHarness, tenant: Tenant) -> str:
    """Store a data key, a deletion that waits, and an erasure with a certificate; return the id of the erasure."""
    name, now = tenant.name, harness.clock.now()
    with harness.database.write() as uow:
        repos = uow.project(tenant.uid)
        [version] = repos.dataset_versions.all()
        key = DataKey(project=tenant.uid, master_key="master", wrapped=f"{name} key", created_at=now)
        repos.data_keys.add(key)
        repos.cascade_deletions.add(
            CascadeDeletion(
                id=harness.deps.new_id("del"),
                project=tenant.uid,
                kind="dataset",
                subject=version.dataset,
                name=f"{name}-data",
                created_by=tenant.member(Role.EDITOR),
                request_id="request",
                created_at=now,
            )
        )
        searched = SearchedVersion(
            id=version.id, number=1, rows=8, matches=1, created_at=now, created_by=f"{name}-editor"
        )
        erasure = Erasure(
            id=harness.deps.new_id("ers"),
            project=tenant.uid,
            dataset=version.dataset,
            dataset_name=f"{name}-data",
            state=ErasureState.PENDING,
            query=None,
            key_hashes=("0" * 64,),
            versions=(searched,),
            descendants=(ErasureDescendant(kind="model version", id="mv_1", name=f"{name}-model@1"),),
            created_by=tenant.member(Role.EDITOR),
            created_at=now,
            erased_at=now,
        )
        repos.erasures.add(erasure)
    return erasure.id


def _fill(harness: ControlPlaneHarness, tenant: Tenant) -> None:
    """Create an object of every kind."""
    name, base = tenant.name, f"/v1/projects/{tenant.name}"
    _add_members(harness, tenant)
    harness.create_dataset(name, f"{name}-data")
    spec: dict[str, Any] = {
        "dataset": f"{name}-data",
        "model": f"{name}-model",
        "name": f"{name}-job",
        "resources": {"pool": POOL},
    }
    job = harness.submit(name, key=f"{name}-key", **spec)
    harness.run_worker_once(2)
    tenant.run = run = harness.simulated_run(job)
    run.acquire_attempt()
    reported = run.report(1, metric(1), checkpoint(1), event("training_started", note=name), {**LOG, "text": name})
    assert reported.status_code == 200, reported.text
    assert run.finish(1).status_code == 200
    harness.run_worker_once(2)
    _expect(harness.client.put(f"{base}/models/{name}-model/aliases/{name}-alias", json={"version": 1}))
    target = {"model": f"{name}-model", "version": 1, "weight": 100}
    _expect(harness.client.post(f"{base}/endpoints", json={"name": f"{name}-live", "spec": {"traffic": [target]}}))
    declared = {"name": f"{name}.csv", "bytes": 3, "sha256": "0" * 64}
    upload = harness.client.post(f"{base}/uploads", json={"dataset": f"{name}-data", "files": [declared]})
    change = harness.client.put(f"{base}/quotas/{POOL}", json={"nominal": 5})
    _add_usage(harness, tenant)
    waiting = harness.submit(name, key=f"{name}-waiting", **spec)
    keys = Keys(harness.deps, ADMIN)
    key, secret = keys.create(tenant.member(Role.VIEWER), name=f"{name} key", project=name)
    account = ServiceAccounts(harness.deps, ADMIN, tenant.uid).create(f"{name}-bot", Role.EDITOR, name)
    with harness.database.read() as uow:
        project = uow.projects.get({"name": name})
    account_key, tenant.tokens["service account"] = keys.create_for_service_account(
        project, account, name=f"{name} key"
    )
    access = harness.access_control
    session = access.sign_in.open_for_key(access.authenticate(secret), RequestOrigin("request")).session
    tenant.ids = {
        "project": name,
        "user": tenant.member(Role.VIEWER),
        "group": f"{name}-group",
        "pool": POOL,
        "change": _expect(change)["id"],
        "dataset": f"{name}-data",
        "number": "1",
        "month": "2026-01",
        "upload": _expect(upload)["id"],
        "name": f"{name}.csv",
        "job": job["id"],
        "waiting": waiting["id"],
        "model": f"{name}-model",
        "alias": f"{name}-alias",
        "path": "report.html",
        "endpoint": f"{name}-live",
        "erasure": _add_deletions(harness, tenant),
        "key": key.id,
        "account": account.name,
        "account_key": account_key.id,
        "session": session.id,
    }


def _add_members(harness: ControlPlaneHarness, tenant: Tenant) -> None:
    keys = Keys(harness.deps, ADMIN)
    with harness.database.write() as uow:
        members = uow.project(tenant.uid).members
        for role in Role:
            members.add(Member(project=tenant.uid, name=tenant.member(role), role=role))
        members.add(Member(project=tenant.uid, kind=SubjectKind.GROUP, name=f"{tenant.name}-group", role=Role.VIEWER))
        members.add(Member(project=tenant.uid, name=MEMBER_OF_BOTH, role=Role.VIEWER))
    for role in Role:
        tenant.tokens[role.value] = keys.create(tenant.member(role))[1]
    highest = tenant.member(max(Role, key=list(Role).index))
    tenant.tokens["confined"] = keys.create(highest, project=tenant.name)[1]


def _expect(reply: Any) -> dict[str, Any]:
    assert reply.status_code < 300, reply.text
    body: dict[str, Any] = reply.json()
    return body
