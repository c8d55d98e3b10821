"""Sends files with a progress bar, and says how to go on after Ctrl-C."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from windlass.cli import failures
from windlass.cli.session import Session
from windlass.domain.datasets import FileFormat, IngestOptions, RowFormat, Split
from windlass.domain.errors import InvalidError, UnavailableError
from windlass.domain.specs import Task
from windlass.wire.datasets import DatasetVersionOut, UploadOut

if TYPE_CHECKING:
    from windlass.sdk import SourceFile


class UploadFlags(NamedTuple):
    """What the command line says."""

    name: str
    files: tuple[str, ...]
    task: Task
    columns: tuple[str, ...]
    file_format: FileFormat | None
    row_format: RowFormat | None
    allow_overlap: bool
    resume: str | None


def upload_files(session: Session, flags: UploadFlags) -> DatasetVersionOut:
    """Send the files and commit.

    Raises:
        InvalidError: a file or flag is wrong.
        UnavailableError: the connection broke again and again; the hint says how to go on.
    """
    sources = [_source(text) for text in flags.files]
    options = IngestOptions(
        file_format=flags.file_format,
        row_format=flags.row_format,
        columns=_columns(flags.columns),
        allow_overlap=flags.allow_overlap,
    )
    upload: UploadOut | None = None

    def opened(begun: UploadOut) -> None:
        nonlocal upload
        upload = begun

    def back() -> str:
        return f"the same command with --resume {upload.id}" if upload else "the same command"

    try:
        with ExitStack() as stack:
            bars = _Bars(session, stack)
            return session.client.datasets.upload(
                flags.name,
                sources,
                task=flags.task,
                options=options,
                resume=flags.resume,
                progress=bars.moved,
                opened=opened,
            )
    except KeyboardInterrupt:
        session.say(f"\nstopped: nothing of it is visible yet. Go on with: {back()}")
        raise typer.Exit(failures.INTERRUPTED) from None
    except UnavailableError as error:
        raise UnavailableError(error.message, hint=f"go on with {back()}") from error


class _Bars:
    """One bar per file on a terminal; nothing elsewhere."""

    def __init__(self, session: Session, stack: ExitStack) -> None:
        self._tasks: dict[str, int] = {}
        self._progress: Progress | None = None
        if session.live:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._progress = stack.enter_context(Progress(*columns, console=session.err, transient=True))

    def moved(self, name: str, position: int, total: int) -> None:
        if self._progress is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._progress.task_ids[self._tasks[name]], completed=position)


def _source(text: str) -> "SourceFile":
    from windlass.sdk import SourceFile  # noqa: PLC0415 - the HTTP stack doubles the time of `--help`

    split, separator, path = text.partition("=")
    if separator and split in {part.value for part in Split}:
        return SourceFile(Path(path), Split(split))
    return SourceFile(Path(text))


def _columns(texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        field, separator, column = text.partition("=")
        if not separator or not field or not column:
            raise InvalidError(f"--column {text!r}", hint="write FIELD=COLUMN, like --column text=review")
        found[field] = column
    return found
