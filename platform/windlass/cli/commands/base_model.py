"""``windlass base-model``: the models from which jobs start."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from windlass.cli import errors
from windlass.cli.deletion import DryRun, Yes, delete
from windlass.cli.name_completion import names_of
from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.cli.specs import parse_duration
from windlass.cli.uploading import ProgressBars
from windlass.kit.numbers import size
from windlass.wire.jobs import BaseModelOut

app = command_group("Manage the base models from which jobs start.")

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
@command
def list_base_models(session: Session) -> None:
    """List the base models."""
    session.list(session.client.base_models.list(), _COLUMNS, _name)


@app.command("show")
@command
def show(session: Session, name: Annotated[str, typer.Argument(autocompletion=names_of("base model"))]) -> None:
    """Show a base model."""
    session.show(session.client.base_models.get(name), _DETAILS, _name)


@app.command("add")
@command
def add(
    session: Session,
    *,
    name: Annotated[str, typer.Argument()],
    folder: Annotated[Path, typer.Argument(help="Folder with safetensors or GGUF weights, or a GGUF file.")],
    licence: Annotated[str, typer.Option(help="Licence of the model, for example Apache-2.0.")] = "unknown",
    source: Annotated[str, typer.Option(help="Origin of the model, for example a URL.")] = "",
    wait: Annotated[bool, typer.Option(help="Wait until the import ends.")] = True,
    timeout: Annotated[str | None, typer.Option(help="Maximum waiting time, for example 10m.")] = None,
) -> None:
    """Import a base model (platform admins): from the server's disk, or in a cluster by an upload of its files."""
    with ExitStack() as stack:
        bars = ProgressBars(session, stack)
        model = session.client.base_models.add(
            name, folder.absolute(), licence=licence, source=source, progress=bars.update
        )
    if wait:
        with session.detach_on_interrupt(f"the import of {name}", f"windlass base-model show {name}"):
            model = session.client.base_models.wait(name, timeout=None if timeout is None else parse_duration(timeout))
    session.show(model, _DETAILS, _name)
    if model.state == "failed":
        raise typer.Exit(errors.FAILED)


@app.command("delete")
@command
def delete_base_model(
    session: Session,
    name: Annotated[str, typer.Argument(autocompletion=names_of("base model"))],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Delete a base model that no active job uses; models tuned from it stay (platform admins)."""
    models = session.client.base_models
    delete(session, partial(models.delete, name), yes=yes, dry_run=dry_run)
