"""``windlass job``: submit, follow and cancel jobs."""

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from windlass.cli import errors
from windlass.cli.api_errors import JOB_FIELDS
from windlass.cli.deletion import DryRun, Yes, delete
from windlass.cli.job_log import print_log
from windlass.cli.job_views import COLUMNS, DETAILS, show_metrics, show_result, show_simulation
from windlass.cli.name_completion import names_of
from windlass.cli.references import resolve_job
from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.cli.specs import load_spec, merge, parse_assignments, parse_duration
from windlass.cli.watch import follow
from windlass.domain.jobs import JobState
from windlass.domain.specs import Task
from windlass.kit.numbers import size
from windlass.wire.jobs import CheckpointOut, EventOut, JobOut, MetricPointOut, SimulationOut

app = command_group("Submit and follow fine-tuning jobs.")

Job = Annotated[
    str,
    typer.Argument(
        help="Id of the job, its beginning, the job's name, or @last.", metavar="JOB", autocompletion=names_of("job")
    ),
]
File = Annotated[
    Path | None, typer.Option("--file", "-f", help="File with the job spec; flags override it. - reads stdin.")
]
Assign = Annotated[
    list[str] | None, typer.Option("--set", help="Set any field of the spec, for example training.seed=1.")
]
Timeout = Annotated[str | None, typer.Option(help="Maximum waiting time, for example 10m.")]
_MODEL, _TRAIN, _RUN = "Model and data", "Training", "Resources and scheduling"


def _id(job: JobOut) -> str:
    return job.id


@app.command("create")
@command
def create(  # noqa: PLR0913 - one parameter per flag
    session: Session,
    *,
    file: File = None,
    task: Annotated[Task | None, typer.Option(help="Task of the model.", rich_help_panel=_MODEL)] = None,
    base_model: Annotated[
        str | None,
        typer.Option(
            help="Base model from the catalogue.", rich_help_panel=_MODEL, autocompletion=names_of("base model")
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Dataset: NAME or NAME@NUMBER.",
            rich_help_panel=_MODEL,
            autocompletion=names_of("dataset", versions=True),
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Registered model that gets the new version.", rich_help_panel=_MODEL, autocompletion=names_of("model")
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Display name of the job.", rich_help_panel=_MODEL)] = None,
    deploy: Annotated[
        str | None,
        typer.Option(
            help="Deploy the new version to this endpoint.", rich_help_panel=_MODEL, autocompletion=names_of("endpoint")
        ),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(help="Evaluation gate, for example 'weighted_f1 >= 0.6'.", rich_help_panel=_MODEL),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Training method: lora, full or head-only.",
            rich_help_panel=_TRAIN,
            autocompletion=lambda: ["full", "head-only", "lora"],
        ),
    ] = None,
    rank: Annotated[int | None, typer.Option(help="LoRA rank.", rich_help_panel=_TRAIN)] = None,
    alpha: Annotated[float | None, typer.Option(help="LoRA alpha.", rich_help_panel=_TRAIN)] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data.", rich_help_panel=_TRAIN)] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="Number of optimizer steps; overrides --epochs.", rich_help_panel=_TRAIN)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows per step and worker.", rich_help_panel=_TRAIN)] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", "--lr", help="Peak learning rate.", rich_help_panel=_TRAIN)
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Maximum tokens per row.", rich_help_panel=_TRAIN)] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.", rich_help_panel=_TRAIN)] = None,
    assign: Assign = None,
    pool: Annotated[
        str | None, typer.Option(help="Pool of accelerators.", rich_help_panel=_RUN, autocompletion=names_of("pool"))
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Number of training workers.", rich_help_panel=_RUN)] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs (or CPU slots) per worker.", rich_help_panel=_RUN)] = None,
    priority: Annotated[
        int | None, typer.Option(help="Jobs with a higher priority start first.", rich_help_panel=_RUN)
    ] = None,
    max_duration: Annotated[
        str | None, typer.Option(help="Maximum training time, for example 2h.", rich_help_panel=_RUN)
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Validate and print the spec and the scheduler's decision; submit nothing."),
    ] = False,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="Requests with the same key create one job.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "--watch", help="Follow the job until it ends.")] = False,
    timeout: Timeout = None,
) -> None:
    """Submit a job from flags, a file, or both."""
    values: dict[str, Any] = {
        "task": task,
        "base_model": base_model,
        "dataset": dataset,
        "model": model,
        "name": name,
        "deploy": deploy,
        "gate": gate or None,
        "method": method or ("lora" if rank or alpha else None),
        "rank": rank,
        "alpha": alpha,
        "epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "max_length": max_length,
        "seed": seed,
        "pool": pool,
        "workers": workers,
        "gpus": gpus,
        "priority": priority,
        "max_duration": None if max_duration is None else parse_duration(max_duration),
    }
    flags = {JOB_FIELDS[parameter]: value for parameter, value in values.items()}
    spec = merge(merge(load_spec(file) if file else {}, flags), parse_assignments(assign or ()))
    if dry_run:
        _dry_run(session, spec)
        return
    job = session.client.jobs.create(spec, idempotency_key=key)
    session.message(f"job {job.id}: {job.state}")
    if wait:
        _follow_to_end(session, job.id, timeout)
        return
    session.show(job, COLUMNS, _id)
    session.message(f"follow: {session.suggestion(f'windlass job watch {job.id}')}")


