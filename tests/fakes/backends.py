"""In-memory backends: a pipeline whose runs a test ends, and a serving backend that is ready at once."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

from windlass.domain.datasets import DataRequest, DataResult, Split, ValidationReport
from windlass.domain.endpoints import AppState, AppStatus, ProbeRequest, ServedApp, ServingStatus
from windlass.domain.errors import InvalidError, NotFoundError, UnavailableError
from windlass.domain.jobs import Reason
from windlass.domain.models import ImportedModel, ImportRequest
from windlass.ports import BackendRun, BackendState, TaskFailedError
from windlass.runtime.context import RunContext

_Request = TypeVar("_Request")
_Result = TypeVar("_Result")

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class FakeClock:
    """A clock that tests advance."""

    at: datetime = NOON
    boot: float = 1000.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.boot

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)
        self.boot += seconds

    def set_wall_clock(self, seconds: float) -> None:
        """Set the wall clock forward (negative: back); no time passes."""
        self.at += timedelta(seconds=seconds)


@dataclass
class MemoryPipelines:
    """``ports.PipelineBackend`` in memory."""

    contexts: dict[str, RunContext] = field(default_factory=dict)
    states: dict[str, BackendRun] = field(default_factory=dict)
    submissions: list[str] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)

    def submit(self, context: RunContext) -> bool:
        self.submissions.append(context.identity.name)
        if context.identity.name in self.contexts:
            return False
        self.contexts[context.identity.name] = context
        self.states[context.identity.name] = BackendRun(name=context.identity.name, state=BackendState.RUNNING)
        return True

    def poll(self, run_name: str) -> BackendRun:
        return self.states.get(run_name, BackendRun(name=run_name, state=BackendState.UNKNOWN))

    def pause(self, run_name: str) -> None:
        self._set_paused(run_name, paused=True)

    def resume(self, run_name: str) -> None:
        self._set_paused(run_name, paused=False)

    def _set_paused(self, run_name: str, *, paused: bool) -> None:
        run = self.poll(run_name)
        if run.state is BackendState.RUNNING:
            self.states[run_name] = run.model_copy(update={"paused": paused})

    def kill(self, run_name: str) -> None:
        self.kills.append(run_name)
        if self.poll(run_name).state is BackendState.RUNNING:
            self.end(run_name, BackendState.LOST, "killed")

    def end(self, run_name: str, state: BackendState, message: str = "") -> None:
        """End a run."""
        self.states[run_name] = BackendRun(name=run_name, state=state, message=message)


@dataclass
class MemoryServing:
    """``ports.ServingBackend`` in memory; new applications start in ``initial_state``.

    With ``delay_removal``, removed applications stay until ``finish_removal`` is called.
    """

    initial_state: AppState = AppState.READY
    delay_removal: bool = False
    out_of_memory: bool = False
    """Whether failed applications failed for lack of memory."""
    terminating: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    """Keys of applications that fail to load."""
    base_url: str = "http://127.0.0.1:9"
    headers: dict[str, str] = field(default_factory=dict)
    apps: dict[str, ServedApp] = field(default_factory=dict)
    states: dict[str, AppState] = field(default_factory=dict)
    replicas: dict[str, int] = field(default_factory=dict)
    """The desired numbers of replicas."""
    waits: Reason | None = None
    """Why applications that are being deployed wait."""

    def apply(self, apps: Sequence[ServedApp]) -> None:
        previous = self.replicas
        self.replicas = {app.key: self._desired_replicas(app) for app in apps}
        started = {key for key, number in self.replicas.items() if number and previous.get(key) == 0}
        before, self.apps = set(self.apps), {app.key: app for app in apps}
        self.terminating = (self.terminating | before if self.delay_removal else set()) - set(self.apps)
        failed = dict.fromkeys(self.broken, AppState.FAILED)
        states = {key: state for key, state in self.states.items() if key not in started}
        self.states = {key: states.get(key, failed.get(key, self.initial_state)) for key in self.apps}

    def status(self) -> ServingStatus:
        terminating = (AppStatus(key=key, state=AppState.TERMINATING) for key in sorted(self.terminating))
        named = (self._status(app) for app in self.apps.values())
        return ServingStatus(apps=(*named, *terminating))

    def finish_removal(self) -> None:
        """Drop the terminating applications."""
        self.terminating = set()

    def _desired_replicas(self, app: ServedApp) -> int:
        default = self.replicas.get(app.key, max(1, app.replicas.min))
        return default if app.desired_replicas is None else app.desired_replicas

    def _status(self, app: ServedApp) -> AppStatus:
        state, replicas = self.states[app.key], self.replicas[app.key]
        if replicas == 0:
            return AppStatus(key=app.key, state=AppState.READY, message="scaled to zero")
        ready = replicas if state is AppState.READY else 0
        message, transient = f"{app.model_name} is {state}", self.out_of_memory and state is AppState.FAILED
        return AppStatus(
            key=app.key,
            state=state,
            url=f"{self.base_url}/{app.key}" if self.base_url else "",
            headers=self.headers,
            message=message,
            waits=self.waits if state is AppState.DEPLOYING else None,
            transient=transient,
            ready_replicas=ready,
            desired_replicas=replicas,
        )

    def stop(self) -> None:
        self.apps, self.states, self.replicas = {}, {}, {}


@dataclass
class ImmediateProber:
    """``services.rollouts.Prober`` whose probes end at once with ``error``, or run on while ``running`` is set."""

    error: str = ""
    running: bool = False
    requests: dict[str, ProbeRequest] = field(default_factory=dict)

    def result(self, key: str, group: str, request: ProbeRequest) -> str | None:
        del group
        self.requests[key] = request
        return None if self.running else self.error

    def retain(self, keys: Collection[str]) -> None:
        self.requests = {key: request for key, request in self.requests.items() if key in keys}

    def close(self) -> None:
        self.requests.clear()


@dataclass
class _MemoryTasks(Generic[_Request, _Result]):
    """Tasks in memory: tests set the results; ``start_error`` is raised by every start."""

    requests: dict[str, _Request] = field(default_factory=dict)
    results: dict[str, _Result | Exception] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)
    deleted: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    start_error: OSError | UnavailableError | None = None

    def start(self, name: str, request: _Request) -> None:
        if name in self.requests:
            return
        if self.start_error is not None:
            raise self.start_error
        self.requests[name] = request
        self.starts[name] += 1

    def poll(self, name: str) -> _Result | None:
        if name not in self.requests:
            raise NotFoundError(f"no task {name}")
        result = self.results.get(name)
        if isinstance(result, Exception):
            raise result
        return result

    def problem(self, name: str) -> str:
        return self.problems.get(name, "")

    def delete(self, name: str) -> None:
        self.deleted.append(name)
        self.requests.pop(name, None)
        self.results.pop(name, None)

    def crash(self, name: str) -> None:
        """End a task without a result."""
        self.results[name] = TaskFailedError("the process was killed by signal 9")

    def interrupt(self, name: str) -> None:
        """Lose a task without a result, as a restart of the machine does."""
        if name not in self.results:
            self.requests.pop(name, None)


class MemoryProcessor(_MemoryTasks[DataRequest, DataResult]):
    """``ports.DataProcessor`` in memory."""

    def finish(self, name: str) -> None:
        """End a process with rows in both splits."""
        rows = {Split.TRAIN: 4, Split.VALIDATION: 4}
        report = ValidationReport(findings=(), splits={})
        self.results[name] = DataResult(accepted=True, report=report, rows=rows, labels=("a", "b"), digest="0" * 64)


class MemoryImporter(_MemoryTasks[ImportRequest, ImportedModel]):
    """``ports.ModelImporter`` in memory."""

    def check_source(self, source: Path) -> None:
        if not source.exists():
            raise InvalidError.field("/path", f"there is no {source}")


class AlwaysUpRay:
    """``ports.RayCluster`` that is always up."""

    def ensure(self) -> str:
        return "127.0.0.1:1"

    def stop(self) -> None:
        return
