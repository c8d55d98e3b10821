"""The real control plane over HTTP, with one job and its run, for the processes of that run.

Tests interrupt the connection with ``outage`` and ``restore``, answer requests in place of the application with
``intercept``, or lose replies with ``drop_replies``. What the control plane has stored is read from its database.
"""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.factories.http_servers import serve
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.domain.jobs import Attempt, Job
from windlass.domain.models import ModelVersion
from windlass.domain.records import Checkpoint, Event
from windlass.domain.reports import ResultItem
from windlass.domain.specs import JobSpec
from windlass.ports import BackendState
from windlass.runtime.context import RunContext, RunEnvironment
from windlass.services.access import RUN_TOKEN_GRACE
from windlass.services.jobs import Jobs
from windlass.services.runs import Runs
from windlass.wire.base import Problem
from windlass.wire.runs import RUNS_PATH, WARM_TRAINERS_PATH

HEARTBEAT_TIMEOUT = timedelta(seconds=30)
_MANY = 100_000


@dataclass(frozen=True)
class Operation:
    """One request of a run's process and the status of its reply, also if the reply was dropped."""

    method: str
    path: str
    body: Any
    status: int


Intercept = Callable[[str, Any], Response | None]
"""Gets the path and the body of a request; returns a reply, or None for the reply of the application."""


def problem(status: int, code: str, detail: str = "by the test") -> Response:
    """Return a reply with problem details."""
    body = Problem(type="about:blank", title=code, status=status, code=code, detail=detail).model_dump()
    return JSONResponse(body, status, media_type="application/problem+json")


