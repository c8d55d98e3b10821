"""``windlass quota``: a project's share of the pools."""

from typing import Annotated

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, noun, verb
from windlass.domain.errors import NotFoundError
from windlass.wire.projects import QuotaChangeOut, QuotaOut, WaitingOut

app = noun("A project's share of the pools.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only try it, and say which jobs it would stop or start.")]


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
_DETAILS = (
    *_COLUMNS,
    Column[QuotaOut]("reclaimable", lambda line: line.reclaimable),
    Column[QuotaOut]("overcommitted", lambda line: line.overcommitted or None),
    Column[QuotaOut]("wait p50", lambda line: _seconds(line.wait_p50_seconds)),
    Column[QuotaOut]("wait p90", lambda line: _seconds(line.wait_p90_seconds)),
    Column[QuotaOut]("managed by", lambda line: line.managed_by or None),
)
_QUEUE = (
    Column[WaitingOut]("place", lambda one: one.position),
    Column[WaitingOut]("job", lambda one: one.job),
    Column[WaitingOut]("gpus", lambda one: one.gpus),
    Column[WaitingOut]("priority", lambda one: one.priority),
    Column[WaitingOut]("why", lambda one: one.reason.message if one.reason else None),
)


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:,.0f} s"


def _name(line: QuotaOut) -> str:
    return f"{line.project}/{line.pool}"


@app.command("show")
@verb
def show(
    session: Session,
    pool: Annotated[str | None, typer.Argument(help="One pool, with who waits and how long it takes.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="The lines of every project (platform admins).")] = False,
) -> None:
    """Show what the project has, uses, borrows and lends."""
    quotas = session.client.quotas
    lines = quotas.all() if everyone else quotas.list()
    if pool is None:
        session.list(lines, _COLUMNS, _name)
        return
    found = [line for line in lines if line.pool == pool]
    if everyone:
        session.list(found, _DETAILS, _name)
        return
    if not found:
        raise NotFoundError(
            f"the project has no share of pool {pool}", hint="`windlass quota show` lists those that it has"
        )
    session.show(found[0], _DETAILS, _name)
    if found[0].waiting and not session.machine:
        session.write("\n")
        session.list(found[0].waiting, _QUEUE, lambda one: one.job)


@app.command("set")
@verb
def set_quota(
    session: Session,
    pool: Annotated[str, typer.Argument()],
    nominal: Annotated[int, typer.Argument(min=0, help="GPUs (or CPU slots) that are the project's own.")],
    borrow: Annotated[int | None, typer.Option(min=0, help="The most it may borrow; default: no limit.")] = None,
    lend: Annotated[int | None, typer.Option(min=0, help="The most it lends; default: no limit.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Set the project's share of a pool (platform admins)."""
    quotas = session.client.quotas
    if dry_run:
        _foreseen(session, quotas.check(pool, nominal, borrowing_limit=borrow, lending_limit=lend))
        return
    line = quotas.set(pool, nominal, borrowing_limit=borrow, lending_limit=lend)
    session.show(line, _COLUMNS, _name)


@app.command("delete")
@verb
def delete(session: Session, pool: Annotated[str, typer.Argument()], dry_run: DryRun = False) -> None:
    """Take the project's share of a pool away (platform admins)."""
    if dry_run:
        _foreseen(session, session.client.quotas.check(pool, None))
        return
    session.client.quotas.delete(pool)
    session.say(f"the project has no share of pool {pool} any more")


def _foreseen(session: Session, change: QuotaChangeOut) -> None:
    """Say what a change would do at once."""
    if session.machine:
        session.document(change)
        return
    for verb_, affected in (("would preempt", change.preempts), ("would start", change.starts)):
        session.write("".join(f"{verb_} {one.job} of project {one.project}\n" for one in affected))
    if not (change.preempts or change.starts):
        session.write("no job would start or stop at once\n")
    session.say("nothing was changed")
    if change.problem:
        session.say(f"it would be refused: {change.problem}")
