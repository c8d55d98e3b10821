"""``windlass service-account``: accounts of programs, and their API keys."""

from functools import partial
from typing import Annotated

import typer

from windlass.cli.commands.key import COLUMNS as KEY_COLUMNS
from windlass.cli.commands.key import Out, deliver
from windlass.cli.deletion import REVOKE, DryRun, Yes, delete
from windlass.cli.output_files import require_folder
from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.domain.projects import Permission, Role
from windlass.wire.identity import ServiceAccountOut

app = command_group("Manage the accounts of programs in a project, and their API keys.")

_COLUMNS = (
    Column[ServiceAccountOut]("name", lambda account: account.name),
    Column[ServiceAccountOut]("role", lambda account: account.role),
    Column[ServiceAccountOut]("description", lambda account: account.description),
    Column[ServiceAccountOut]("age", lambda account: account.created_at),
)

Account = Annotated[str, typer.Argument(metavar="NAME", help="Name of the service account.")]
RoleArgument = Annotated[
    Role, typer.Argument(help="viewer: read and predict; editor: also train and deploy; admin: also manage members.")
]
Key = Annotated[str, typer.Argument(help="Id of the key, not the secret.")]


def _name(account: ServiceAccountOut) -> str:
    return account.name


@app.command("list")
@command
def list_accounts(session: Session) -> None:
    """List the service accounts of the project."""
    session.list(session.client.service_accounts.list(), _COLUMNS, _name)


@app.command("create")
@command
def create(
    session: Session,
    name: Account,
    role: RoleArgument,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Create a service account. It has no key yet."""
    account = session.client.service_accounts.create(name, role.value, description=description)
    session.show(account, _COLUMNS, _name)


@app.command("set-role")
@command
def set_role(session: Session, name: Account, role: RoleArgument) -> None:
    """Change the role of a service account, for all its keys."""
    session.show(session.client.service_accounts.set_role(name, role.value), _COLUMNS, _name)


@app.command("delete")
@command
def delete_account(session: Session, name: Account, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Delete a service account with its keys."""
    delete(session, partial(session.client.service_accounts.delete, name), yes=yes, dry_run=dry_run)


@app.command("create-key")
@command
def create_key(
    session: Session,
    account: Account,
    *,
    name: Annotated[str, typer.Option(help="Display name of the key.")] = "",
    permission: Annotated[
        list[Permission] | None,
        typer.Option(help="A permission of the key; repeat it for several; default: all that the role has."),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--expires-in-days", min=1, max=3650, help="Lifetime in days; default: no expiry.")
    ] = None,
    out: Out = None,
) -> None:
    """Create a key of a service account. The secret is printed once, on standard output."""
    if out is not None:  # before there is a secret
        require_folder(out)
    accounts = session.client.service_accounts
    key = accounts.create_key(account, name=name, permissions=permission or None, expires_in_days=days)
    deliver(session, key, out)


@app.command("list-keys")
@command
def list_keys(session: Session, account: Account) -> None:
    """List the keys of a service account."""
    session.list(session.client.service_accounts.list_keys(account), KEY_COLUMNS, lambda key: key.id)


@app.command("renew-key")
@command
def renew_key(session: Session, account: Account, key: Key, out: Out = None) -> None:
    """Replace a key by one with the same rights and lifetime; the old one stays valid for an hour."""
    if out is not None:
        require_folder(out)
    deliver(session, session.client.service_accounts.renew_key(account, key), out)


@app.command("revoke-key")
@command
def revoke_key(session: Session, account: Account, key: Key, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Revoke a key of a service account. It cannot be made valid again."""
    action = partial(session.client.service_accounts.revoke_key, account, key)
    delete(session, action, yes=yes, dry_run=dry_run, verb=REVOKE)
