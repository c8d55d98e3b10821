"""``windlass quota``: a project's share of the pools."""

from typing import Annotated

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, noun, verb
from windlass.wire.projects import QuotaOut

app = noun("A project's share of the pools.")


def _limit(limit: int | None) -> str:
    return "no limit" if limit is None else str(limit)


_COLUMNS = (
    Column[QuotaOut]("project", lambda line: line.project),
    Column[QuotaOut]("pool", lambda line: line.pool),
    Column[QuotaOut]("cohort", lambda line: line.cohort),
    Column[QuotaOut]("nominal", lambda line: line.nominal),
    Column[QuotaOut]("used", lambda line: line.used),
    Column[QuotaOut]("free", lambda line: line.free),
    Column[QuotaOut]("waiting", lambda line: line.pending),
    Column[QuotaOut]("borrowed", lambda line: line.borrowed_from),
    Column[QuotaOut]("lent", lambda line: line.lent_to),
    Column[QuotaOut]("may borrow", lambda line: _limit(line.borrowing_limit)),
    Column[QuotaOut]("may lend", lambda line: _limit(line.lending_limit)),
)


def _name(line: QuotaOut) -> str:
    return f"{line.project}/{line.pool}"


@app.command("show")
@verb
def show(
    session: Session,
    everyone: Annotated[bool, typer.Option("--all", help="The lines of every project (platform admins).")] = False,
) -> None:
    """Show what the project has, uses, borrows and lends."""
    quotas = session.client.quotas
    session.list(quotas.all() if everyone else quotas.list(), _COLUMNS, _name)


@app.command("set")
@verb
def set_quota(
    session: Session,
    pool: Annotated[str, typer.Argument()],
    nominal: Annotated[int, typer.Argument(min=0, help="GPUs (or CPU slots) that are the project's own.")],
    borrow: Annotated[int | None, typer.Option(min=0, help="The most it may borrow; default: no limit.")] = None,
    lend: Annotated[int | None, typer.Option(min=0, help="The most it lends; default: no limit.")] = None,
) -> None:
    """Set the project's share of a pool (platform admins)."""
    line = session.client.quotas.set(pool, nominal, borrowing_limit=borrow, lending_limit=lend)
    session.show(line, _COLUMNS, _name)


@app.command("delete")
@verb
def delete(session: Session, pool: Annotated[str, typer.Argument()]) -> None:
    """Take the project's share of a pool away (platform admins)."""
    session.client.quotas.delete(pool)
    session.say(f"the project has no share of pool {pool} any more")
