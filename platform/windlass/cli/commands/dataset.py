"""``windlass dataset``: upload, validate and clean datasets."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from windlass.cli import errors
from windlass.cli.cleaning import steps_from_file, steps_from_flags
from windlass.cli.dataset_report import show_report
from windlass.cli.deletion import Cascade, DryRun, Yes, delete
from windlass.cli.erasing import finish as finish_erasure
from windlass.cli.erasing import parse_conditions, read_rows_file
from windlass.cli.name_completion import names_of
from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.cli.specs import parse_duration
from windlass.cli.upload_options import UploadOptions
from windlass.cli.uploading import upload_files
from windlass.domain.datasets import Split, VersionState
from windlass.domain.ingest import FileFormat, Quoting, RowFormat
from windlass.domain.specs import Task
from windlass.wire.datasets import DatasetOut, DatasetVersionOut

app = command_group("Upload, validate and clean datasets.")

_COLUMNS = (
    Column[DatasetOut]("name", lambda dataset: dataset.name),
    Column[DatasetOut]("task", lambda dataset: dataset.task),
    Column[DatasetOut]("latest", lambda dataset: dataset.latest and f"{dataset.name}@{dataset.latest}"),
    Column[DatasetOut]("purposes", lambda dataset: dataset.purposes, shrinks=True),
    Column[DatasetOut]("consent until", lambda dataset: dataset.consent_until and f"{dataset.consent_until:%Y-%m-%d}"),
    Column[DatasetOut]("description", lambda dataset: dataset.description, shrinks=True),
    Column[DatasetOut]("age", lambda dataset: dataset.created_at),
)
VERSION_COLUMNS = (
    Column[DatasetVersionOut]("ref", lambda version: version.ref),
    Column[DatasetVersionOut]("state", lambda version: version.state),
    Column[DatasetVersionOut](
        "rows", lambda version: {str(split): rows for split, rows in version.rows.items()}, shrinks=True
    ),
    Column[DatasetVersionOut]("labels", lambda version: version.labels, shrinks=True),
    Column[DatasetVersionOut]("errors", lambda version: version.errors),
    Column[DatasetVersionOut]("warnings", lambda version: version.warnings),
    Column[DatasetVersionOut](
        "origin", lambda version: [version.origin, *(str(step["op"]) for step in version.steps)], shrinks=True
    ),
    Column[DatasetVersionOut]("age", lambda version: version.created_at),
)
_DETAILS = (
    *VERSION_COLUMNS,
    Column[DatasetVersionOut](
        "options", lambda version: version.options.model_dump(mode="json", exclude_defaults=True) or None
    ),
    Column[DatasetVersionOut]("digest", lambda version: version.digest),
    Column[DatasetVersionOut]("problem", lambda version: version.problem),
)

Ref = Annotated[
    str, typer.Argument(help="NAME or NAME@NUMBER.", metavar="REF", autocompletion=names_of("dataset", versions=True))
]
Timeout = Annotated[str | None, typer.Option(help="Maximum waiting time, for example 10m.")]


def _name(dataset: DatasetOut) -> str:
    return dataset.name


def _ref(version: DatasetVersionOut) -> str:
    return version.ref


@app.command("create")
@command
def create(
    session: Session,
    name: Annotated[str, typer.Argument()],
    task: Annotated[Task, typer.Option(help="Task of the dataset.")],
    description: Annotated[str, typer.Option(help="Description of the dataset.")] = "",
    purpose: Annotated[list[str] | None, typer.Option(help="What jobs may train on it for; default: anything.")] = None,
    consent_until: Annotated[datetime | None, typer.Option(help="End of the consent, UTC.")] = None,
) -> None:
    """Create an empty dataset; `upload` creates a missing dataset itself."""
    created = session.client.datasets.create(
        name, task, description=description, purposes=purpose or (), consent_until=_utc(consent_until)
    )
    session.show(created, _COLUMNS, _name)


@app.command("set-purposes")
@command
def set_purposes(
    session: Session,
    name: Annotated[str, typer.Argument(autocompletion=names_of("dataset"))],
    purpose: Annotated[list[str] | None, typer.Argument(help="What jobs may train on it for; none: anything.")] = None,
    consent_until: Annotated[datetime | None, typer.Option(help="End of the consent, UTC.")] = None,
    no_consent_end: Annotated[bool, typer.Option("--no-consent-end", help="Remove the end of the consent.")] = False,
) -> None:
    """Set what a dataset may be used for. Models and accepted jobs keep what they had."""
    until: datetime | Literal["none"] | None = "none" if no_consent_end else _utc(consent_until)
    updated = session.client.datasets.update(name, purposes=purpose or (), consent_until=until)
    session.show(updated, _COLUMNS, _name)


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)


@app.command("upload")
@command
def upload(  # noqa: PLR0913 - one parameter per flag
    session: Session,
    *,
    name: Annotated[
        str, typer.Argument(help="Dataset; created if it does not exist.", autocompletion=names_of("dataset"))
    ],
    files: Annotated[
        list[str], typer.Argument(help="Files; prefix one with a split: train=FILE, validation=FILE or test=FILE.")
    ],
    task: Annotated[Task | None, typer.Option(help="Task of a new dataset.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Map a field to a column of the file, for example text=review.")
    ] = None,
    file_format: Annotated[FileFormat | None, typer.Option(help="Default: by file name extension.")] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Character encoding, for example windows-1252. Default: UTF-8 or UTF-16."),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Delimiter: comma, semicolon, tab, pipe or a character. Default: detected.")
    ] = None,
    quoting: Annotated[
        Quoting | None, typer.Option(help='Whether a field can be quoted with ". Default: yes in CSV, detected in TSV.')
    ] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="The first row is data; columns of CSV and TSV are numbered from 1.")
    ] = False,
    row_format: Annotated[RowFormat | None, typer.Option(help="Default: by task and columns.")] = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Accept rows that are in both train and a held-out split.")
    ] = False,
    skip_unsupported: Annotated[
        bool, typer.Option("--skip-unsupported", help="Leave out rows with tool calls or content other than text.")
    ] = False,
    validation_fraction: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.9,
            help="Fraction to hold out when no file is for validation. Default: 0.2; 0: none.",
        ),
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Resume the upload with this id; give the same files.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the validation and print its report.")] = True,
    timeout: Timeout = None,
) -> None:
    """Upload files as a new version and print the validation report."""
    options = UploadOptions(
        name=name,
        files=tuple(files),
        task=task,
        column=tuple(column or ()),
        file_format=file_format,
        encoding=encoding,
        delimiter=delimiter,
        quoting=quoting,
        no_header=no_header,
        row_format=row_format,
        allow_overlap=allow_overlap,
        skip_unsupported=skip_unsupported,
        validation_fraction=validation_fraction,
        resume=resume,
    )
    version = upload_files(session, options)
    _finish(session, version, wait=wait, timeout=timeout)


@app.command("list")
@command
def list_datasets(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(help="Dataset whose versions are listed.", autocompletion=names_of("dataset"))
    ] = None,
) -> None:
    """List the datasets, or the versions of a dataset."""
    if name is None:
        session.list(session.client.datasets.list(), _COLUMNS, _name)
    else:
        session.list(session.client.datasets.versions(name), VERSION_COLUMNS, _ref)


@app.command("show")
@command
def show(session: Session, reference: Ref) -> None:
    """Show a dataset with its versions, or one version."""
    if "@" in reference:
        session.show(session.client.datasets.version(reference), _DETAILS, _ref)
        return
    session.show(session.client.datasets.get(reference), _COLUMNS, _name)
    if not session.machine:
        session.list(session.client.datasets.versions(reference), VERSION_COLUMNS, _ref)


@app.command("report")
@command
def report(
    session: Session,
    reference: Ref,
    html: Annotated[Path | None, typer.Option(help="Write the report as an HTML page to this file.")] = None,
) -> None:
    """Show the validation report of a version."""
    if html is not None:
        html.write_text(session.client.datasets.report_html(reference), "utf-8")
        session.message(f"report written to {html}")
        return
    response = session.client.datasets.report(reference)
    if session.machine:
        session.document(response)
    else:
        show_report(session.out, response)


@app.command("rows")
@command
def rows(
    session: Session,
    reference: Annotated[
        str,
        typer.Argument(
            help="NAME@NUMBER, or NAME for the newest ready version.",
            metavar="REF",
            autocompletion=names_of("dataset", versions=True),
        ),
    ],
    split: Annotated[Split, typer.Option(help="Split to print.")] = Split.TRAIN,
    label: Annotated[str | None, typer.Option(help="Only rows with exactly this label.")] = None,
    text: Annotated[str | None, typer.Option("--find", help="Only rows with a value that contains this text.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Maximum number of rows; 0: all.")] = 20,
) -> None:
    """Print rows as JSON lines."""
    if "@" not in reference:
        latest = session.client.datasets.get(reference).latest
        reference = f"{reference}@{latest}" if latest else reference
    session.lines(session.client.datasets.rows(reference, split=split, label=label, text=text), limit or None)


@app.command("clean")
@command
def clean(  # noqa: PLR0913 - one parameter per flag
    session: Session,
    *,
    reference: Ref,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A YAML list of steps.")] = None,
    drop_missing: Annotated[bool, typer.Option("--drop-missing", help="Drop rows with a missing field.")] = False,
    normalize: Annotated[bool, typer.Option("--normalize", help="Normalize text: Unicode NFC, single spaces.")] = False,
    mask: Annotated[bool, typer.Option("--mask", help="Replace personal data with placeholders.")] = False,
    map_label: Annotated[
        list[str] | None, typer.Option(help="Replace a label, for example invoices=billing.", metavar="OLD=NEW")
    ] = None,
    merge_labels: Annotated[
        bool, typer.Option("--merge-labels", help="Merge labels that differ only in case, spaces or number format.")
    ] = False,
    dedupe: Annotated[bool, typer.Option("--dedupe", help="Keep the first of identical rows.")] = False,
    near: Annotated[bool, typer.Option("--near", help="With --dedupe: also drop near duplicates.")] = False,
    split: Annotated[
        str | None, typer.Option(help="Train/validation/test fractions, for example 0.8/0.2 or 80/10/10.")
    ] = None,
    by_group: Annotated[bool, typer.Option("--by-group", help="Keep the rows of a group in one split.")] = False,
    stratify: Annotated[bool, typer.Option("--stratify", help="Keep the label distribution in each split.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the split.")] = 0,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Accept rows that are in both train and a held-out split.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the new version and print its report.")] = True,
    timeout: Timeout = None,
) -> None:
    """Create a new version with cleaning steps, applied in the order of these flags.

    The order is: drop-missing, normalize, mask, map-label, merge-labels, dedupe, split. A file sets any other order.
    """
    flags: dict[str, Any] = {
        "drop_missing": drop_missing,
        "normalize": normalize,
        "map_label": tuple(map_label or ()),
        "merge_labels": merge_labels,
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
@command
def wait_version(session: Session, reference: Ref, timeout: Timeout = None) -> None:
    """Wait until a version is processed; exit 1 if it is rejected or failed."""
    _finish(session, session.client.datasets.version(reference), wait=True, timeout=timeout)


@app.command("delete")
@command
def delete_dataset(
    session: Session,
    reference: Annotated[
        str,
        typer.Argument(
            help="NAME: the dataset with all versions; NAME@NUMBER: one version.",
            metavar="REF",
            autocompletion=names_of("dataset", versions=True),
        ),
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
    cascade: Cascade = False,
) -> None:
    """Delete a dataset with all versions, or one version; models that were trained on it stay."""
    datasets = session.client.datasets
    call = datasets.delete_version if "@" in reference else datasets.delete
    delete(session, partial(call, reference, cascade=cascade), yes=yes, dry_run=dry_run)


@app.command("erase")
@command
def erase(
    session: Session,
    *,
    name: Annotated[str, typer.Argument(help="Dataset.", autocompletion=names_of("dataset"))],
    text_contains: Annotated[
        list[str] | None, typer.Option(help="Find rows with this text; case and white space are ignored.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Find rows with these values.", metavar="COLUMN=VALUE")
    ] = None,
    rows_file: Annotated[
        Path | None, typer.Option(help="File with a text, or a JSON object of columns and values, on each line.")
    ] = None,
    yes: Yes = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count the rows; `erasure confirm` erases them.")
    ] = False,
) -> None:
    """Erase the rows of a data subject from all versions, and flag the models that were trained on them."""
    texts, rows = read_rows_file(rows_file) if rows_file else ([], [])
    rows += [parse_conditions(where)] if where else []
    erasures = session.client.erasures
    started = erasures.start(name, contains=[*(text_contains or ()), *texts], rows=rows)
    finish_erasure(session, erasures.wait(started.id), yes=yes, dry_run=dry_run)


def _finish(session: Session, version: DatasetVersionOut, *, wait: bool, timeout: str | None) -> None:
    if wait:
        with session.detach_on_interrupt(f"the processing of {version.ref}", f"windlass dataset wait {version.ref}"):
            version = session.client.datasets.wait(
                version.ref, timeout=None if timeout is None else parse_duration(timeout)
            )
        if not session.machine and version.state in {VersionState.READY, VersionState.REJECTED}:
            show_report(session.out, session.client.datasets.report(version.ref))
    if session.machine or not wait or version.state is VersionState.FAILED:
        session.show(version, _DETAILS, _ref)
    if version.state in {VersionState.REJECTED, VersionState.FAILED}:
        session.message(f"{version.ref} is {version.state} and cannot be used. {version.problem}".rstrip())
        raise typer.Exit(errors.FAILED)
    if wait:
        session.message(f"{version.ref} is ready")
