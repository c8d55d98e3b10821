"""``windlass model``: registered models, versions, reports, aliases, files."""

from pathlib import Path
from typing import Annotated

import typer

from windlass.cli.job_pictures import scalars
from windlass.cli.render import Column, size
from windlass.cli.session import Session, noun, verb
from windlass.wire.models import ModelOut, ModelVersionOut

app = noun("Registered models: versions, reports, aliases, files.")


def _ref(version: ModelVersionOut) -> str:
    return f"{version.model}@{version.number}"


_COLUMNS = (
    Column[ModelOut]("name", lambda model: model.name),
    Column[ModelOut]("task", lambda model: model.task),
    Column[ModelOut]("latest", lambda model: model.latest and f"{model.name}@{model.latest}"),
    Column[ModelOut]("aliases", lambda model: model.aliases),
    Column[ModelOut]("description", lambda model: model.description),
    Column[ModelOut]("age", lambda model: model.created_at),
)
_VERSION_COLUMNS = (
    Column[ModelVersionOut]("ref", _ref),
    Column[ModelVersionOut]("decision", lambda version: version.decision),
    Column[ModelVersionOut]("evaluation", lambda version: scalars(version.evaluation)),
    Column[ModelVersionOut]("dataset", lambda version: version.dataset),
    Column[ModelVersionOut]("base model", lambda version: version.base_model),
    Column[ModelVersionOut]("size", lambda version: size(version.bytes)),
    Column[ModelVersionOut]("age", lambda version: version.created_at),
)
_DETAILS = (
    *_VERSION_COLUMNS,
    Column[ModelVersionOut]("reason", lambda version: version.reason and version.reason.message),
    Column[ModelVersionOut]("job", lambda version: version.job),
    Column[ModelVersionOut]("digest", lambda version: version.digest),
    Column[ModelVersionOut](
        "lineage", lambda version: [f"{edge.subject} {edge.relation} {edge.object}" for edge in version.lineage]
    ),
    Column[ModelVersionOut]("files", lambda version: [f"{file.path} ({size(file.bytes)})" for file in version.files]),
)

Ref = Annotated[str, typer.Argument(help="NAME@NUMBER, NAME@ALIAS, or NAME for the newest.", metavar="REF")]


def _name(model: ModelOut) -> str:
    return model.name


@app.command("list")
@verb
def list_models(session: Session) -> None:
    """List the models."""
    session.list(session.client.models.list(), _COLUMNS, _name)


@app.command("show")
@verb
def show(session: Session, reference: Ref) -> None:
    """Show a model, or one version (NAME@NUMBER, NAME@ALIAS)."""
    if "@" in reference:
        session.show(session.client.models.version(reference), _DETAILS, _ref)
    else:
        session.show(session.client.models.get(reference), _COLUMNS, _name)


@app.command("versions")
@verb
def versions(session: Session, name: Annotated[str, typer.Argument()]) -> None:
    """List a model's versions."""
    session.list(session.client.models.versions(name), _VERSION_COLUMNS, _ref)


@app.command("report")
@verb
def report(
    session: Session,
    reference: Ref,
    html: Annotated[Path | None, typer.Option(help="Write the page with curves and mistakes to this file.")] = None,
) -> None:
    """Show how a version was judged; --html writes the whole report."""
    if html is not None:
        html.write_text(session.client.models.report_html(reference), "utf-8")
        session.say(f"the report is in {html}")
        return
    version = session.client.models.version(reference)
    if session.machine:
        session.document(version.evaluation)
    else:
        session.show(version, _DETAILS, _ref)
        session.say(f"the whole report: windlass model report {_ref(version)} --html report.html")


@app.command("download")
@verb
def download(
    session: Session,
    reference: Ref,
    target: Annotated[Path | None, typer.Argument(help="A new folder; default: NAME-NUMBER here.")] = None,
) -> None:
    """Fetch a version's files; the folder appears when every hash is right."""
    version = session.client.models.version(reference)
    session.say(f"fetching {_ref(version)}: {len(version.files)} files, {size(version.bytes)}")
    folder = target or Path(f"{version.model}-{version.number}")
    session.names([str(session.client.models.download(_ref(version), folder))])


@app.command("alias")
@verb
def alias(
    session: Session,
    reference: Annotated[str, typer.Argument(help="NAME@NUMBER; NAME with --remove.", metavar="REF")],
    name: Annotated[str, typer.Argument(help="The alias, like champion.", metavar="ALIAS")],
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
) -> None:
    """Point an alias at a version, or remove it."""
    models = session.client.models
    if remove:
        models.remove_alias(reference.partition("@")[0], name)
        session.say(f"alias {name} is removed")
        return
    version = models.version(reference)
    session.show(models.set_alias(version.model, name, version.number), _COLUMNS, _name)


@app.command("delete")
@verb
def delete(session: Session, reference: Ref) -> None:
    """Delete a model, or one version (NAME@NUMBER)."""
    if "@" in reference:
        session.client.models.delete_version(reference)
    else:
        session.client.models.delete(reference)
    session.say(f"{reference} is deleted")
