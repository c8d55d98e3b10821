"""Follows a job until it ends: a live view on a terminal, lines elsewhere."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from windlass.cli import errors
from windlass.cli.plots import draw_curve
from windlass.cli.render import STYLES, ascii_only, duration, reason_text
from windlass.cli.safe_text import one_line
from windlass.cli.session import Session
from windlass.wire.jobs import EventOut, JobDetailOut, JobOut

if TYPE_CHECKING:
    from windlass.sdk import JobDetail, Message

_PLAIN_EVERY_STEPS = 10
_CURVE_HEIGHT = 9
_LAST_EVENTS = 4
_BATCH_SECONDS = 0.2


class LiveView:
    """The live view of a job: state, progress, curves and last events."""

    def __init__(self, job: JobDetailOut, *, ascii_only: bool = False) -> None:
        self.job: JobOut = job
        self._ascii_only = ascii_only
        self._series: dict[str, dict[int, float]] = {}
        self._events: deque[EventOut] = deque(maxlen=_LAST_EVENTS)
        # One thread adds messages, another one draws.
        self._lock = threading.Lock()

    def accept(self, message: "Message") -> None:
        """Add a message of the job."""
        with self._lock:
            if isinstance(message, EventOut):
                self._events.append(message)
            elif isinstance(message, JobOut):
                self.job = message
            elif message.value is not None:
                self._series.setdefault(message.name, {})[message.step] = message.value

    def draw(self, width: int) -> RenderableType:
        """Return the view, ``width`` cells wide."""
        with self._lock:
            return self._draw(width)

    def _draw(self, width: int) -> RenderableType:
        parts: list[RenderableType] = [self._title()]
        if self.job.reason is not None:
            parts.append(Text(f"  {reason_text(self.job.reason)}", style="yellow"))
        if self._series or self.job.progress is not None:
            parts.append(self._progress(width))
        for name in ("train_loss", "eval_loss"):
            points = sorted(self._series.get(name, {}).items())
            if len(points) > 1:
                curve = draw_curve(points, width - 2, _CURVE_HEIGHT, name, ascii_only=self._ascii_only)
                parts += [Text(""), _indented(curve)]
        parts += [Text("")] if self._events else []
        parts += [event_line(event) for event in self._events]
        parts.append(Text("  Ctrl-C detaches; the job keeps running.", style="dim"))
        return Group(*parts)

    def _title(self) -> Text:
        job = self.job
        elapsed = (datetime.now(UTC) - job.created_at).total_seconds()
        title = Text(f"{job.state:<10}", style=STYLES.get(job.state, "bold"))
        title.append(f" {one_line(job.name or job.model)}", style="bold")
        title.append(f"  {job.id}  {duration(elapsed)}", style="dim")
        if job.attempt > 1:
            title.append(f"  attempt {job.attempt}", style="dim")
        return title

    def _progress(self, width: int) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        fraction = self.job.progress or 0.0
        bar = ProgressBar(total=1.0, completed=fraction, width=max(min(width // 3, 40), 8))
        row.add_row(Text(" "), bar, Text(f"{fraction:4.0%}"), Text(self._latest(), style="dim"))
        return row

    def _latest(self) -> str:
        points = {name: max(series.items()) for name, series in self._series.items()}
        step = max((point[0] for point in points.values()), default=0)
        shown = [f"step {step}"]
        shown += [f"{label} {points[name][1]:.3g}" for name, label in _SHORT_NAMES.items() if name in points]
        return "  ".join(shown)


_SHORT_NAMES = {
    "train_loss": "loss",
    "eval_loss": "eval loss",
    "eval_weighted_f1": "eval F1",
    "learning_rate": "rate",
    "tokens_per_second": "tokens/s",
}
"""Metrics next to the progress bar, with their short names."""


class LogView:
    """Prints a job's events, changes of state or reason, and some metric points as lines."""

    def __init__(self, print_line: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._print, self._clock = print_line, clock
        self._state = ""
        self._last_message = clock()
        self._last: dict[str, int] = {}
        self._pending: dict[int, dict[str, float]] = {}

    def accept(self, message: "Message") -> None:
        """Add a message of the job. Metric points arrive in batches, one series at a time; a pause ends a batch."""
        paused = self._clock() - self._last_message > _BATCH_SECONDS
        self._last_message = self._clock()
        if paused:
            self.flush()
        if isinstance(message, EventOut):
            self.flush()
            self._print(event_line(message).plain.strip())
        elif isinstance(message, JobOut):
            self.flush()
            self._print_state(message)
        elif message.value is not None and message.step > self._last.get(message.name, -1):
            self._last[message.name] = message.step
            self._pending.setdefault(message.step, {})[message.name] = message.value

    def flush(self, *, last: bool = False) -> None:
        """Print pending points in order: every tenth step, evaluations, and with ``last`` the last step."""
        for step, values in sorted(self._pending.items()):
            evaluated = any(name.startswith("eval_") for name in values)
            if evaluated or step % _PLAIN_EVERY_STEPS == 0 or (last and step == max(self._pending)):
                shown = "  ".join(f"{one_line(name)}={value:.4g}" for name, value in sorted(values.items()))
                self._print(f"step {step}  {shown}")
        self._pending.clear()

    def _print_state(self, job: JobOut) -> None:
        text = f"job {job.id}: {job.state}"
        if job.reason is not None:
            text += f". {reason_text(job.reason)}"
        if text != self._state:
            self._state = text
            self._print(text)


def event_line(event: EventOut) -> Text:
    """Return an event on one line, with its local time."""
    line = Text(f"  {event.time.astimezone():%H:%M:%S} ", style="dim")
    return line.append(Text(one_line(event.message or event.code), style="default"))


def follow(session: Session, job: str, *, timeout: float | None) -> "JobDetail":
    """Follow a job until it ends and return it. Ctrl-C detaches (exit 130); an expired timeout exits 8."""
    jobs = session.client.jobs
    watch_command = f"windlass job watch {job}"
    with session.detach_on_interrupt(f"job {job}", watch_command):
        current = jobs.get(job)
        if current.state.terminal:
            return current
        try:
            with _live(session, current) if session.live else _plain(session) as accept:
                for message in jobs.stream(job, timeout=timeout):
                    accept(message)
        except TimeoutError:
            again = session.suggestion(watch_command)
            session.message(f"job {job} has not ended; it keeps running. Attach again with: {again}")
            raise typer.Exit(errors.WAIT_TIMED_OUT) from None
        return jobs.get(job)


@contextmanager
def _plain(session: Session) -> Iterator[Callable[["Message"], None]]:
    view = LogView(session.message)
    try:
        yield view.accept
    finally:
        view.flush(last=True)


@contextmanager
def _live(session: Session, job: "JobDetail") -> Iterator[Callable[["Message"], None]]:
    from windlass.sdk import MetricPoint  # noqa: PLC0415 - the HTTP stack doubles the time of `--help`

    console = session.err
    view = LiveView(job, ascii_only=ascii_only(console))
    for series in session.client.jobs.metrics(job.id).series:
        for step, value in zip(series.steps, series.values, strict=True):
            view.accept(MetricPoint(series.name, step, value))
    live = Live(get_renderable=lambda: view.draw(console.width), console=console, refresh_per_second=4, transient=True)
    with live:
        yield view.accept


def _indented(text: Text) -> Text:
    return Text("\n").join(Text("  ").append_text(line) for line in text.split())
