"""``windlass login``: sign in, or store an API key."""

from typing import Annotated

import typer

from windlass.cli.session import Session, command
from windlass.domain.errors import InvalidError
from windlass.sdk import Client
from windlass.sdk.connection import config_path, read_config
from windlass.sdk.sign_in import DeviceCode, sign_in, store_credential

app = typer.Typer()


@app.command()
@command
def login(
    session: Session,
    url: Annotated[str | None, typer.Argument(help="URL of the server; default: the one of the last login.")] = None,
) -> None:
    """Sign in at the identity provider of a server, and store the session; with --key-file, store that API key.

    Later commands use the server and the credential.
    """
    url = url or session.server or read_config(config_path()).get("url")
    if url is None:
        raise InvalidError("no server is given", hint="windlass login https://windlass.example.org")
    if session.key_file is not None:
        with Client(url=url, key_file=session.key_file) as client:
            me = client.server.whoami()
        store_credential(config_path(), url, key_file=session.key_file)
        session.message(f"signed in as {me.user}; the key stays in {session.key_file}")
        return

    def show(device: DeviceCode) -> None:
        session.message(f"open {device.complete_url}\nand check that it shows the code {device.code}")

    new = sign_in(url, show)
    store_credential(config_path(), url, secret=new.secret)
    session.message(f"signed in as {new.user} until {new.expires_at:%Y-%m-%d %H:%M} UTC")
