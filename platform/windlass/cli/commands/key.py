"""``windlass key``: API keys."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from windlass.cli.deletion import REVOKE, DryRun, Yes, delete
from windlass.cli.name_completion import names_of
from windlass.cli.output_files import require_folder
from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.domain.errors import InvalidError
from windlass.domain.projects import Permission, PlatformRole
from windlass.kit.files import write_atomic
from windlass.wire.projects import KeyOut, NewKeyOut

app = command_group("Create, list, renew and revoke your API keys; platform admins manage all keys.")

COLUMNS = (
    Column[KeyOut]("id", lambda key: key.id),
    Column[KeyOut]("user", lambda key: key.user),
    Column[KeyOut]("name", lambda key: key.name),
    Column[KeyOut]("platform role", lambda key: key.platform_role),
    Column[KeyOut]("project", lambda key: key.project),
    Column[KeyOut]("permissions", lambda key: ", ".join(key.permissions) if key.permissions else None),
    Column[KeyOut]("age", lambda key: key.created_at),
    Column[KeyOut]("expires", lambda key: key.expires_at and key.expires_at.isoformat(timespec="minutes")),
    Column[KeyOut]("state", lambda key: "revoked" if key.revoked_at else "valid"),
)


def _name(key: KeyOut) -> str:
    return key.id


Out = Annotated[
    Path | None, typer.Option("--out", help="Write the secret to this file (mode 0600) instead of standard output.")
]


@app.command("create")
@command
def create(
    session: Session,
    *,
    user: Annotated[str, typer.Argument(help="User whom the key authenticates.")],
    name: Annotated[str, typer.Option(help="Display name of the key.")] = "",
    platform_role: Annotated[
        PlatformRole | None,
        typer.Option(help="platform-viewer: read everything; platform-admin: all permissions; default: neither."),
    ] = None,
    only: Annotated[str | None, typer.Option("--only-project", help="Restrict the key to this project.")] = None,
    permission: Annotated[
        list[Permission] | None,
        typer.Option(help="A permission of the key; repeat it for several; default: all that the user has."),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--expires-in-days", min=1, max=3650, help="Lifetime in days; default: no expiry.")
    ] = None,
    out: Out = None,
) -> None:
    """Create a key of yours, as a platform admin of any user. The secret is printed once, on standard output."""
    if out is not None and out.exists():
        raise InvalidError(f"--out: {out} exists already", hint="give the path of a new file")
    if out is not None:  # before there is a secret
        require_folder(out)
    key = session.client.keys.create(
        user,
        name=name,
        platform_role=platform_role.value if platform_role else None,
        project=only,
        permissions=permission or None,
        expires_in_days=days,
    )
    deliver(session, key, out)


@app.command("renew")
@command
def renew(
    session: Session,
    key: Annotated[
        str | None,
        typer.Argument(help="Id of the key; default: the key in use.", autocompletion=names_of("key")),
    ] = None,
    out: Out = None,
) -> None:
    """Replace a key of yours by one with the same rights and lifetime; the old one stays valid for an hour."""
    if out is not None:  # before there is a secret
        require_folder(out)
    new = session.client.keys.renew(key or session.client.server.whoami().key)
    deliver(session, new, out)


def deliver(session: Session, key: NewKeyOut, out: Path | None) -> None:
    """Write the secret to a file that only the user can read, or print it. A secret is never lost by a full disk."""
    if out is not None:
        try:
            write_atomic(out, key.secret + "\n", mode=0o600)
        except OSError as error:
            session.message(f"{out} cannot be written: {error.strerror}; the secret is on standard output")
        else:
            session.message(f"key {key.id} of {key.user}: its secret is in {out}")
            return
    if session.machine:
        session.show(key, COLUMNS, _name)
        return
    sys.stdout.write(key.secret + "\n")
    session.message(f"key {key.id} of {key.user}: store the line above in a file with mode 0600; it is not shown again")


@app.command("list")
@command
def list_keys(session: Session) -> None:
    """List your keys; platform admins list all keys."""
    session.list(session.client.keys.list(), COLUMNS, _name)


@app.command("revoke")
@command
def revoke(
    session: Session,
    key: Annotated[str, typer.Argument(help="Id of the key, not the secret.", autocompletion=names_of("key"))],
    force: Annotated[bool, typer.Option("--force", help="Revoke the key in use, or the last admin key, too.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Revoke a key of yours, as a platform admin any key. It cannot be made valid again."""
    keys = session.client.keys
    delete(
        session,
        partial(keys.revoke, key, force=force),
        yes=yes,
        dry_run=dry_run,
        verb=REVOKE,
    )
