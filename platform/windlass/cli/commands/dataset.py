"""``windlass dataset``: upload, check, clean."""

from pathlib import Path
from typing import Annotated, Any

import typer

from windlass.cli import failures
from windlass.cli.cleaning import steps_from_file, steps_from_flags
from windlass.cli.dataset_report import show_report
from windlass.cli.render import Column
from windlass.cli.session import Session, noun, verb
from windlass.cli.specs import seconds
from windlass.cli.uploading import UploadFlags, upload_files
from windlass.domain.datasets import FileFormat, RowFormat, Split, VersionState
from windlass.domain.specs import Task
from windlass.wire.datasets import DatasetOut, DatasetVersionOut

app = noun("Upload, check and clean data.")

_COLUMNS = (
    Column[DatasetOut]("name", lambda dataset: dataset.name),
    Column[DatasetOut]("task", lambda dataset: dataset.task),
    Column[DatasetOut]("latest", lambda dataset: dataset.latest and f"{dataset.name}@{dataset.latest}"),
    Column[DatasetOut]("description", lambda dataset: dataset.description),
    Column[DatasetOut]("age", lambda dataset: dataset.created_at),
)
VERSION_COLUMNS = (
    Column[DatasetVersionOut]("ref", lambda version: version.ref),
    Column[DatasetVersionOut]("state", lambda version: version.state),
    Column[DatasetVersionOut]("rows", lambda version: {str(split): rows for split, rows in version.rows.items()}),
    Column[DatasetVersionOut]("labels", lambda version: version.labels),
    Column[DatasetVersionOut]("errors", lambda version: version.errors),
    Column[DatasetVersionOut]("warnings", lambda version: version.warnings),
    Column[DatasetVersionOut]("made by", lambda version: [str(step["op"]) for step in version.steps] or version.origin),
    Column[DatasetVersionOut]("age", lambda version: version.created_at),
)
_DETAILS = (
    *VERSION_COLUMNS,
    Column[DatasetVersionOut]("digest", lambda version: version.digest),
    Column[DatasetVersionOut]("problem", lambda version: version.problem),
)

Ref = Annotated[str, typer.Argument(help="NAME or NAME@NUMBER.", metavar="REF")]
Timeout = Annotated[str | None, typer.Option(help="Stop waiting after this long, like 10m.")]


def _name(dataset: DatasetOut) -> str:
    return dataset.name


def _ref(version: DatasetVersionOut) -> str:
    return version.ref


@app.command("create")
@verb
def create(
    session: Session,
    name: Annotated[str, typer.Argument()],
    task: Annotated[Task, typer.Option(help="What the data is for.")],
    description: Annotated[str, typer.Option()] = "",
) -> None:
    """Create a dataset without data; `upload` does it too."""
    session.show(session.client.datasets.create(name, task, description=description), _COLUMNS, _name)


@app.command("upload")
@verb
def upload(  # noqa: PLR0913 - one parameter per flag
    session: Session,
    *,
    name: Annotated[str, typer.Argument(help="The dataset; made if it does not exist.")],
    files: Annotated[list[str], typer.Argument(help="Files; write train=FILE or validation=FILE to say the split.")],
    task: Annotated[Task, typer.Option(help="What the data is for.")],
    column: Annotated[list[str] | None, typer.Option(help="Our field = the file's column, like text=review.")] = None,
    file_format: Annotated[FileFormat | None, typer.Option(help="Default: by the file's ending.")] = None,
    row_format: Annotated[RowFormat | None, typer.Option(help="Default: by task and columns.")] = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Accept held-out rows that train has.")
    ] = False,
    resume: Annotated[str | None, typer.Option(help="Go on with this upload, of the same files.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the validation and show its report.")] = True,
    timeout: Timeout = None,
) -> None:
    """Send files as a new version, and show what the validation finds."""
    flags = UploadFlags(name, tuple(files), task, tuple(column or ()), file_format, row_format, allow_overlap, resume)
    version = upload_files(session, flags)
    _finish(session, version, wait=wait, timeout=timeout)


@app.command("list")
@verb
def list_datasets(
    session: Session, name: Annotated[str | None, typer.Argument(help="List this dataset's versions.")] = None
) -> None:
    """List the datasets, or the versions of one."""
    if name is None:
        session.list(session.client.datasets.list(), _COLUMNS, _name)
    else:
        session.list(session.client.datasets.versions(name), VERSION_COLUMNS, _ref)


