"""What a request reads before its project is known, or of all projects."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Column, ColumnElement, MetaData, Select, String, Table, and_, func, or_, select

from windlass.db.identity_tables import MemberTable
from windlass.db.repository import SqlRepository, table_of
from windlass.db.row_scope import GROUP_SEPARATOR, UNTIL_COMMIT, ScopedConnection, Setting
from windlass.db.tables import ProjectTable, RunTable
from windlass.domain.jobs import Run
from windlass.domain.projects import Member, SubjectKind
from windlass.ports import Changes
from windlass.ports.filters import MemberFilter, RunFilter

COHORT_VIEW = "project_cohort"
"""The view that shows all roles the cohorts of all projects; SQLite has none."""

_PROJECTS, _RUNS, _MEMBERS = table_of(ProjectTable), table_of(RunTable), table_of(MemberTable)
_COHORTS = Table(COHORT_VIEW, MetaData(), Column("name", String), Column("cohort", String))


class SqlMemberships(SqlRepository[Member, MemberFilter]):
    """The memberships of a user and of the user's groups in all projects."""

    def __init__(self, connection: ScopedConnection, changes: Changes, user: str, groups: Collection[str]) -> None:
        settings = {Setting.USER: user} | ({Setting.GROUPS: GROUP_SEPARATOR.join(groups)} if groups else {})
        super().__init__(connection.narrowed(settings), _MEMBERS, Member, "member", changes, scope={})
        is_user = and_(_MEMBERS.c.kind == SubjectKind.USER, _MEMBERS.c.name == user)
        is_group = and_(_MEMBERS.c.kind == SubjectKind.GROUP, _MEMBERS.c.name.in_(groups))
        self._own = or_(is_user, is_group) if groups else is_user

    def _conditions(self, where: Mapping[str, object] | None) -> list[ColumnElement[bool]]:
        return [*super()._conditions(where), self._own]


class SqlRunLookup(SqlRepository[Run, RunFilter]):
    """Finds a run of any project by its id or its warm trainer. The transaction is in the scope of its project then."""

    def __init__(self, connection: ScopedConnection, changes: Changes) -> None:
        lookups = {"id": Setting.FIND_RUN, "warm_trainer": Setting.FIND_WARM_TRAINER}
        super().__init__(connection, _RUNS, Run, "run", changes, scope={}, lookups=lookups)

    def _query(self) -> Select[Any]:
        if not self._connection.has_row_security:
            return super()._query()
        return select(_RUNS, func.set_config(Setting.PROJECT.variable, _RUNS.c.project, UNTIL_COMMIT))

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
