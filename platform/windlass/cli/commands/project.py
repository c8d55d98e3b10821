"""``windlass project``: tenants."""

from functools import partial
from typing import Annotated, Any

import typer

from windlass.cli.deletion import Cascade, DryRun, Yes, delete
from windlass.cli.name_completion import names_of
from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.wire.projects import ProjectOut, ProjectPatch

app = command_group("Manage projects: tenants with members and quota.")

_COLUMNS = (
    Column[ProjectOut]("name", lambda project: project.name),
    Column[ProjectOut]("cohort", lambda project: project.cohort),
    Column[ProjectOut]("priority ceiling", lambda project: project.priority_ceiling),
    Column[ProjectOut]("title", lambda project: project.display_name),
    Column[ProjectOut]("age", lambda project: project.created_at),
)


def _name(project: ProjectOut) -> str:
    return project.name


@app.command("create")
@command
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits, inner hyphens.")],
    cohort: Annotated[str | None, typer.Option(help="Projects of one cohort lend each other idle quota.")] = None,
    title: Annotated[str, typer.Option(help="Display name.")] = "",
    priority_ceiling: Annotated[int, typer.Option(help="Highest priority that its jobs may have.")] = 0,
) -> None:
    """Create a project (platform admins)."""
    project = session.client.projects.create(name, display_name=title, cohort=cohort, priority_ceiling=priority_ceiling)
    session.show(project, _COLUMNS, _name)


@app.command("list")
@command
def list_projects(session: Session) -> None:
    """List the projects that you may see."""
    session.list(session.client.projects.list(), _COLUMNS, _name)


@app.command("show")
@command
def show(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(help="Default: the current project.", autocompletion=names_of("project"))
    ] = None,
) -> None:
    """Show a project."""
    session.show(session.client.projects.get(name), _COLUMNS, _name)


@app.command("update")
@command
def update(
    session: Session,
    name: Annotated[str, typer.Argument(autocompletion=names_of("project"))],
    cohort: Annotated[str | None, typer.Option(help="Join this cohort.")] = None,
    leave_cohort: Annotated[bool, typer.Option("--leave-cohort", help="Leave the cohort.")] = False,
    title: Annotated[str | None, typer.Option(help="Display name.")] = None,
    priority_ceiling: Annotated[int | None, typer.Option(help="Highest priority that its jobs may have.")] = None,
) -> None:
    """Change a project; only platform admins can change cohort and priority ceiling."""
    if cohort and leave_cohort:
        raise typer.BadParameter("--cohort contradicts --leave-cohort")
    change: dict[str, Any] = {} if title is None else {"display_name": title}
    if cohort or leave_cohort:
        change["cohort"] = cohort
    if priority_ceiling is not None:
        change["priority_ceiling"] = priority_ceiling
    if not change:
        raise typer.BadParameter("no change: give --cohort, --leave-cohort, --priority-ceiling or --title")
    session.show(session.client.projects.update(name, ProjectPatch(**change)), _COLUMNS, _name)


@app.command("delete")
@command
def delete_project(
    session: Session,
    name: Annotated[str, typer.Argument(autocompletion=names_of("project"))],
    yes: Yes = False,
    dry_run: DryRun = False,
    cascade: Cascade = False,
) -> None:
    """Delete a project with all its data; it must have no active jobs or endpoints (platform admins)."""
    projects = session.client.projects
    delete(session, partial(projects.delete, name, cascade=cascade), yes=yes, dry_run=dry_run)
