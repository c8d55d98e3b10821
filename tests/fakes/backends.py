"""In-memory back ends: a pipeline whose runs end when a test says so, and a server that serves at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from windlass.domain.datasets import DataRequest, DataResult, Split, ValidationReport
from windlass.domain.endpoints import AppState, AppStatus, ServedApp, ServingStatus
from windlass.domain.errors import NotFoundError
from windlass.ports import BackendRun, BackendState
from windlass.runtime.context import RunContext

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class HandClock:
    """A clock that a test moves."""

    at: datetime = NOON

    def now(self) -> datetime:
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class MemoryPipelines:
    """``ports.PipelineBackend`` in memory."""

    contexts: dict[str, RunContext] = field(default_factory=dict)
    states: dict[str, BackendRun] = field(default_factory=dict)
    submissions: list[str] = field(default_factory=list)

    def submit(self, context: RunContext) -> None:
        self.submissions.append(context.run_name)
        if context.run_name not in self.contexts:
            self.contexts[context.run_name] = context
            self.states[context.run_name] = BackendRun(name=context.run_name, state=BackendState.RUNNING)

    def poll(self, run_name: str) -> BackendRun:
        return self.states.get(run_name, BackendRun(name=run_name, state=BackendState.UNKNOWN))

    def kill(self, run_name: str) -> None:
        if self.poll(run_name).state is BackendState.RUNNING:
            self.end(run_name, BackendState.LOST, "killed")

    def end(self, run_name: str, state: BackendState, message: str = "") -> None:
        """Let a run end."""
        self.states[run_name] = BackendRun(name=run_name, state=state, message=message)


@dataclass
class MemoryServing:
    """``ports.ServingBackend`` in memory; ``newcomers`` is the state that an application starts in.

    While it is ``lingering``, applications that are no longer wished stay until ``gone`` is called.
    """

    newcomers: AppState = AppState.READY
    lingering: bool = False
    cramped: bool = False
    """What fails does so for lack of memory."""
    leaving: set[str] = field(default_factory=set)
    apps: dict[str, ServedApp] = field(default_factory=dict)
    states: dict[str, AppState] = field(default_factory=dict)

    def apply(self, apps: Sequence[ServedApp]) -> None:
        before, self.apps = set(self.apps), {app.key: app for app in apps}
        self.leaving = (self.leaving | before if self.lingering else set()) - set(self.apps)
        self.states = {key: self.states.get(key, self.newcomers) for key in self.apps}

    def status(self) -> ServingStatus:
        leaving = (AppStatus(key=key, state=AppState.LEAVING) for key in sorted(self.leaving))
        named = (self._status(app) for app in self.apps.values())
        return ServingStatus(base_url="http://127.0.0.1:9", apps=(*named, *leaving))

    def gone(self) -> None:
        """Let what was leaving have left."""
        self.leaving = set()

    def _status(self, app: ServedApp) -> AppStatus:
        state = self.states[app.key]
        ready = app.replicas.min if state is AppState.READY else 0
        message, passing = f"{app.model_name} is {state}", self.cramped and state is AppState.FAILED
        return AppStatus(key=app.key, state=state, message=message, passing=passing, ready_replicas=ready)

    def stop(self) -> None:
        self.apps, self.states = {}, {}


@dataclass
class MemoryProcessor:
    """``ports.DataProcessor`` in memory: a process ends when a test says how; ``broken`` refuses to start any."""

    requests: dict[str, DataRequest] = field(default_factory=dict)
    ends: dict[str, DataResult | Exception] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)
    broken: OSError | None = None

    def start(self, name: str, request: DataRequest) -> None:
        if self.broken is not None:
            raise self.broken
        self.requests[name] = request

    def poll(self, name: str) -> DataResult | None:
        if name not in self.requests:
            raise NotFoundError(f"no data process {name}")
        end = self.ends.get(name)
        if isinstance(end, Exception):
            raise end
        return end

    def forget(self, name: str) -> None:
        self.forgotten.append(name)
        self.requests.pop(name, None)

    def finish(self, name: str) -> None:
        """Let a process end with rows in both splits."""
        rows = {Split.TRAIN: 4, Split.VALIDATION: 4}
        report = ValidationReport(findings=(), splits={})
        self.ends[name] = DataResult(accepted=True, report=report, rows=rows, labels=("a", "b"), digest="0" * 64)


class FixedRay:
    """``ports.RayCluster`` that is always up."""

    def ensure(self) -> str:
        return "127.0.0.1:1"

    def stop(self) -> None:
        return
