"""Uploads files with progress bars; an interrupted upload can be resumed."""

from contextlib import ExitStack
from dataclasses import replace

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from windlass.cli import errors
from windlass.cli.session import Session
from windlass.cli.upload_options import UploadOptions, as_flags, column_flags
from windlass.domain.errors import InvalidError, UnavailableError
from windlass.wire.datasets import DatasetVersionOut, UploadOut


def upload_files(session: Session, options: UploadOptions) -> DatasetVersionOut:
    """Upload the files and commit the version.

    Raises:
        InvalidError: a file or option is invalid.
        UnavailableError: the server cannot be reached; the hint shows how to resume.
    """
    sources, ingest_options = options.sources(), options.ingest_options()
    upload: UploadOut | None = None

    def created(response: UploadOut) -> None:
        nonlocal upload
        upload = response

    def resume_command() -> str:
        return options.command(session, *(["--resume", upload.id] if upload and not options.resume else []))

    try:
        with ExitStack() as stack:
            bars = ProgressBars(session, stack)
            return session.client.datasets.upload(
                options.name,
                sources,
                task=options.task,
                options=ingest_options,
                resume=options.resume,
                progress=bars.update,
                on_created=created,
            )
    except KeyboardInterrupt:
        session.message(f"\nstopped; no version was created. Resume with: {resume_command()}")
        raise typer.Exit(errors.INTERRUPTED) from None
    except UnavailableError as error:
        raise UnavailableError(error.message, hint=f"resume with: {resume_command()}") from error
    except InvalidError as error:
        error.hint = _hint(session, options, error)
        raise


def _hint(session: Session, options: UploadOptions, error: InvalidError) -> str:
    """Return the hint in terms of the command line; for missing columns the whole command."""
    if missing := error.context.get("missing"):
        kept = tuple(text for text in options.column if text.partition("=")[0] not in missing)
        flags = column_flags(missing, error.context["columns"])
        if error.context["has_header"]:
            return f"map the fields to columns: {replace(options, column=kept).command(session, *flags)}"
        advice = "write the column names in the first row, or map the fields to the numbers of columns (from 1)"
        return f"{advice}: {replace(options, column=kept, no_header=True).command(session, *flags)}"
    return as_flags(error.hint)


class ProgressBars:
    """One progress bar per file on a terminal; no output elsewhere."""

    def __init__(self, session: Session, stack: ExitStack) -> None:
        self._tasks: dict[str, int] = {}
        self._progress: Progress | None = None
        if session.live:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._progress = stack.enter_context(Progress(*columns, console=session.err, transient=True))

    def update(self, name: str, position: int, total: int) -> None:
        """Show that ``position`` of ``total`` bytes of a file are sent."""
        if self._progress is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._progress.task_ids[self._tasks[name]], completed=position)
