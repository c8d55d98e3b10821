"""``windlass logout``: end the session and forget the credential."""

import contextlib

import typer

from windlass.cli.session import Session, command
from windlass.domain.errors import NotFoundError, UnauthenticatedError
from windlass.sdk.connection import config_path
from windlass.sdk.sign_in import forget_credential

app = typer.Typer()


@app.command()
@command
def logout(session: Session) -> None:
    """End the session of `windlass login`, and remove the stored credential. An API key stays valid."""
    with contextlib.suppress(NotFoundError, UnauthenticatedError):  # it is a key, or the session has ended
        session.client.sessions.sign_out()
    forget_credential(config_path())
    session.message("signed out")
