"""``windlass model``: registered models, versions, reports, aliases, files."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from windlass.cli.deletion import Cascade, DryRun, Yes, delete
from windlass.cli.job_views import evaluation_text, warning_texts
from windlass.cli.name_completion import names_of
from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.kit.numbers import size
from windlass.wire.models import ModelOut, ModelVersionOut

app = command_group("Manage registered models: versions, reports, aliases, files.")


def _ref(version: ModelVersionOut) -> str:
    return f"{version.model}@{version.number}"


def _lineage(version: ModelVersionOut) -> str:
    """Return the path from the first dataset version to the model, such as ``reviews@1 -> reviews@2 -> job -> m@1``."""
    origins = {(edge.subject, edge.relation): edge for edge in version.lineage}
    path = [_ref(version), version.job]
    edge = origins.get((f"model-version:{version.id}", "trained-on"))
    while edge is not None:
        path.append(edge.object_name or "a deleted dataset version")
        edge = origins.get((edge.object, "cleaned-from"))
    return " -> ".join(reversed(path))


_COLUMNS = (
    Column[ModelOut]("name", lambda model: model.name),
    Column[ModelOut]("task", lambda model: model.task),
    Column[ModelOut]("latest", lambda model: model.latest and f"{model.name}@{model.latest}"),
    Column[ModelOut]("aliases", lambda model: model.aliases, shrinks=True),
    Column[ModelOut]("description", lambda model: model.description, shrinks=True),
    Column[ModelOut]("erasure pending", lambda model: model.erasure_pending),
    Column[ModelOut]("age", lambda model: model.created_at),
)
_VERSION_COLUMNS = (
    Column[ModelVersionOut]("ref", _ref),
    Column[ModelVersionOut]("decision", lambda version: version.decision),
    Column[ModelVersionOut]("evaluation", lambda version: evaluation_text(version.evaluation) or None, shrinks=True),
    Column[ModelVersionOut]("dataset", lambda version: version.dataset),
    Column[ModelVersionOut]("base model", lambda version: version.base_model),
    Column[ModelVersionOut]("size", lambda version: size(version.bytes)),
    Column[ModelVersionOut]("purposes", lambda version: version.purposes, shrinks=True),
    Column[ModelVersionOut]("erasure pending", lambda version: version.erasure_pending),
    Column[ModelVersionOut]("age", lambda version: version.created_at),
)
_DETAILS = (
    *_VERSION_COLUMNS,
    Column[ModelVersionOut]("reason", lambda version: version.reason and version.reason.message),
    Column[ModelVersionOut]("warnings", lambda version: warning_texts(version.warnings)),
    Column[ModelVersionOut]("job", lambda version: version.job),
    Column[ModelVersionOut]("digest", lambda version: version.digest),
    Column[ModelVersionOut]("lineage", _lineage),
    Column[ModelVersionOut]("files", lambda version: [f"{file.path} ({size(file.bytes)})" for file in version.files]),
)

Ref = Annotated[
    str,
    typer.Argument(
        help="NAME@NUMBER, NAME@ALIAS, or NAME for the newest.",
        metavar="REF",
        autocompletion=names_of("model", versions=True),
    ),
]


def _name(model: ModelOut) -> str:
    return model.name


@app.command("list")
@command
def list_models(session: Session) -> None:
    """List the models."""
    session.list(session.client.models.list(), _COLUMNS, _name)


@app.command("show")
@command
def show(session: Session, reference: Ref) -> None:
    """Show a model with its versions, or one version (NAME@NUMBER, NAME@ALIAS)."""
    if "@" in reference:
        session.show(session.client.models.version(reference), _DETAILS, _ref)
        return
    session.show(session.client.models.get(reference), _COLUMNS, _name)
    if not session.machine:
        session.write("\n")
        session.list(session.client.models.versions(reference), _VERSION_COLUMNS, _ref)


@app.command("versions")
@command
def versions(session: Session, name: Annotated[str, typer.Argument(autocompletion=names_of("model"))]) -> None:
    """List a model's versions."""
    session.list(session.client.models.versions(name), _VERSION_COLUMNS, _ref)


@app.command("report")
@command
def report(
    session: Session,
    reference: Ref,
    html: Annotated[Path | None, typer.Option(help="Write the HTML report to this file.")] = None,
) -> None:
    """Show the evaluation of a version; --html writes the full report."""
    if html is not None:
        html.write_text(session.client.models.report_html(reference), "utf-8")
        session.message(f"report written to {html}")
        return
    if session.machine:
        session.document(session.client.models.report(reference).model_dump(mode="json"))
    else:
        version = session.client.models.version(reference)
        session.show(version, _DETAILS, _ref)
        html_command = session.suggestion(f"windlass model report {_ref(version)} --html report.html")
        session.message(f"full report: {html_command}")


@app.command("download")
@command
def download(
    session: Session,
    reference: Ref,
    target: Annotated[Path | None, typer.Argument(help="New folder; default: ./NAME-NUMBER.")] = None,
) -> None:
    """Download the files of a version; the folder is created after all hashes are verified."""
    version = session.client.models.version(reference)
    session.message(f"downloading {_ref(version)}: {len(version.files)} files, {size(version.bytes)}")
    folder = target or Path(f"{version.model}-{version.number}")
    session.names([str(session.client.models.download(_ref(version), folder))])


@app.command("alias")
@command
def alias(
    session: Session,
    reference: Annotated[
        str,
        typer.Argument(
            help="NAME@NUMBER; NAME with --remove.", metavar="REF", autocompletion=names_of("model", versions=True)
        ),
    ],
    name: Annotated[str, typer.Argument(help="Alias, for example champion.", metavar="ALIAS")],
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
) -> None:
    """Point an alias at a version, or remove it."""
    models = session.client.models
    if remove:
        models.remove_alias(reference.partition("@")[0], name)
        session.message(f"alias {name} removed")
        return
    version = models.version(reference)
    session.show(models.set_alias(version.model, name, version.number), _COLUMNS, _name)


@app.command("delete")
@command
def delete_model(
    session: Session,
    reference: Annotated[
        str,
        typer.Argument(
            help="NAME: the model with all versions; NAME@NUMBER: one version.",
            metavar="REF",
            autocompletion=names_of("model", versions=True),
        ),
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
    cascade: Cascade = False,
) -> None:
    """Delete a model with all versions, or one version, which no alias or endpoint may use."""
    models = session.client.models
    call = models.delete_version if "@" in reference else models.delete
    delete(session, partial(call, reference, cascade=cascade), yes=yes, dry_run=dry_run)
