"""``windlass usage``: what the project's jobs have used."""

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, verb
from windlass.wire.base import UsageOut

app = typer.Typer(add_completion=False)

_COLUMNS = (
    Column[UsageOut]("job", lambda line: line.job),
    Column[UsageOut]("pool", lambda line: line.pool),
    Column[UsageOut]("gpu hours", lambda line: f"{line.gpu_seconds / 3600:.3f}"),
    Column[UsageOut]("cost", lambda line: line.cost or None),
    Column[UsageOut]("outcome", lambda line: line.outcome),
)


@app.command()
@verb
def usage(session: Session) -> None:
    """Show the GPU hours (or CPU slot hours) of each job."""
    session.list(session.client.usage.list(), _COLUMNS, lambda line: line.job)
