"""``windlass user``: users of the identity provider (platform admins)."""

from typing import Annotated

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.wire.identity import UserOut

app = command_group("List, disable and enable users of the identity provider (platform admins).")

_COLUMNS = (
    Column[UserOut]("name", lambda user: user.name),
    Column[UserOut]("display name", lambda user: user.display_name),
    Column[UserOut]("groups", lambda user: ", ".join(user.groups)),
    Column[UserOut]("signed in", lambda user: user.signed_in_at),
    Column[UserOut]("state", lambda user: "disabled" if user.disabled_at else "enabled"),
)

User = Annotated[str, typer.Argument(metavar="NAME", help="Name of the user.")]


def _name(user: UserOut) -> str:
    return user.name


@app.command("list")
@command
def list_users(session: Session) -> None:
    """List the users who have signed in."""
    session.list(session.client.users.list(), _COLUMNS, _name)


@app.command("disable")
@command
def disable(session: Session, user: User) -> None:
    """Refuse the keys, sessions and tokens of a user."""
    session.show(session.client.users.disable(user), _COLUMNS, _name)


@app.command("enable")
@command
def enable(session: Session, user: User) -> None:
    """Let a disabled user sign in again."""
    session.show(session.client.users.enable(user), _COLUMNS, _name)
