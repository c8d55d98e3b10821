"""``windlass member``: the members of a project and their roles."""

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
    Column[MemberOut]("user", lambda member: member.user),
    Column[MemberOut]("role", lambda member: member.role),
)


def _name(member: MemberOut) -> str:
    return member.user


@app.command("list")
@command
def list_members(session: Session) -> None:
    """List the project's members."""
    session.list(session.client.members.list(), _COLUMNS, _name)


@app.command("set")
@command
def set_member(
    session: Session,
    user: Annotated[str, typer.Argument(autocompletion=names_of("member"))],
    role: Annotated[
        Role,
        typer.Argument(help="viewer: read and predict; editor: also train and deploy; owner: also manage members."),
    ],
) -> None:
    """Add a member or change the role of a member."""
    session.show(session.client.members.set(user, role.value), _COLUMNS, _name)


@app.command("remove")
@command
def remove(
    session: Session,
    user: Annotated[str, typer.Argument(autocompletion=names_of("member"))],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Remove a member from the project."""
    members = session.client.members
    delete(session, partial(members.remove, user), yes=yes, dry_run=dry_run, verb=REMOVE)
