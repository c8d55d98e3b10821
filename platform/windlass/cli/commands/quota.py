"""``windlass quota``: a project's quotas of the pools."""

from typing import Annotated

import typer

from windlass.cli.deletion import Yes, confirm
from windlass.cli.name_completion import names_of
from windlass.cli.render import Column
from windlass.cli.safe_text import one_line
from windlass.cli.session import Session, command, command_group
from windlass.domain.errors import NotFoundError
from windlass.wire.projects import PendingJobOut, QuotaChangeOut, QuotaOut

app = command_group("Show and set a project's quotas.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Validate and preview the affected jobs; change nothing.")]


def _limit(quota: QuotaOut, limit: int | None) -> str | None:
    """Describe a limit; None for a project without a cohort, which lends and borrows nothing."""
    if quota.cohort is None:
        return None
    return "no limit" if limit is None else str(limit)


_COLUMNS = (
    Column[QuotaOut]("project", lambda quota: quota.project),
    Column[QuotaOut]("pool", lambda quota: quota.pool),
    Column[QuotaOut]("cohort", lambda quota: quota.cohort),
    Column[QuotaOut]("nominal", lambda quota: quota.nominal),
    Column[QuotaOut]("used", lambda quota: quota.used),
    Column[QuotaOut]("free", lambda quota: quota.free),
    Column[QuotaOut]("pending", lambda quota: quota.pending),
    Column[QuotaOut]("borrowed", lambda quota: quota.borrowed_from),
    Column[QuotaOut]("lent", lambda quota: quota.lent_to),
    Column[QuotaOut]("borrowing limit", lambda quota: _limit(quota, quota.borrowing_limit)),
    Column[QuotaOut]("lending limit", lambda quota: _limit(quota, quota.lending_limit)),
)
_DETAILS = (
    *_COLUMNS,
    Column[QuotaOut]("reclaimable", lambda quota: quota.reclaimable),
    Column[QuotaOut]("overcommitted", lambda quota: quota.overcommitted or None),
    Column[QuotaOut]("queue time p50", lambda quota: _seconds(quota.queue_time_p50_seconds)),
    Column[QuotaOut]("queue time p90", lambda quota: _seconds(quota.queue_time_p90_seconds)),
    Column[QuotaOut]("managed by", lambda quota: quota.managed_by or None),
)
_QUEUE = (
    Column[PendingJobOut]("position", lambda job: job.position),
    Column[PendingJobOut]("job", lambda job: job.job),
    Column[PendingJobOut]("gpus", lambda job: job.gpus),
    Column[PendingJobOut]("priority", lambda job: job.priority),
    Column[PendingJobOut]("reason", lambda job: job.reason.message if job.reason else None, shrinks=True),
)


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:,.0f} s"


def _name(quota: QuotaOut) -> str:
    return f"{quota.project}/{quota.pool}"


@app.command("show")
@command
def show(
    session: Session,
    pool: Annotated[
        str | None,
        typer.Argument(
            help="Show this pool in detail, with its pending jobs and queue times.", autocompletion=names_of("pool")
        ),
    ] = None,
    all_projects: Annotated[
        bool, typer.Option("--all", help="Show the quotas of all projects (platform admins).")
    ] = False,
) -> None:
    """Show the project's quotas: nominal, used, borrowed and lent."""
    quotas = session.client.quotas
    listed = quotas.all() if all_projects else quotas.list()
    if pool is None:
        session.list(listed, _COLUMNS, _name)
        return
    matching = [quota for quota in listed if quota.pool == pool]
    if all_projects:
        session.list(matching, _DETAILS, _name)
        return
    if not matching:
        raise NotFoundError(f"the project has no quota of pool {pool}", hint="`windlass quota show` lists its quotas")
    session.show(matching[0], _DETAILS, _name)
    if matching[0].waiting and not session.machine:
        session.write("\n")
        session.list(matching[0].waiting, _QUEUE, lambda job: job.job)


@app.command("set")
@command
def set_quota(
    session: Session,
    pool: Annotated[str, typer.Argument(autocompletion=names_of("pool"))],
    nominal: Annotated[int, typer.Argument(min=0, help="Nominal quota in GPUs (or CPU slots).")],
    borrow: Annotated[int | None, typer.Option(min=0, help="Borrowing limit; default: no limit.")] = None,
    lend: Annotated[int | None, typer.Option(min=0, help="Lending limit; default: no limit.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Set the project's quota of a pool (platform admins)."""
    quotas = session.client.quotas
    if dry_run:
        _show_preview(session, quotas.check(pool, nominal, borrowing_limit=borrow, lending_limit=lend))
        return
    quota = quotas.set(pool, nominal, borrowing_limit=borrow, lending_limit=lend)
    session.show(quota, _COLUMNS, _name)


@app.command("delete")
@command
def delete(
    session: Session,
    pool: Annotated[str, typer.Argument(autocompletion=names_of("pool"))],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Delete the project's quota of a pool (platform admins)."""
    quotas = session.client.quotas
    if dry_run:
        _show_preview(session, quotas.check(pool, None))
        return
    if not yes:
        subject = f"the quota of project {session.client.connection.project} in pool {pool}"
        effects = [f"{subject} would be deleted", *_effects(quotas.check(pool, None))]
        confirm(session, effects, f"Delete {subject}?")
    quotas.delete(pool)
    session.message(f"quota of pool {pool} deleted")


def _show_preview(session: Session, change: QuotaChangeOut) -> None:
    """Print the jobs that a change would preempt or start."""
    if session.machine:
        session.document(change)
        return
    session.write("".join(f"{effect}\n" for effect in _effects(change)))
    session.message("dry run: nothing was changed")
    if change.problem:
        session.message(f"the change would be rejected: {change.problem}")


def _effects(change: QuotaChangeOut) -> list[str]:
    affected = [("would preempt", job) for job in change.preempts] + [("would start", job) for job in change.starts]
    effects = [f"{action} {one_line(job.job)} of project {one_line(job.project)}" for action, job in affected]
    return effects or ["no job would be preempted or started"]
