"""``windlass project``: tenants."""

from typing import Annotated, Any

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, noun, verb
from windlass.wire.projects import ProjectOut, ProjectPatch

app = noun("Projects: tenants with members and quota.")

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
@verb
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits, inner hyphens.")],
    cohort: Annotated[str | None, typer.Option(help="Projects of one cohort lend each other idle quota.")] = None,
    title: Annotated[str, typer.Option(help="A name for people.")] = "",
    priority_ceiling: Annotated[int, typer.Option(help="Highest priority of its jobs.")] = 0,
) -> None:
    """Create a project (platform admins)."""
    made = session.client.projects.create(name, display_name=title, cohort=cohort, priority_ceiling=priority_ceiling)
    session.show(made, _COLUMNS, _name)


@app.command("list")
@verb
def list_projects(session: Session) -> None:
    """List the projects that you may see."""
    session.list(session.client.projects.list(), _COLUMNS, _name)


@app.command("show")
@verb
def show(
    session: Session, name: Annotated[str | None, typer.Argument(help="Default: the current project.")] = None
) -> None:
    """Show a project."""
    session.show(session.client.projects.get(name), _COLUMNS, _name)


@app.command("update")
@verb
def update(
    session: Session,
    name: Annotated[str, typer.Argument()],
    cohort: Annotated[str | None, typer.Option(help="Join this cohort.")] = None,
    leave_cohort: Annotated[bool, typer.Option("--leave-cohort", help="Leave the cohort.")] = False,
    title: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    priority_ceiling: Annotated[int | None, typer.Option(help="Highest priority of its jobs.")] = None,
) -> None:
    """Change a project; the cohort and the priority ceiling as a platform admin."""
    if cohort and leave_cohort:
        raise typer.BadParameter("--cohort contradicts --leave-cohort")
    change: dict[str, Any] = {} if title is None else {"display_name": title}
    if cohort or leave_cohort:
        change["cohort"] = cohort
    if priority_ceiling is not None:
        change["priority_ceiling"] = priority_ceiling
    if not change:
        raise typer.BadParameter("nothing to change: give --cohort, --leave-cohort, --priority-ceiling or --title")
    session.show(session.client.projects.update(name, ProjectPatch(**change)), _COLUMNS, _name)


@app.command("delete")
@verb
def delete(session: Session, name: Annotated[str, typer.Argument()]) -> None:
    """Delete a project that holds nothing."""
    session.client.projects.delete(name)
    session.say(f"project {name} is deleted")
