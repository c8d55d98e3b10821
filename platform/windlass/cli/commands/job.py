"""``windlass job``: submit, follow, stop."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from windlass.cli import failures
from windlass.cli.job_pictures import COLUMNS, DETAILS, show_curves, show_outcome, show_verdict
from windlass.cli.render import Column, size
from windlass.cli.safe_text import lines
from windlass.cli.session import Session, noun, verb
from windlass.cli.specs import assignments, load, merged, seconds
from windlass.cli.watch import follow
from windlass.domain.jobs import JobState
from windlass.domain.specs import Task
from windlass.wire.jobs import CheckpointOut, EventOut, JobOut, SimulationOut

app = noun("Submit and follow fine-tuning jobs.")

Job = Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")]
File = Annotated[Path | None, typer.Option("--file", "-f", help="A job.yaml; flags win over it. - reads stdin.")]
Assign = Annotated[list[str] | None, typer.Option("--set", help="Any field of the spec, like training.seed=1.")]
Timeout = Annotated[str | None, typer.Option(help="Stop waiting after this long, like 10m.")]
_MODEL, _TRAIN, _RUN = "What", "How", "Where and when"


def _id(job: JobOut) -> str:
    return job.id


@app.command("create")
@verb
def create(  # noqa: PLR0913 - one parameter per flag
    session: Session,
    *,
    file: File = None,
    task: Annotated[Task | None, typer.Option(rich_help_panel=_MODEL)] = None,
    base_model: Annotated[str | None, typer.Option(help="From the catalogue.", rich_help_panel=_MODEL)] = None,
    dataset: Annotated[str | None, typer.Option(help="NAME or NAME@NUMBER.", rich_help_panel=_MODEL)] = None,
    model: Annotated[str | None, typer.Option(help="Where the result is registered.", rich_help_panel=_MODEL)] = None,
    name: Annotated[str | None, typer.Option(help="A label for people.", rich_help_panel=_MODEL)] = None,
    deploy: Annotated[
        str | None, typer.Option(help="Serve the result at this endpoint.", rich_help_panel=_MODEL)
    ] = None,
    gate: Annotated[
        list[str] | None, typer.Option(help="Like 'weighted_f1 >= 0.6'; again for more.", rich_help_panel=_MODEL)
    ] = None,
    method: Annotated[str | None, typer.Option(help="lora, full or frozen-body.", rich_help_panel=_TRAIN)] = None,
    rank: Annotated[int | None, typer.Option(help="Of LoRA.", rich_help_panel=_TRAIN)] = None,
    alpha: Annotated[float | None, typer.Option(help="Of LoRA.", rich_help_panel=_TRAIN)] = None,
    epochs: Annotated[float | None, typer.Option(rich_help_panel=_TRAIN)] = None,
    max_steps: Annotated[int | None, typer.Option(help="Wins over epochs.", rich_help_panel=_TRAIN)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows per step and worker.", rich_help_panel=_TRAIN)] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", "--lr", rich_help_panel=_TRAIN)] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens per row.", rich_help_panel=_TRAIN)] = None,
    seed: Annotated[int | None, typer.Option(rich_help_panel=_TRAIN)] = None,
    assign: Assign = None,
    pool: Annotated[str | None, typer.Option(rich_help_panel=_RUN)] = None,
    workers: Annotated[int | None, typer.Option(rich_help_panel=_RUN)] = None,
    gpus: Annotated[int | None, typer.Option(help="Per worker.", rich_help_panel=_RUN)] = None,
    priority: Annotated[int | None, typer.Option(help="Higher starts first.", rich_help_panel=_RUN)] = None,
    max_duration: Annotated[str | None, typer.Option(help="Of training, like 2h.", rich_help_panel=_RUN)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print spec and verdict; submit nothing.")] = False,
    key: Annotated[str | None, typer.Option("--idempotency-key", help="The same key gives the same job.")] = None,
    wait: Annotated[bool, typer.Option("--wait", "--watch", help="Follow it to its end.")] = False,
    timeout: Timeout = None,
) -> None:
    """Submit a job, from flags, from a file, or from both."""
    flags: dict[str, Any] = {
        "task": task,
        "base_model": base_model,
        "dataset": dataset,
        "model": model,
        "name": name,
        "deploy.endpoint": deploy,
        "evaluation.gates": gate or None,
        "method.type": method or ("lora" if rank or alpha else None),
        "method.rank": rank,
        "method.alpha": alpha,
        "training.epochs": epochs,
        "training.max_steps": max_steps,
        "training.batch_size": batch_size,
        "training.learning_rate": learning_rate,
        "training.max_length": max_length,
        "training.seed": seed,
        "resources.pool": pool,
        "resources.workers": workers,
        "resources.gpus_per_worker": gpus,
        "priority": priority,
        "max_duration_seconds": None if max_duration is None else seconds(max_duration),
    }
    spec = merged(merged(load(file) if file else {}, flags), assignments(assign or ()))
    if dry_run:
        _dry_run(session, spec)
        return
    job = session.client.jobs.create(spec, idempotency_key=key)
    session.say(f"job {job.id} is {job.state}")
    if wait:
        _to_the_end(session, job.id, timeout)
        return
    session.show(job, COLUMNS, _id)
    session.say(f"follow it with: windlass job watch {job.id}")


@app.command("simulate")
@verb
def simulate(session: Session, *, file: File = None, assign: Assign = None) -> None:
    """Tell whether a job would start now, wait, or never start (exit 6)."""
    _dry_run(session, merged(load(file) if file else {}, assignments(assign or ())), with_spec=False)


@app.command("list")
@verb
def list_jobs(
    session: Session,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="The most jobs; 0: all.")] = 50,
) -> None:
    """List the project's jobs."""
    session.list(islice(session.client.jobs.list(state=state), limit or None), COLUMNS, _id)


