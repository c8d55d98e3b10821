"""``windlass usage``: the resource usage of a project's jobs."""

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, command
from windlass.wire.base import UsageOut

app = typer.Typer(add_completion=False)

_COLUMNS = (
    Column[UsageOut]("job", lambda row: row.job),
    Column[UsageOut]("pool", lambda row: row.pool),
    Column[UsageOut]("gpu hours", lambda row: f"{row.gpu_seconds / 3600:.3f}"),
    Column[UsageOut]("cost", lambda row: row.cost or None),
    Column[UsageOut]("outcome", lambda row: row.outcome),
)


@app.command()
@command
def usage(session: Session) -> None:
    """Show the GPU hours (or CPU slot hours) of each job."""
    session.list(session.client.usage.list(), _COLUMNS, lambda row: row.job)
