"""``windlass open``: the web console."""

import webbrowser
from typing import Annotated

import typer

from windlass.cli.session import Session, command
from windlass.domain.errors import ForbiddenError

app = typer.Typer()


@app.command("open")
@command
def open_console(
    session: Session,
    show: Annotated[
        bool, typer.Option("--print", help="Print the address for a browser on another machine; open none.")
    ] = False,
) -> None:
    """Open the web console in a browser, signed in as you.

    With an API key the address contains a code that signs one browser in, within a minute. Give it to nobody.
    """
    url = session.client.connection.url
    try:
        address = url + session.client.sessions.create_link().path
    except ForbiddenError:  # no API key: the browser has a session, or signs in at the identity provider
        address = url
    if session.machine:
        session.document({"url": address})
    elif show or not webbrowser.open(address):
        session.write(f"{address}\n")
    else:
        session.message(f"opened {url} in your browser")
