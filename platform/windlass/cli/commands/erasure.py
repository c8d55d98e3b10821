"""``windlass erasure``: erasures of data subjects and their certificates."""

from pathlib import Path
from typing import Annotated

import typer

from windlass.cli.deletion import Yes
from windlass.cli.erasing import COLUMNS, DETAILS, finish, name_of
from windlass.cli.safe_text import json_text
from windlass.cli.session import Session, command, command_group

app = command_group("List, confirm and cancel erasures; get their certificates. `dataset erase` starts one.")

Erasure = Annotated[str, typer.Argument(help="Id of the erasure.", metavar="ID")]


@app.command("list")
@command
def list_erasures(session: Session) -> None:
    """List the erasures of the project."""
    session.list(session.client.erasures.list(), COLUMNS, name_of)


@app.command("show")
@command
def show(session: Session, erasure: Erasure) -> None:
    """Show an erasure: its state, the counts, and what became of the models and endpoints."""
    session.show(session.client.erasures.get(erasure), DETAILS, name_of)


@app.command("confirm")
@command
def confirm(session: Session, erasure: Erasure, yes: Yes = False) -> None:
    """Erase the rows that were found, and delete all dataset versions that have them."""
    finish(session, session.client.erasures.wait(erasure), yes=yes)


@app.command("cancel")
@command
def cancel(session: Session, erasure: Erasure) -> None:
    """Cancel an erasure that has not been confirmed, and delete its search keys."""
    session.show(session.client.erasures.cancel(erasure), COLUMNS, name_of)


@app.command("certificate")
@command
def certificate(
    session: Session,
    erasure: Erasure,
    file: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
) -> None:
    """Print the certificate as JSON. It changes until the last model and endpoint are gone."""
    found = session.client.erasures.certificate(erasure)
    if file is None:
        session.document(found)
        return
    file.write_text(json_text(found) + "\n", "utf-8")
    session.message(f"certificate written to {file}")
