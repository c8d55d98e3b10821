"""How jobs look when they are printed: columns, outcome, verdict, curves."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text

from windlass.cli.curves import draw_curve
from windlass.cli.render import STYLES, Column, ascii_only, document, duration, plain, reason_text
from windlass.cli.safe_text import one_line
from windlass.cli.session import Session
from windlass.domain.jobs import JobState
from windlass.domain.specs import JobSpec
from windlass.wire.jobs import JobDetailOut, JobOut, MetricSeriesOut, SimulationOut

if TYPE_CHECKING:
    from windlass.sdk import JobDetail

_CURVE_WIDTH, _CURVE_HEIGHT = 100, 10


def _reason(job: JobOut) -> str:
    return reason_text(job.reason)


def _result(job: JobOut) -> str | None:
    return None if job.model_version is None else f"{job.model}@{job.model_version}"


def _took(job: JobOut) -> str | None:
    if job.started_at is None or job.finished_at is None:
        return None
    return duration((job.finished_at - job.started_at).total_seconds())


COLUMNS = (
    Column[JobOut]("id", lambda job: job.id),
    Column[JobOut]("state", lambda job: job.state),
    Column[JobOut]("name", lambda job: job.name),
    Column[JobOut]("base model", lambda job: job.spec.base_model),
    Column[JobOut]("dataset", lambda job: job.dataset),
    Column[JobOut]("result", _result),
    Column[JobOut]("progress", lambda job: None if job.progress is None else f"{job.progress:.0%}"),
    Column[JobOut]("age", lambda job: job.created_at),
    Column[JobOut]("reason", _reason),
)
DETAILS = (
    *(Column[JobDetailOut](column.title, column.value) for column in COLUMNS),
    Column[JobDetailOut]("method", lambda job: job.spec.method.type),
    Column[JobDetailOut]("pool", lambda job: f"{job.spec.resources.pool}, {job.spec.resources.gpus} slots"),
    Column[JobDetailOut]("took", _took),
    Column[JobDetailOut](
        "runs", lambda job: [f"{run.name} {run.state} {_steps(run.steps)}".strip() for run in job.runs]
    ),
    Column[JobDetailOut]("attempts", lambda job: [_attempt(job, index) for index in range(len(job.attempts))]),
    Column[JobDetailOut]("evaluation", lambda job: scalars(job.evaluation)),
    Column[JobDetailOut]("retry of", lambda job: job.retry_of),
    Column[JobDetailOut]("by", lambda job: job.created_by),
)


def _steps(steps: Mapping[str, str]) -> str:
    return "(" + ", ".join(f"{step} {state}" for step, state in steps.items()) + ")" if steps else ""


def _attempt(job: JobDetailOut, index: int) -> str:
    attempt = job.attempts[index]
    resumed = f" from step {attempt.resumed_from_step}" if attempt.resumed_from_step else ""
    return f"{attempt.number} {attempt.state}{resumed}"


def scalars(evaluation: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the plain numbers of an evaluation."""
    return {
        name: value
        for name, value in (evaluation or {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def show_outcome(session: Session, job: "JobDetail") -> None:
    """Say how a job ended and what to do next."""
    name = f"job {job.id}"
    if job.state is not JobState.SUCCEEDED:
        session.say(f"{name} {job.state}. {_reason(job)}".rstrip())
        session.say(f"  read its log: windlass job logs {job.id}    try again: windlass job retry {job.id}")
        return
    version = session.client.models.version(f"{job.model}@{job.model_version}")
    numbers = "  ".join(f"{one_line(key)} {value:.4g}" for key, value in scalars(version.evaluation).items())
    session.say(f"{name} succeeded: {version.model}@{version.number} is a {version.decision}. {numbers}".rstrip())
    if version.decision == "rejected":
        session.say(f"  {reason_text(version.reason) or 'a gate was missed'}")
        session.say(f"  look at: windlass model report {version.model}@{version.number} --html report.html")
        return
    session.say(f"  look at: windlass model report {version.model}@{version.number} --html report.html")
    session.say(f"  serve it: windlass endpoint create {version.model} {version.model}@{version.number}")


def show_verdict(session: Session, spec: Mapping[str, Any] | None, verdict: SimulationOut) -> None:
    """Print the spec with its defaults filled in, and what the scheduler would do with it."""
    resolved = None if spec is None else JobSpec.model_validate(spec).model_dump(mode="json")
    if session.machine:
        found = {"verdict": plain(verdict)} if resolved is None else {"spec": resolved, "verdict": plain(verdict)}
        session.document(found)
        return
    if resolved is not None:
        document(session.output.YAML, resolved)
        session.say("")
    said = {
        "starts": "would start now",
        "waits": f"would wait at position {verdict.position}",
        "never": "can never start",
    }[verdict.verdict]
    line = Text(said, style=STYLES.get(verdict.verdict, ""))
    if verdict.reason is not None:
        line.append(Text(f": {reason_text(verdict.reason)}"))
    (session.err if resolved is not None else session.out).print(line, soft_wrap=True)
    if verdict.smallest_change:
        session.say(f"  smallest change that fits: {one_line(verdict.smallest_change)}")
    if verdict.would_preempt:
        session.say(f"  would take the place of: {', '.join(map(one_line, verdict.would_preempt))}")


def show_curves(session: Session, series: Iterable[MetricSeriesOut]) -> None:
    """Draw series, one below the other."""
    drawn = False
    width = min(session.out.width, _CURVE_WIDTH)
    for one in series:
        points = [(step, value) for step, value in zip(one.steps, one.values, strict=True) if value is not None]
        if points:
            curve = draw_curve(points, width, _CURVE_HEIGHT, one_line(one.name), ascii_only=ascii_only(session.out))
            session.out.print(curve)
            session.out.print()
            drawn = True
    if not drawn:
        session.say("no values yet")
