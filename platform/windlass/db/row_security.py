"""Row security of PostgreSQL: the rows that the API's role can read and write, whatever it executes (docs/adr/0061).

A policy compares a row with the settings of the transaction (``row_scope``); without them no row of a tenant matches.
The owner of the tables migrates them, and the worker reconciles all projects: their policies permit every row.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from windlass.db.lookups import COHORT_VIEW
from windlass.db.row_scope import GROUP_SEPARATOR, Setting
from windlass.domain.errors import InvalidError

ALL_ROWS: Final = "windlass_all_rows"
"""Name of the policies that permit every row."""
_TABLE: Final = "{table}"
_READ: Final = ("SELECT",)
_APPEND: Final = ("SELECT", "INSERT")
_WRITE: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")


def _is(column: str, setting: Setting) -> str:
    return f"{column} = current_setting('{setting.variable}', true)"


def _any(*conditions: str) -> str:
    return " OR ".join(f"({condition})" for condition in conditions)


_PLATFORM: Final = f"current_setting('{Setting.PLATFORM.variable}', true) = 'on'"
_OWN_PROJECT: Final = _is("project", Setting.PROJECT)
_OWN_USER: Final = _is('"user"', Setting.USER)
_OWN_JOB: Final = f"EXISTS (SELECT 1 FROM job WHERE job.id = {{table}}.job AND {_OWN_PROJECT})"  # noqa: S608 - constants
_GROUPS: Final = f"string_to_array(current_setting('{Setting.GROUPS.variable}', true), chr({ord(GROUP_SEPARATOR)}))"
_OWN_ROLE: Final = _any(f"kind = 'User' AND {_is('name', Setting.USER)}", f"kind = 'Group' AND name = ANY ({_GROUPS})")
_OWN_MEMBERSHIP: Final = f"EXISTS (SELECT 1 FROM member WHERE member.project = {{table}}.id AND ({_OWN_ROLE}))"  # noqa: S608 - constants


@dataclass(frozen=True)
class TableAccess:
    """What the API's role may do with a table."""

    privileges: tuple[str, ...] = _WRITE
    rows: str = _OWN_PROJECT
    """Condition of the rows that it reads and writes; ``{table}`` is the table in a subquery."""
    read: str = ""
    """Condition of further rows that it reads."""


TENANT_TABLES: Final[Mapping[str, TableAccess]] = {
    "api_key": TableAccess(rows=_any(_OWN_PROJECT, _OWN_USER, _PLATFORM), read=_is("id", Setting.FIND_KEY)),
    "attempt": TableAccess(read=_PLATFORM),
    "budget": TableAccess(read=_PLATFORM),
    "budget_alert": TableAccess(_READ, read=_PLATFORM),
    # users also change what is in no project, such as their keys
    "audit": TableAccess(_APPEND, rows=_any(_OWN_PROJECT, _is("actor", Setting.USER), _PLATFORM)),
    "checkpoint": TableAccess(),
    "dataset": TableAccess(),
    "dataset_version": TableAccess(),
    "cascade_deletion": TableAccess(),
    "data_key": TableAccess(_READ),
    "erasure": TableAccess(),
    # The next two have the queues and workloads of all projects, which a prediction needs; no reply contains them.
    "demand": TableAccess(_READ, rows="true"),
    "queue_quota": TableAccess(_READ, rows="true"),
    "endpoint": TableAccess(),
    "endpoint_traffic": TableAccess(("SELECT", "INSERT", "UPDATE")),
    "event": TableAccess(),
    "gpu_reservation": TableAccess(_READ, read=_PLATFORM),
    "gpu_usage": TableAccess(_READ, read=_PLATFORM),
    "idempotency_record": TableAccess(),
    "job": TableAccess(read=f"{_PLATFORM} AND {_is('base_model', Setting.FIND_BASE_MODEL)}"),
    "lineage": TableAccess(),
    "log_chunk": TableAccess(),
    "member": TableAccess(read=_OWN_ROLE),
    "metric_chunk": TableAccess(rows=_OWN_JOB),
    "model": TableAccess(),
    "model_version": TableAccess(),
    "outbox": TableAccess(rows=_any(_OWN_PROJECT, f"project = '' AND {_PLATFORM}"), read=_PLATFORM),
    "project": TableAccess(
        _READ,
        rows=_is("id", Setting.PROJECT),
        read=_any(_is("name", Setting.FIND_PROJECT), _OWN_MEMBERSHIP, _PLATFORM),
    ),
    "queue_time_sample": TableAccess(_READ, read=_PLATFORM),
    "quota": TableAccess(_READ, read=_PLATFORM),
    "quota_change": TableAccess(read=_PLATFORM),
    "request_usage": TableAccess(("SELECT", "INSERT", "UPDATE"), read=_PLATFORM),
    "report_cursor": TableAccess(rows=_OWN_JOB),
    "service_account": TableAccess(),
    "run": TableAccess(
        read=_any(_is("id", Setting.FIND_RUN), _is("warm_trainer", Setting.FIND_WARM_TRAINER)),
    ),
    "upload": TableAccess(),
}
"""The tables with rows of tenants. A table that is in neither list cannot be used by the API's role."""

GLOBAL_TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "admission_sequence": (),
    "alembic_version": _READ,
    "audit_chain": _READ,
    "api_uptime": ("SELECT", "INSERT", "UPDATE"),
    "base_model": _WRITE,
    "cluster_sync_status": _READ,
    "pool": _READ,
    "pool_price": _READ,
    "request_load": _WRITE,
    "user_account": _WRITE,
    "user_session": _WRITE,
}
"""The tables without rows of tenants, and the privileges of the API's role on them."""