@app.command("get")
@verb
def get(session: Session, job: Job) -> None:
    """Show a job: state, reason, runs, attempts, evaluation."""
    session.show(session.client.jobs.get(job), DETAILS, _id)


@app.command("logs")
@verb
def logs(
    session: Session,
    job: Job,
    follow_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the log is complete.")] = False,
    offset: Annotated[int, typer.Option(min=0, help="Begin at this byte.")] = 0,
) -> None:
    """Print a job's log."""
    jobs = session.client.jobs
    if follow_on:
        with session.detaching(f"job {job}", f"windlass job logs -f {job}"):
            for chunk in jobs.follow_log(job, offset=offset):
                session.write(lines(chunk.text))
        return
    while True:
        chunk = jobs.log(job, offset=offset)
        session.write(lines(chunk.text))
        if chunk.next_offset <= offset:
            return
        offset = chunk.next_offset


@app.command("metrics")
@verb
def metrics(
    session: Session,
    job: Job,
    name: Annotated[list[str] | None, typer.Option(help="Only this series; again for more.")] = None,
) -> None:
    """Draw a job's curves; -o json gives the numbers."""
    found = session.client.jobs.metrics(job, names=name)
    if session.machine:
        session.document(found)
    else:
        show_curves(session, found.series)


@app.command("events")
@verb
def events(session: Session, job: Job) -> None:
    """List what has happened to a job."""
    columns = (
        Column[EventOut]("#", lambda event: event.sequence),
        Column[EventOut]("time", lambda event: f"{event.time.astimezone():%Y-%m-%d %H:%M:%S}"),
        Column[EventOut]("code", lambda event: event.code),
        Column[EventOut]("attempt", lambda event: event.attempt),
        Column[EventOut]("message", lambda event: event.message),
    )
    session.list(session.client.jobs.events(job), columns, lambda event: event.code)


@app.command("checkpoints")
@verb
def checkpoints(session: Session, job: Job) -> None:
    """List a job's committed checkpoints."""
    columns = (
        Column[CheckpointOut]("step", lambda point: point.step),
        Column[CheckpointOut]("attempt", lambda point: point.attempt),
        Column[CheckpointOut]("size", lambda point: size(point.bytes)),
        Column[CheckpointOut]("metrics", lambda point: point.metrics),
        Column[CheckpointOut]("age", lambda point: point.created_at),
    )
    session.list(session.client.jobs.checkpoints(job), columns, lambda point: str(point.step))


@app.command("wait")
@verb
def wait_job(session: Session, job: Job, timeout: Timeout = None) -> None:
    """Wait until a job has ended: exit 0 when it succeeded, 1 when not, 8 when the time is over."""
    _to_the_end(session, job, timeout)


@app.command("watch")
@verb
def watch(session: Session, job: Job, timeout: Timeout = None) -> None:
    """Follow a job to its end, with its curves on a terminal."""
    _to_the_end(session, job, timeout)


@app.command("cancel")
@verb
def cancel(session: Session, job: Job) -> None:
    """Ask a job to stop."""
    session.show(session.client.jobs.cancel(job), COLUMNS, _id)


@app.command("retry")
@verb
def retry(
    session: Session,
    job: Job,
    wait: Annotated[bool, typer.Option("--wait", "--watch", help="Follow it to its end.")] = False,
    timeout: Timeout = None,
) -> None:
    """Submit a new job like one that has ended."""
    again = session.client.jobs.retry(job)
    session.say(f"job {again.id} is {again.state}")
    if wait:
        _to_the_end(session, again.id, timeout)
    else:
        session.show(again, COLUMNS, _id)


def _to_the_end(session: Session, job: str, timeout: str | None) -> None:
    ended = follow(session, job, timeout=None if timeout is None else seconds(timeout))
    show_outcome(session, ended)
    session.show(ended, COLUMNS, _id)
    if ended.state is not JobState.SUCCEEDED:
        raise typer.Exit(failures.FAILED)


def _dry_run(session: Session, spec: dict[str, Any], *, with_spec: bool = True) -> None:
    verdict: SimulationOut = session.client.jobs.simulate(spec)
    show_verdict(session, spec if with_spec else None, verdict)
    if verdict.verdict == "never":
        raise typer.Exit(6)
