"""``windlass member``: the members of a project, users and groups, and their roles."""

from functools import partial
from typing import Annotated

import typer

from windlass.cli.deletion import REMOVE, DryRun, Yes, delete
from windlass.cli.name_completion import names_of
from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.domain.projects import Role
from windlass.wire.projects import MemberOut

app = command_group("Manage the members of a project and their roles.")

_COLUMNS = (
    Column[MemberOut]("name", lambda member: member.name),
    Column[MemberOut]("kind", lambda member: member.kind),
    Column[MemberOut]("role", lambda member: member.role),
)

Member = Annotated[str, typer.Argument(metavar="NAME", autocompletion=names_of("member"))]
Group = Annotated[bool, typer.Option("--group", help="NAME is a group of the identity provider, not a user.")]


def _name(member: MemberOut) -> str:
    return member.name


@app.command("list")
@command
def list_members(session: Session) -> None:
    """List the project's members."""
    session.list(session.client.members.list(), _COLUMNS, _name)


@app.command("set")
@command
def set_member(
    session: Session,
    name: Member,
    role: Annotated[
        Role,
        typer.Argument(help="viewer: read and predict; editor: also train and deploy; admin: also manage members."),
    ],
    group: Group = False,
) -> None:
    """Add a member or change the role of a member."""
    members = session.client.members
    session.show((members.set_group if group else members.set)(name, role.value), _COLUMNS, _name)


@app.command("remove")
@command
def remove(session: Session, name: Member, group: Group = False, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Remove a member from the project."""
    members = session.client.members
    action = partial(members.remove_group if group else members.remove, name)
    delete(session, action, yes=yes, dry_run=dry_run, verb=REMOVE)
