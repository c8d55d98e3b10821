"""What a request reads before its project is known, or of all projects."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Column, ColumnElement, MetaData, Select, String, Table, and_, bindparam, func, or_, select

from windlass.db.identity_tables import MemberTable
from windlass.db.repository import SqlRepository, table_of
from windlass.db.row_scope import GROUP_SEPARATOR, UNTIL_COMMIT, ScopedConnection, Setting
from windlass.db.statements import Form, conditions
from windlass.db.tables import ProjectTable, RunTable
from windlass.domain.jobs import Run
from windlass.domain.projects import Member, SubjectKind
from windlass.ports import Changes
from windlass.ports.filters import MemberFilter, RunFilter

COHORT_VIEW = "project_cohort"
"""The view that shows all roles the cohorts of all projects; SQLite has none."""

_USER, _GROUPS = "own_user", "own_groups"
"""Parameters of the memberships."""
_PROJECTS, _RUNS, _MEMBERS = table_of(ProjectTable), table_of(RunTable), table_of(MemberTable)
_COHORTS = Table(COHORT_VIEW, MetaData(), Column("name", String), Column("cohort", String))


def _is_user(table: Table) -> ColumnElement[bool]:
    return and_(table.c.kind == SubjectKind.USER, table.c.name == bindparam(_USER))


def _of_user(table: Table, form: Form) -> list[ColumnElement[bool]]:
    """Return the conditions of the memberships of a user."""
    return [*conditions(table, form), _is_user(table)]


def _of_user_and_groups(table: Table, form: Form) -> list[ColumnElement[bool]]:
    """Return the conditions of the memberships of a user and of the user's groups."""
    is_group = and_(table.c.kind == SubjectKind.GROUP, table.c.name.in_(bindparam(_GROUPS, expanding=True)))
    return [*conditions(table, form), or_(_is_user(table), is_group)]


class SqlMemberships(SqlRepository[Member, MemberFilter]):
    """The memberships of a user and of the user's groups in all projects."""

    def __init__(self, connection: ScopedConnection, changes: Changes, user: str, groups: Collection[str]) -> None:
        settings = {Setting.USER: user} | ({Setting.GROUPS: GROUP_SEPARATOR.join(groups)} if groups else {})
        super().__init__(connection.narrowed(settings), _MEMBERS, Member, "member", changes, scope={})
        self._where = _of_user_and_groups if groups else _of_user
        self._own = {_USER: user} | ({_GROUPS: list(groups)} if groups else {})

    def _values(self) -> dict[str, object]:
        return dict(self._own)


def _run_and_scope(table: Table) -> Select[Any]:
    """Return a SELECT that lets the transaction see the project of the run that it finds."""
    return select(table, func.set_config(Setting.PROJECT.variable, table.c.project, UNTIL_COMMIT))


class SqlRunLookup(SqlRepository[Run, RunFilter]):
    """Finds a run of any project by its id or its warm trainer. The transaction is in the scope of its project then."""

    def __init__(self, connection: ScopedConnection, changes: Changes) -> None:
        lookups = {"id": Setting.FIND_RUN, "warm_trainer": Setting.FIND_WARM_TRAINER}
        super().__init__(connection, _RUNS, Run, "run", changes, scope={}, lookups=lookups)
        if connection.has_row_security:
            self._rows = _run_and_scope

    def find(self, where: RunFilter) -> Run | None:
        run = super().find(where)
        if run is not None:
            self._connection.opened(Setting.PROJECT, run.project)
        return run


def read_cohorts(connection: ScopedConnection) -> dict[str, str | None]:
    """Return the cohort of every project by its name."""
    if connection.has_row_security:
        query = select(_COHORTS.c.name, _COHORTS.c.cohort)
    else:
        query = select(_PROJECTS.c.name, _PROJECTS.c.cohort).where(_PROJECTS.c.deleted_at.is_(None))
    return {row.name: row.cohort for row in connection.execute(query.order_by("name"))}
