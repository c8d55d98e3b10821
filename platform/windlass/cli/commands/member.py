"""``windlass member``: who may do what in a project."""

from enum import StrEnum
from typing import Annotated

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, noun, verb
from windlass.wire.projects import MemberOut

app = noun("Who may do what in a project.")

_COLUMNS = (
    Column[MemberOut]("user", lambda member: member.user),
    Column[MemberOut]("role", lambda member: member.role),
)


class Role(StrEnum):
    """The roles, weakest first."""

    VIEWER = "viewer"
    EDITOR = "editor"
    OWNER = "owner"


def _name(member: MemberOut) -> str:
    return member.user


@app.command("list")
@verb
def list_members(session: Session) -> None:
    """List the project's members."""
    session.list(session.client.members.list(), _COLUMNS, _name)


@app.command("set")
@verb
def set_member(
    session: Session,
    user: Annotated[str, typer.Argument()],
    role: Annotated[Role, typer.Argument(help="viewer reads and predicts; editor also trains; owner also manages.")],
) -> None:
    """Give a user a role."""
    session.show(session.client.members.set(user, role.value), _COLUMNS, _name)


@app.command("remove")
@verb
def remove(session: Session, user: Annotated[str, typer.Argument()]) -> None:
    """Take a user out of the project."""
    session.client.members.remove(user)
    session.say(f"{user} is no member any more")
