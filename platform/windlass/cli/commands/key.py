"""``windlass key``: API keys."""

import sys
from typing import Annotated

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, noun, verb
from windlass.wire.projects import KeyOut

app = noun("API keys.")

_COLUMNS = (
    Column[KeyOut]("id", lambda key: key.id),
    Column[KeyOut]("user", lambda key: key.user),
    Column[KeyOut]("name", lambda key: key.name),
    Column[KeyOut]("admin", lambda key: key.admin),
    Column[KeyOut]("project", lambda key: key.project),
    Column[KeyOut]("age", lambda key: key.created_at),
    Column[KeyOut]("expires", lambda key: key.expires_at and key.expires_at.isoformat(timespec="minutes")),
    Column[KeyOut]("state", lambda key: "revoked" if key.revoked_at else "valid"),
)


def _name(key: KeyOut) -> str:
    return key.id


@app.command("create")
@verb
def create(
    session: Session,
    user: Annotated[str, typer.Argument(help="Whom the key acts for.")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May manage the platform.")] = False,
    only: Annotated[str | None, typer.Option("--only-project", help="Good for this project alone.")] = None,
    days: Annotated[int | None, typer.Option("--expires-in-days", min=1, max=3650)] = None,
) -> None:
    """Make a key (platform admins). The secret goes to standard output, this once."""
    key = session.client.keys.create(user, name=name, admin=admin, project=only, expires_in_days=days)
    if session.machine:
        session.show(key, _COLUMNS, _name)
        return
    sys.stdout.write(key.secret + "\n")
    session.say(f"key {key.id} of {key.user}: keep the line above in a file of mode 0600; it is not shown again")


@app.command("list")
@verb
def list_keys(session: Session) -> None:
    """List the keys (platform admins)."""
    session.list(session.client.keys.list(), _COLUMNS, _name)


@app.command("revoke")
@verb
def revoke(session: Session, key: Annotated[str, typer.Argument(help="Its id, not the secret.")]) -> None:
    """Make a key worthless at once (platform admins)."""
    session.client.keys.revoke(key)
    session.say(f"key {key} is revoked")