@dataclass(frozen=True)
class DatabaseRoles:
    """Names of the roles of the API and of the worker; the connections of each are of this role, or of a member."""

    api: str = "windlass_api"
    worker: str = "windlass_worker"


def secure_rows(connection: Connection, roles: DatabaseRoles) -> list[str]:
    """Set policies and privileges as declared, for the roles that exist; return these. Idempotent.

    The caller is the owner of the tables. What is set already is not set again: each change waits for the table's lock.
    """
    names = (roles.api, roles.worker)
    found = [name for name in names if connection.scalar(_ROLE, {"name": name})]
    policies = {(row.relname, row.polname): row.comment for row in connection.execute(_POLICIES)}
    unsecured = set(connection.scalars(_UNSECURED))
    for table, access in TENANT_TABLES.items():
        if table in unsecured:
            connection.execute(text(f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY'))
        for policy in _policies(table, access, roles, found):
            if policies.get((table, policy.name)) != policy.digest:
                _replace(connection, table, policy)
    for statement in _privileges(connection, roles, found):
        connection.execute(text(statement))
    return found


@dataclass(frozen=True)
class _Policy:
    name: str
    clauses: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.clauses.encode()).hexdigest()


def _policies(table: str, access: TableAccess, roles: DatabaseRoles, found: list[str]) -> Iterator[_Policy]:
    others = f", {_quoted(roles.worker)}" if roles.worker in found else ""
    yield _Policy(ALL_ROWS, f"FOR ALL TO CURRENT_USER{others} USING (true)")
    if roles.api in found:
        yield _Policy("windlass_rows", f"FOR ALL TO {_quoted(roles.api)} USING ({access.rows.replace(_TABLE, table)})")
        if access.read:
            read = f"FOR SELECT TO {_quoted(roles.api)} USING ({access.read.replace(_TABLE, table)})"
            yield _Policy("windlass_further_rows", read)


def _replace(connection: Connection, table: str, policy: _Policy) -> None:
    connection.execute(text(f'DROP POLICY IF EXISTS {policy.name} ON "{table}"'))
    connection.execute(text(f'CREATE POLICY {policy.name} ON "{table}" {policy.clauses}'))
    connection.execute(text(f"COMMENT ON POLICY {policy.name} ON \"{table}\" IS '{policy.digest}'"))


def _privileges(connection: Connection, roles: DatabaseRoles, found: list[str]) -> Iterator[str]:
    # the view reads with the privileges of its owner: it shows the cohorts of all projects, and nothing else of them
    select = "SELECT name, cohort FROM project WHERE deleted_at IS NULL"
    yield f"CREATE OR REPLACE VIEW {COHORT_VIEW} AS {select}"
    schema = _quoted(str(connection.scalar(text("SELECT current_schema()"))))
    for role in found:
        yield f"GRANT USAGE ON SCHEMA {schema} TO {_quoted(role)}"
        yield f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {_quoted(role)}"
        yield f"GRANT SELECT ON {COHORT_VIEW} TO {_quoted(role)}"
    tables = [*TENANT_TABLES, *GLOBAL_TABLES]
    if roles.worker in found:
        names = ", ".join(_quoted(table) for table in tables)
        yield f"GRANT {', '.join(_WRITE)} ON {names} TO {_quoted(roles.worker)}"
    if roles.api in found:
        for table in tables:
            privileges = TENANT_TABLES[table].privileges if table in TENANT_TABLES else GLOBAL_TABLES[table]
            yield f"REVOKE ALL ON {_quoted(table)} FROM {_quoted(roles.api)}"
            if privileges:
                yield f"GRANT {', '.join(privileges)} ON {_quoted(table)} TO {_quoted(roles.api)}"


def _quoted(name: str) -> str:
    if '"' in name or not name:
        raise InvalidError(f"{name!r} is not a usable name of a database role")
    return f'"{name}"'


def bypass_problem(connection: Connection) -> str:
    """Return why row security does not restrict the role of this connection; empty if it does."""
    row = connection.execute(_BYPASS, {"policy": ALL_ROWS}).one_or_none()
    if row is None:
        return "the database has no row security; migrate it"
    reasons = {
        "is a superuser or can become one": row.superuser,
        "has BYPASSRLS or can get it": row.bypasses,
        "owns the tables, or is a member of their owner": row.owns,
        "has the rows of all projects, as the worker": row.all_rows,
    }
    found = [reason for reason, applies in reasons.items() if applies]
    return f"the database role {row.role} {' and '.join(found)}" if found else ""


_ROLE = text("SELECT 1 FROM pg_roles WHERE rolname = :name")
_POLICIES = text("""
    SELECT c.relname, p.polname, obj_description(p.oid, 'pg_policy') AS comment
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = current_schema()::regnamespace
""")
_UNSECURED = text("""
    SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
    AND NOT (relrowsecurity AND relforcerowsecurity)
""")
_BYPASS = text("""
    SELECT current_user AS role,
        (SELECT bool_or(rolsuper) FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER')) AS superuser,
        (SELECT bool_or(rolbypassrls) FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER')) AS bypasses,
        pg_has_role(current_user, c.relowner, 'MEMBER') AS owns,
        (SELECT bool_or(pg_has_role(current_user, member, 'MEMBER')) FROM unnest(p.polroles) AS member
            WHERE member <> c.relowner) AS all_rows
    FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid
    WHERE c.relname = 'job' AND c.relnamespace = current_schema()::regnamespace AND p.polname = :policy
""")