@app.command("show")
@verb
def show(session: Session, reference: Ref) -> None:
    """Show a dataset with its versions, or one version."""
    if "@" in reference:
        session.show(session.client.datasets.version(reference), _DETAILS, _ref)
        return
    session.show(session.client.datasets.get(reference), _COLUMNS, _name)
    if not session.machine:
        session.list(session.client.datasets.versions(reference), VERSION_COLUMNS, _ref)


@app.command("report")
@verb
def report(
    session: Session,
    reference: Ref,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file instead.")] = None,
) -> None:
    """Show the validation report of a version."""
    if html is not None:
        html.write_text(session.client.datasets.report_html(reference), "utf-8")
        session.say(f"the report is in {html}")
        return
    found = session.client.datasets.report(reference)
    if session.machine:
        session.document(found)
    else:
        show_report(session.out, found)


@app.command("rows")
@verb
def rows(
    session: Session,
    reference: Annotated[str, typer.Argument(help="NAME@NUMBER, or NAME for the newest ready version.", metavar="REF")],
    split: Annotated[Split, typer.Option(help="Which part.")] = Split.TRAIN,
    limit: Annotated[int, typer.Option(min=0, help="The most rows; 0: all.")] = 20,
) -> None:
    """Print rows as JSON lines."""
    if "@" not in reference:
        latest = session.client.datasets.get(reference).latest
        reference = f"{reference}@{latest}" if latest else reference
    session.lines(session.client.datasets.rows(reference, split=split), limit or None)


@app.command("clean")
@verb
def clean(  # noqa: PLR0913 - one parameter per flag
    session: Session,
    *,
    reference: Ref,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A YAML list of steps.")] = None,
    drop_missing: Annotated[bool, typer.Option("--drop-missing", help="Drop rows with a missing field.")] = False,
    normalize: Annotated[bool, typer.Option("--normalize", help="Unicode NFC, single spaces.")] = False,
    dedupe: Annotated[bool, typer.Option("--dedupe", help="Keep the first of equal rows.")] = False,
    near: Annotated[bool, typer.Option("--near", help="With --dedupe: also of nearly equal rows.")] = False,
    mask: Annotated[bool, typer.Option("--mask", help="Replace personal data by tags.")] = False,
    split: Annotated[str | None, typer.Option(help="Train/validation/test shares, like 0.8/0.2 or 80/10/10.")] = None,
    by_group: Annotated[bool, typer.Option("--by-group", help="Keep the rows of a group together.")] = False,
    stratify: Annotated[bool, typer.Option("--stratify", help="Keep the labels' proportions.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Accept held-out rows that train has.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the new version and show its report.")] = True,
    timeout: Timeout = None,
) -> None:
    """Make a new version by recorded steps; flags are carried out in the order of this help."""
    flags: dict[str, Any] = {
        "drop_missing": drop_missing,
        "normalize": normalize,
        "dedupe": dedupe,
        "near": near,
        "mask": mask,
        "split": split,
        "by_group": by_group,
        "stratify": stratify,
        "seed": seed,
    }
    steps = steps_from_file(file, flags) if file else steps_from_flags(flags)
    version = session.client.datasets.clean(reference, steps, allow_overlap=allow_overlap)
    _finish(session, version, wait=wait, timeout=timeout)


@app.command("wait")
@verb
def wait_version(session: Session, reference: Ref, timeout: Timeout = None) -> None:
    """Wait until a version is processed; exit 1 when it is rejected."""
    _finish(session, session.client.datasets.version(reference), wait=True, timeout=timeout)


@app.command("delete")
@verb
def delete(session: Session, reference: Ref) -> None:
    """Delete a dataset, or one version (NAME@NUMBER)."""
    if "@" in reference:
        session.client.datasets.delete_version(reference)
    else:
        session.client.datasets.delete(reference)
    session.say(f"{reference} is deleted")


def _finish(session: Session, version: DatasetVersionOut, *, wait: bool, timeout: str | None) -> None:
    if wait:
        with session.detaching(f"the processing of {version.ref}", f"windlass dataset wait {version.ref}"):
            version = session.client.datasets.wait(version.ref, timeout=None if timeout is None else seconds(timeout))
        if not session.machine and version.state in {VersionState.READY, VersionState.REJECTED}:
            show_report(session.out, session.client.datasets.report(version.ref))
    if session.machine or not wait or version.state is VersionState.FAILED:
        session.show(version, _DETAILS, _ref)
    if version.state in {VersionState.REJECTED, VersionState.FAILED}:
        session.say(f"{version.ref} is {version.state} and cannot be used. {version.problem}".rstrip())
        raise typer.Exit(failures.FAILED)
    if wait:
        session.say(f"{version.ref} is ready")