class ServedControlPlane:
    """The control plane of one job, whose run is opened by ``bind``; use as a context manager.

    The clock stands still, so that no attempt exceeds its heartbeat timeout unless a test advances the clock.
    """

    def __init__(self, root: Path) -> None:
        home = root / "control-plane"
        home.mkdir()
        self.harness = ControlPlaneHarness(home)
        self.operations: list[Operation] = []
        self.changed = threading.Condition()
        self.drop_replies: Callable[[str], bool] = lambda _path: False
        self.intercept: Intercept = lambda _path, _body: None
        self._served = ExitStack()
        self._port = 0
        self._opened: RunContext | None = None

    def __enter__(self) -> Self:
        self._ray = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.ray_address = f"127.0.0.1:{self._ray.getsockname()[1]}"
        """Where something listens as Ray does, until ``stop_ray``."""
        self.restore()
        return self

    def __exit__(self, *_: object) -> None:
        self.outage()
        self._ray.close()
        self.harness.close()

    @property
    def url(self) -> str:
        """The base address without a path."""
        return f"http://127.0.0.1:{self._port}"

    def stop_ray(self) -> None:
        """Close the port that stands in for Ray."""
        self._ray.close()

    def restore(self, *, other_port: bool = False) -> None:
        """Listen, on the previous port if there was one."""
        self._port = self._served.enter_context(serve(_Wrapper(self), 0 if other_port else self._port))

    def outage(self) -> None:
        """Refuse connections and close the open ones; what is stored is kept."""
        self._served.close()

    def bind(self, context: RunContext) -> RunContext:
        """Submit a job with the context's spec, admit it, and return the context as one of the job's run.

        A second call returns the same run.
        """
        opened = self._opened = self._opened or self._open(context.spec)
        update = {"run_token": opened.run_token, "identity": opened.identity, "api_url": self.url}
        return context.model_copy(update=update)

    def environment(self, environment: RunEnvironment) -> RunEnvironment:
        """Bind the context of an environment, and write it to its file."""
        bound = replace(environment, context=self.bind(environment.context))
        bound.context.write(bound.context_file)
        return bound

    def _open(self, spec: JobSpec) -> RunContext:
        harness = self.harness
        self._project = harness.create_project("ours", gpus=spec.resources.gpus, priority_ceiling=1)
        harness.create_base_model(spec.base_model, spec.task)
        harness.create_dataset("ours", spec.dataset.partition("@")[0], spec.task)
        self._job = harness.submit("ours", key="job", **spec.model_dump(mode="json"))["id"]
        return self._admitted()

    def admit_again(self) -> None:
        """Admit the queued job again: from now on ``bind`` returns its next run."""
        self._opened = self._admitted()

    def _admitted(self) -> RunContext:
        harness = self.harness
        harness.run_worker_once()
        *_, context = harness.pipelines.contexts.values()
        self.runs = Runs(harness.deps, context.identity.run, HEARTBEAT_TIMEOUT)
        """The operations of the run, without HTTP."""
        return context

    def preempt(self) -> None:
        """Let the scheduler preempt the run for a job of a higher priority."""
        spec = self.job.spec.model_dump(mode="json") | {"priority": 1, "model": "urgent", "deploy": None}
        self.harness.submit("ours", key="urgent", **spec)
        self.harness.jobs.admit()

    def cancel(self) -> None:
        """Cancel the job: its run gets the command to stop."""
        response = self.harness.client.post(f"/v1/projects/ours/jobs/{self._job}:cancel")
        assert response.status_code == 200, response.text

    def end_run(self, state: BackendState, *, revoke_token: bool = False) -> None:
        """Let the pipeline back end report the end of the run; its token is valid for some time after that."""
        assert self._opened
        self.harness.pipelines.end(self._opened.identity.name, state)
        self.harness.jobs.poll()
        if revoke_token:
            self.harness.clock.advance(RUN_TOKEN_GRACE.total_seconds())

    def lose_attempt(self) -> None:
        """Close the newest attempt as one whose trainer has exited."""
        attempt = self.attempts[-1]
        self.runs.report_attempt_lost(attempt.number)

    def wait_for(self, condition: Callable[["ServedControlPlane"], bool], timeout: float = 30.0) -> None:
        """Block until the condition holds; it is evaluated after each request."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self), timeout):
                raise TimeoutError(f"not within {timeout} s; last: {self.operations[-3:]}")

    def sent(self, path_end: str, status: int = 200) -> list[Any]:
        """Return the bodies of the requests to a path that got this status, in order."""
        return [each.body for each in self.operations if each.path.endswith(path_end) and each.status == status]

    def step_log_chunks(self, step: str) -> list[tuple[int, str]]:
        """Return the number and the text of every chunk of a step's log that was accepted."""
        bodies = self.sent(f"/steps/{step}/logs", 204)
        return [(body["sequence"], "".join(item["text"] for item in body["items"])) for body in bodies]

    @property
    def job(self) -> Job:
        with self.harness.database.read() as uow:
            return uow.all_projects().jobs.get({"id": self._job})

    @property
    def attempts(self) -> list[Attempt]:
        with self.harness.database.read() as uow:
            return uow.all_projects().attempts.all({"job": self._job})

    @property
    def attempt_states(self) -> list[str]:
        return [attempt.state.value for attempt in self.attempts]

    @property
    def result(self) -> ResultItem | None:
        """The result of the newest attempt."""
        return next((attempt.result for attempt in reversed(self.attempts)), None)

    @property
    def steps(self) -> dict[str, str]:
        """The states of the pipeline steps."""
        with self.harness.database.read() as uow:
            return uow.all_projects().runs.all({"job": self._job})[-1].steps

    @property
    def checkpoints(self) -> list[Checkpoint]:
        with self.harness.database.read() as uow:
            return uow.all_projects().checkpoints.all({"job": self._job})

    @property
    def versions(self) -> list[ModelVersion]:
        with self.harness.database.read() as uow:
            return uow.all_projects().model_versions.all({"job": self._job})

    @property
    def events(self) -> list[Event]:
        with self.harness.database.read() as uow:
            return uow.all_projects().telemetry.events(self._job, 0, _MANY)

    def event_codes(self) -> list[str]:
        return [event.code for event in self.events]

    def points(self, name: str) -> list[tuple[int, int, float]]:
        """Return (attempt, step, value) of every stored point of a series, by step."""
        with self.harness.database.read() as uow:
            stored = uow.all_projects().telemetry.metric_points(self._job, name, -1, _MANY)
        return [(point.attempt, point.step, point.value) for point in stored]

    def metrics(self, name: str) -> dict[int, float]:
        """Return a series by step."""
        return {step: value for _, step, value in self.points(name)}

    def log(self, source: str) -> str:
        """Return the stored log text of a source."""
        jobs, text = Jobs(self.harness.deps, ADMIN, self._project), b""
        while part := jobs.log(self._job, len(text), _MANY)[0]:
            text += part
        marked = (line.partition(" | ") for line in text.decode().splitlines(keepends=True))
        return "".join(content for prefix, _, content in marked if prefix.endswith(f" {source}"))


@dataclass
class _Wrapper:
    """ASGI application around the control plane: records, replaces and drops replies to the trainer's processes."""

    control_plane: ServedControlPlane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self.control_plane.harness.app
        if scope["type"] != "http" or not scope["path"].startswith((RUNS_PATH, WARM_TRAINERS_PATH)):
            await app(scope, receive, send)
            return
        request = Request(scope, receive)
        content = await request.body()
        body = json.loads(content) if content else None
        reply = self.control_plane.intercept(scope["path"], body) or app
        messages: list[Message] = []

        async def replay() -> Message:
            return {"type": "http.request", "body": content, "more_body": False}

        async def collect(message: Message) -> None:
            messages.append(message)

        await reply(scope, replay, collect)
        operation = Operation(scope["method"], scope["path"], body, messages[0]["status"])
        with self.control_plane.changed:
            self.control_plane.operations.append(operation)
            self.control_plane.changed.notify_all()
        if self.control_plane.drop_replies(scope["path"]):
            # The server closes the connection when an application returns before the end of its response. A client
            # expects no content of a response with the status 204, and would take it as complete.
            messages = [{**messages[0], "status": 200, "headers": [(b"content-length", b"1")]}]
        for message in messages:
            await send(message)
