"""``windlass usage``: GPU time, cost, requests and tokens of a project, by job or by month."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from windlass.cli.output_files import require_folder
from windlass.cli.render import Column
from windlass.cli.session import Session, command
from windlass.kit.files import write_atomic
from windlass.wire.usage import GpuTimeSplitOut, UsageGroupOut, UsageOut

app = typer.Typer(add_completion=False)

_DIMENSIONS = ("project", "pool", "kind", "key", "model", "endpoint")
_DEFAULT = ("kind", "pool", "key", "model")
_DEFAULT_OF_ALL = ("project", "pool")


def _percent(row: UsageOut | UsageGroupOut, part: Callable[[GpuTimeSplitOut], float]) -> str | None:
    return f"{part(row.split) / row.gpu_seconds:.0%}" if row.gpu_seconds else None


def _hours(row: UsageOut | UsageGroupOut) -> str:
    return f"{row.gpu_seconds / 3600:.3f}"


_SPLIT: tuple[tuple[str, Callable[[GpuTimeSplitOut], float]], ...] = (
    ("productive", lambda split: split.productive),
    ("serving", lambda split: split.serving),
    ("idle", lambda split: split.idle),
    ("lost", lambda split: split.lost),
    ("data wait", lambda split: split.data_wait),
    ("loading", lambda split: split.loading),
    ("evaluation", lambda split: split.evaluation),
)
_JOB_COLUMNS = (
    Column[UsageOut]("job", lambda row: row.job),
    Column[UsageOut]("pool", lambda row: row.pool),
    Column[UsageOut]("gpu hours", _hours),
    Column[UsageOut]("cost", lambda row: row.cost or None),
    Column[UsageOut]("outcome", lambda row: row.outcome),
    *(Column[UsageOut](title, lambda row, part=part: _percent(row, part)) for title, part in _SPLIT),  # type: ignore[misc]  # mypy infers no lambda with a default
)
_SUM_COLUMNS = (
    Column[UsageGroupOut]("gpu hours", _hours),
    Column[UsageGroupOut]("cost", lambda row: row.cost or None),
    *(Column[UsageGroupOut](title, lambda row, part=part: _percent(row, part)) for title, part in _SPLIT),  # type: ignore[misc]  # as above
    Column[UsageGroupOut]("requests", lambda row: row.requests.total or None),
    Column[UsageGroupOut]("failed", lambda row: row.requests.failed or None),
    Column[UsageGroupOut]("prompt tokens", lambda row: row.requests.prompt_tokens or None),
    Column[UsageGroupOut]("completion tokens", lambda row: row.requests.completion_tokens or None),
)


@app.command()
@command
def usage(
    session: Session,
    month: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM", help="Sums of a month (UTC); default with the next options: this one."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help=f"Group the sums by {', '.join(_DIMENSIONS)}; may be repeated."),
    ] = None,
    all_projects: Annotated[
        bool, typer.Option("--all-projects", help="Sums of all projects (platform admins).")
    ] = False,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the sums to a CSV file, - for standard output.")
    ] = None,
) -> None:
    """Show the GPU hours (or CPU slot hours) of each job and what they were used for, or the sums of a month."""
    for dimension in by or ():
        if dimension not in _DIMENSIONS:
            raise typer.BadParameter(f"{dimension} is none of {', '.join(_DIMENSIONS)}", param_hint="--by")
    if month is None and not by and not all_projects and csv is None:
        session.list(session.client.usage.list(), _JOB_COLUMNS, lambda row: row.job)
        return
    month = month or datetime.now(UTC).strftime("%Y-%m")
    if csv is not None:
        _write_csv(session, csv, month, by, all_projects=all_projects)
        return
    dimensions = by or (_DEFAULT_OF_ALL if all_projects else _DEFAULT)
    groups = session.client.usage.month(month, group_by=dimensions, all_projects=all_projects)
    session.list(groups, (*map(_dimension_column, dimensions), *_SUM_COLUMNS), _name)


def _write_csv(session: Session, file: Path, month: str, by: list[str] | None, *, all_projects: bool) -> None:
    is_stdout = str(file) == "-"
    if not is_stdout:
        require_folder(file)
    text = session.client.usage.export(month, group_by=by, all_projects=all_projects)
    if is_stdout:
        session.write(text)
        return
    write_atomic(file, text)
    session.message(f"wrote {file}")


def _dimension_column(dimension: str) -> Column[UsageGroupOut]:
    def value(row: UsageGroupOut) -> object:
        return (row.key_label or row.key) if dimension == "key" else getattr(row, dimension)

    return Column[UsageGroupOut](dimension, value)


def _name(row: UsageGroupOut) -> str:
    return "/".join(getattr(row, dimension) for dimension in _DIMENSIONS)