@app.command("simulate")
@command
def simulate(session: Session, *, file: File = None, assign: Assign = None) -> None:
    """Predict whether a job would start now, wait, or never start (exit 6)."""
    _dry_run(session, merge(load_spec(file) if file else {}, parse_assignments(assign or ())), with_spec=False)


@app.command("list")
@command
def list_jobs(
    session: Session,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Maximum number of jobs; 0: all.")] = 50,
) -> None:
    """List the project's jobs."""
    session.list(islice(session.client.jobs.list(state=state), limit or None), COLUMNS, _id)


@app.command("get")
@command
def get(session: Session, job: Job) -> None:
    """Show a job: state, reason, runs, attempts, evaluation."""
    job = resolve_job(session, job)
    session.show(session.client.jobs.get(job), DETAILS, _id)


@app.command("logs")
@command
def logs(
    session: Session,
    *,
    job: Job,
    follow_log: Annotated[bool, typer.Option("--follow", "-f", help="Stream the log until the job ends.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last lines.")] = None,
    since: Annotated[str | None, typer.Option(help="Only lines of the last time span, for example 10m.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="Start at this byte.")] = 0,
) -> None:
    """Print a job's log: each line with the time (UTC) at which it was written, its attempt or run, and its source."""
    job = resolve_job(session, job)
    seconds = None if since is None else parse_duration(since)
    print_log(session, job, offset=offset, tail=tail, since_seconds=seconds, follow=follow_log)


@app.command("delete")
@command
def delete_job(session: Session, job: Job, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Delete an ended job with its events, metrics, log and files; a job with a model version stays."""
    job = resolve_job(session, job)
    jobs = session.client.jobs
    delete(session, partial(jobs.delete, job), yes=yes, dry_run=dry_run)


@app.command("metrics")
@command
def metrics(
    session: Session,
    *,
    job: Job,
    name: Annotated[list[str] | None, typer.Option(help="Only this metric.")] = None,
    points: Annotated[int | None, typer.Option(help="Maximum number of points per metric. Default: 2000.")] = None,
    after: Annotated[int | None, typer.Option(min=-1, help="Only points after this step.")] = None,
    through: Annotated[int | None, typer.Option(min=0, help="Only points of this step or before.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="List every stored point of one metric.")] = False,
) -> None:
    """Plot a job's metrics; -o json prints the numbers."""
    job = resolve_job(session, job)
    if raw:
        if name is None or len(name) != 1 or (points, after, through) != (None, None, None):
            raise typer.BadParameter("give exactly one --name, and no number of points or steps", param_hint="--raw")
        columns = (
            Column[MetricPointOut]("step", lambda point: point.step),
            Column[MetricPointOut]("value", lambda point: point.value),
            Column[MetricPointOut]("attempt", lambda point: point.attempt),
        )
        session.list(session.client.jobs.metric_points(job, name[0]), columns, lambda point: str(point.step))
        return
    response = session.client.jobs.metrics(job, after=after, through=through, names=name, points=points)
    if session.machine:
        session.document(response)
    else:
        show_metrics(session, response.series)


@app.command("events")
@command
def events(session: Session, job: Job) -> None:
    """List the events of a job."""
    job = resolve_job(session, job)
    columns = (
        Column[EventOut]("#", lambda event: event.sequence),
        Column[EventOut]("time", lambda event: f"{event.time.astimezone():%Y-%m-%d %H:%M:%S %z}"),
        Column[EventOut]("code", lambda event: event.code),
        Column[EventOut]("attempt", lambda event: event.attempt),
        Column[EventOut]("message", lambda event: event.message, shrinks=True, keep=True),
    )
    session.list(session.client.jobs.events(job), columns, lambda event: event.code)


@app.command("checkpoints")
@command
def checkpoints(session: Session, job: Job) -> None:
    """List a job's committed checkpoints."""
    job = resolve_job(session, job)
    columns = (
        Column[CheckpointOut]("step", lambda checkpoint: checkpoint.step),
        Column[CheckpointOut]("attempt", lambda checkpoint: checkpoint.attempt),
        Column[CheckpointOut]("size", lambda checkpoint: size(checkpoint.bytes)),
        Column[CheckpointOut]("metrics", lambda checkpoint: checkpoint.metrics, shrinks=True),
        Column[CheckpointOut]("age", lambda checkpoint: checkpoint.created_at),
    )
    session.list(session.client.jobs.checkpoints(job), columns, lambda checkpoint: str(checkpoint.step))


@app.command("wait")
@command
def wait_job(session: Session, job: Job, timeout: Timeout = None) -> None:
    """Wait until a job ends: exit 0 if it succeeded, 1 if not, 8 if the timeout expired."""
    job = resolve_job(session, job)
    _follow_to_end(session, job, timeout)


@app.command("watch")
@command
def watch(session: Session, job: Job, timeout: Timeout = None) -> None:
    """Follow a job until it ends, with live plots on a terminal."""
    job = resolve_job(session, job)
    _follow_to_end(session, job, timeout)


@app.command("cancel")
@command
def cancel(session: Session, job: Job) -> None:
    """Cancel a job."""
    job = resolve_job(session, job)
    session.show(session.client.jobs.cancel(job), COLUMNS, _id)


@app.command("retry")
@command
def retry(
    session: Session,
    job: Job,
    wait: Annotated[bool, typer.Option("--wait", "--watch", help="Follow the job until it ends.")] = False,
    timeout: Timeout = None,
) -> None:
    """Submit a new job with the spec of an ended job."""
    job = resolve_job(session, job)
    retried = session.client.jobs.retry(job)
    session.message(f"job {retried.id}: {retried.state}")
    if wait:
        _follow_to_end(session, retried.id, timeout)
    else:
        session.show(retried, COLUMNS, _id)


def _follow_to_end(session: Session, job: str, timeout: str | None) -> None:
    ended = follow(session, job, timeout=None if timeout is None else parse_duration(timeout))
    show_result(session, ended)
    session.show(ended, COLUMNS, _id)
    if ended.state is not JobState.SUCCEEDED:
        raise typer.Exit(errors.FAILED)


def _dry_run(session: Session, spec: dict[str, Any], *, with_spec: bool = True) -> None:
    simulation: SimulationOut = session.client.jobs.simulate(spec)
    show_simulation(session, spec if with_spec else None, simulation)
    if simulation.verdict == "never":
        raise typer.Exit(6)
