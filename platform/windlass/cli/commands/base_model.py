"""``windlass base-model``: the models that jobs may start from."""

from pathlib import Path
from typing import Annotated

import typer

from windlass.cli import failures
from windlass.cli.render import Column, size
from windlass.cli.session import Session, noun, verb
from windlass.cli.specs import seconds
from windlass.wire.jobs import BaseModelOut

app = noun("The models that jobs may start from.")

_COLUMNS = (
    Column[BaseModelOut]("name", lambda model: model.name),
    Column[BaseModelOut]("state", lambda model: model.state),
    Column[BaseModelOut]("tasks", lambda model: [str(task) for task in model.tasks]),
    Column[BaseModelOut]("parameters", lambda model: model.parameters and f"{model.parameters / 1e6:.1f} M"),
    Column[BaseModelOut]("size", lambda model: size(model.bytes)),
    Column[BaseModelOut]("licence", lambda model: model.licence),
)
_DETAILS = (
    *_COLUMNS,
    Column[BaseModelOut]("source", lambda model: model.source),
    Column[BaseModelOut]("digest", lambda model: model.digest),
    Column[BaseModelOut]("problem", lambda model: model.problem),
    Column[BaseModelOut]("age", lambda model: model.created_at),
)


def _name(model: BaseModelOut) -> str:
    return model.name


@app.command("list")
@verb
def list_base_models(session: Session) -> None:
    """List the catalogue."""
    session.list(session.client.base_models.list(), _COLUMNS, _name)


@app.command("show")
@verb
def show(session: Session, name: Annotated[str, typer.Argument()]) -> None:
    """Show a base model."""
    session.show(session.client.base_models.get(name), _DETAILS, _name)


@app.command("add")
@verb
def add(
    session: Session,
    *,
    name: Annotated[str, typer.Argument()],
    folder: Annotated[Path, typer.Argument(help="A folder on the server's disk with safetensors or GGUF weights.")],
    licence: Annotated[str, typer.Option(help="The model's licence, like Apache-2.0.")] = "unknown",
    source: Annotated[str, typer.Option(help="Where it comes from.")] = "",
    wait: Annotated[bool, typer.Option(help="Wait until it is imported.")] = True,
    timeout: Annotated[str | None, typer.Option(help="Stop waiting after this long, like 10m.")] = None,
) -> None:
    """Import a base model (platform admins, server on this machine)."""
    model = session.client.base_models.add(name, str(folder.absolute()), licence=licence, source=source)
    if wait:
        with session.detaching(f"the import of {name}", f"windlass base-model show {name}"):
            model = session.client.base_models.wait(name, timeout=None if timeout is None else seconds(timeout))
    session.show(model, _DETAILS, _name)
    if model.state == "failed":
        raise typer.Exit(failures.FAILED)


@app.command("delete")
@verb
def delete(session: Session, name: Annotated[str, typer.Argument()]) -> None:
    """Take a model out of the catalogue (platform admins)."""
    session.client.base_models.delete(name)
    session.say(f"base model {name} is deleted")
