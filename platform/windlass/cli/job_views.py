"""Prints jobs: columns, result, simulation, metric plots."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from windlass.cli.plots import draw_curve
from windlass.cli.render import STYLES, Column, ascii_only, document, duration, plain, reason_text
from windlass.cli.safe_text import one_line
from windlass.cli.session import Session
from windlass.domain.jobs import JobState
from windlass.domain.specs import JobSpec
from windlass.kit.numbers import count
from windlass.wire.base import JobWarningOut
from windlass.wire.jobs import JobDetailOut, JobOut, MetricSeriesOut, SimulationOut

if TYPE_CHECKING:
    from windlass.sdk import JobDetail

_CURVE_WIDTH, _CURVE_HEIGHT = 100, 10


def _reason(job: JobOut) -> str:
    return reason_text(job.reason)


def _result(job: JobOut) -> str | None:
    return None if job.model_version is None else f"{job.model}@{job.model_version}"


def _duration(job: JobOut) -> str | None:
    if job.started_at is None:
        return None
    end = job.finished_at or datetime.now(UTC)
    return duration((end - job.started_at).total_seconds())


COLUMNS = (
    Column[JobOut]("id", lambda job: job.id),
    Column[JobOut]("state", lambda job: job.state),
    Column[JobOut]("decision", lambda job: job.decision),
    Column[JobOut]("name", lambda job: job.name, shrinks=True),
    Column[JobOut]("progress", lambda job: None if job.progress is None else f"{job.progress:.0%}"),
    Column[JobOut]("age", lambda job: job.created_at),
    Column[JobOut]("result", _result),
    Column[JobOut]("dataset", lambda job: job.dataset),
    Column[JobOut]("base model", lambda job: job.spec.base_model),
    Column[JobOut]("reason", _reason, shrinks=True, keep=True),
)
DETAILS = (
    *(Column[JobDetailOut](column.title, column.value) for column in COLUMNS),
    Column[JobDetailOut]("method", lambda job: job.spec.method.type),
    Column[JobDetailOut]("pool", lambda job: f"{job.spec.resources.pool}, {count(job.spec.resources.gpus, 'slot')}"),
    Column[JobDetailOut]("duration", _duration),
    Column[JobDetailOut](
        "runs", lambda job: [f"{run.name} {run.state} {_steps(run.steps)}".strip() for run in job.runs]
    ),
    Column[JobDetailOut]("attempts", lambda job: [_attempt(job, index) for index in range(len(job.attempts))]),
    Column[JobDetailOut]("warnings", lambda job: warning_texts(job.warnings)),
    Column[JobDetailOut]("evaluation", lambda job: evaluation_text(job.evaluation) or None),
    Column[JobDetailOut]("retry of", lambda job: job.retry_of),
    Column[JobDetailOut]("created by", lambda job: job.created_by),
)


def warning_texts(warnings: Iterable[JobWarningOut]) -> list[str]:
    """Return the sentence of each warning on one line."""
    return [one_line(warning.message) for warning in warnings]


def _steps(steps: Mapping[str, str]) -> str:
    return "(" + ", ".join(f"{step} {state}" for step, state in steps.items()) + ")" if steps else ""


def _attempt(job: JobDetailOut, index: int) -> str:
    attempt = job.attempts[index]
    resumed = f" from step {attempt.resumed_from_step}" if attempt.resumed_from_step else ""
    return f"{attempt.number} {attempt.state}{resumed}"


def evaluation_text(evaluation: Mapping[str, Any] | None) -> str:
    """Return the numbers of an evaluation on one line; it names rows that the model was trained on."""
    if not evaluation:
        return ""
    numbers = [
        f"{one_line(name)} {value:.4g}"
        for name, value in evaluation.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "also_trained_on"
    ]
    seen, rows = evaluation.get("also_trained_on") or 0, evaluation.get("rows") or 0
    if seen:
        numbers.append("(the rows it was trained on)" if seen >= rows else f"({seen:,} of them also in train)")
    skipped = sum(sum(evaluation.get(name, {}).values()) for name in ("rows_skipped", "rows_dropped"))
    numbers += [f"({count(skipped, 'row')} skipped)"] if skipped else []
    return "  ".join(numbers)


def show_result(session: Session, job: "JobDetail") -> None:
    """Print the result of an ended job and the next commands."""
    name = f"job {job.id}"
    if job.state is not JobState.SUCCEEDED:
        session.message(f"{name}: {job.state}. {_reason(job)}".rstrip())
        session.message(f"  show its log: {session.suggestion(f'windlass job logs {job.id}')}")
        session.message(f"  retry: {session.suggestion(f'windlass job retry {job.id}')}")
        return
    version = session.client.models.version(f"{job.model}@{job.model_version}")
    evaluation = evaluation_text(version.evaluation)
    session.message(
        f"{name} succeeded: {version.model}@{version.number}, decision: {version.decision}. {evaluation}".rstrip()
    )
    for text in warning_texts(version.warnings):
        session.message(f"  warning: {text}")
    reference = f"{version.model}@{version.number}"
    if version.decision == "rejected":
        session.message(f"  {reason_text(version.reason) or 'a gate was not met'}")
    session.message(f"  report: {session.suggestion(f'windlass model report {reference} --html report.html')}")
    if version.decision == "rejected":
        return
    if job.spec.deploy is not None:
        wait = session.suggestion(f"windlass endpoint wait {job.spec.deploy.endpoint}")
        session.message(f"  deployed to endpoint {job.spec.deploy.endpoint}: {wait}")
        return
    session.message(f"  serve: {session.suggestion(f'windlass endpoint create {version.model} {reference}')}")


def show_simulation(session: Session, spec: Mapping[str, Any] | None, simulation: SimulationOut) -> None:
    """Print the spec with its defaults, and the scheduler's decision."""
    resolved = None if spec is None else JobSpec.model_validate(spec).model_dump(mode="json")
    if resolved is not None:
        resolved["training"] = simulation.training.model_dump(mode="json")
    if session.machine:
        data = plain(simulation)
        session.document({"verdict": data} if resolved is None else {"spec": resolved, "verdict": data})
        return
    if resolved is not None:
        document(session.output.YAML, resolved)
        session.message("")
    outcome = {
        "starts": "would start now",
        "waits": f"would wait at position {simulation.position}",
        "never": "can never start",
    }[simulation.verdict]
    if simulation.reason is not None:
        message = reason_text(simulation.reason)
        outcome = message if simulation.verdict == "never" else f"{outcome}: {message}"
    line = Text(outcome, style=STYLES.get(simulation.verdict, ""))
    (session.err if resolved is not None else session.out).print(line, soft_wrap=True)
    if simulation.world_size > 1 and (rows := simulation.training.batch_size) is not None:
        total = count(simulation.world_size * rows, "row")
        session.message(
            f"  {simulation.world_size} training processes with {rows} rows each: {total} per optimizer step"
        )
    for default in simulation.defaults:
        session.message(f"  {default.field} = {default.value:g}: {one_line(default.reason)}")
    for warning in simulation.warnings:
        session.message(f"  warning: {one_line(warning.message)}")
    if simulation.smallest_change:
        session.message(f"  smallest change that fits: {one_line(simulation.smallest_change)}")
    if simulation.would_preempt:
        session.message(f"  would preempt: {', '.join(map(one_line, simulation.would_preempt))}")


def show_metrics(session: Session, series: Iterable[MetricSeriesOut]) -> None:
    """Plot series, one below the other."""
    drawn = False
    width = min(session.out.width, _CURVE_WIDTH)
    for metric in series:
        points = [(step, value) for step, value in zip(metric.steps, metric.values, strict=True) if value is not None]
        if points:
            curve = draw_curve(points, width, _CURVE_HEIGHT, one_line(metric.name), ascii_only=ascii_only(session.out))
            session.out.print(curve)
            session.out.print()
            drawn = True
    if not drawn:
        session.message("no values yet")
