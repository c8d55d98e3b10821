"""An in-memory control plane that speaks the internal API of runs over real HTTP and keeps an operation log.

It has one job with one run at a time. Tests read ``state`` and ``operations``, set ``command``, and cut the
line with ``outage``/``restore`` (same port) or ``drop_replies`` (the request is applied, its reply is lost).
"""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from pydantic import ValidationError

from windlass.domain.reports import (
    CheckpointItem,
    ClaimReply,
    ClaimRequest,
    Command,
    EventItem,
    LogItem,
    MetricItem,
    ReportBatch,
    ReportReply,
    ResultItem,
    ResumePoint,
)


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A problem reply: status, code, sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class FakeAttempt:
    """One attempt: ``state`` is live, ended or lost."""

    number: int
    trainer: str
    run: str
    state: str = "live"
    heartbeat: float = field(default_factory=time.monotonic)
    sequences: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """One request that was answered (or applied and then dropped)."""

    method: str
    path: str
    body: Any
    status: int


@dataclass
class State:
    """Everything that was told; guarded by the fake's lock."""

    attempts: list[FakeAttempt] = field(default_factory=list)
    items: list[tuple[int, str, Any]] = field(default_factory=list)
    steps: dict[str, dict[str, str]] = field(default_factory=dict)
    step_logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    result: ResultItem | None = None
    trained_seconds: float = 0.0
    registered: dict[str, Any] | None = None
    deployed: dict[str, Any] | None = None


class FakeControlPlane:
    """Serves ``/internal/v1/runs/{run}`` on 127.0.0.1; use as a context manager."""

    def __init__(self, *, job: str = "job_1", run: str = "run_1") -> None:
        self.job, self.run, self.token = job, run, "secret-run-token"
        self.job_state = "running"
        self.command = Command.CONTINUE
        self.lease_seconds = 30.0
        self.decision = "candidate"
        self.state = State()
        self.operations: list[Operation] = []
        self.changed = threading.Condition()
        self.drop_replies: Callable[[str], bool] = lambda _path: False
        self.refuse_with: int | None = None
        self._server: _Server | None = None
        self._port = self._ray_port = 0

    @property
    def url(self) -> str:
        """The base address without a path."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.restore()
        self._ray = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self._ray_port = self._ray.getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.outage()
        self._ray.close()

    @property
    def ray_address(self) -> str:
        """Where something listens as a Ray would, until ``lose_ray``."""
        return f"127.0.0.1:{self._ray_port}"

    def lose_ray(self) -> None:
        """Let the Ray be gone."""
        self._ray.close()

    def restore(self) -> None:
        """Listen (again, on the port of before)."""
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def outage(self) -> None:
        """Refuse connections and cut the open ones; what was told is kept."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.cut()

    def open_run(self, run: str) -> None:
        """Begin the job's next run, as after a preemption; attempts go on counting."""
        with self.changed:
            self.run, self.state.result, self.command = run, None, Command.CONTINUE

    def wait_for(self, condition: Callable[["FakeControlPlane"], bool], timeout: float = 30.0) -> None:
        """Block until the condition holds; it is looked at after each operation."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self), timeout):
                raise TimeoutError(f"not within {timeout} s; last: {self.operations[-3:]}")

    def of(self, kind: type[Any], attempt: int | None = None) -> list[Any]:
        """Return the reported items of a type, in the order of arrival."""
        return [item for n, _, item in self.state.items if isinstance(item, kind) and attempt in {None, n}]

    def raw_metrics(self, name: str) -> list[tuple[int, int, float]]:
        """Return (attempt, step, value) of every point that arrived."""
        found = [(n, item) for n, _, item in self.state.items if isinstance(item, MetricItem)]
        return [(n, item.step, item.value) for n, item in found if item.name == name]

    def metrics(self, name: str) -> dict[int, float]:
        """Return the series as a reader sees it: the newest attempt's point of each step."""
        return {step: value for _, step, value in sorted(self.raw_metrics(name))}

    def logs(self) -> str:
        """Return all shipped log text."""
        return "".join(item.text for item in self.of(LogItem))

    def events(self) -> list[str]:
        """Return the codes of the events."""
        return [item.code for item in self.of(EventItem)]

    @contextmanager
    def applied(self, method: str, path: str, body: Any) -> Iterator[None]:
        """Run one operation under the lock and log it with its status."""
        with self.changed:
            status = 200
            try:
                yield
            except Refused as refused:
                status = refused.status
                raise
            except (ValidationError, KeyError, ValueError):
                status = 422
                raise
            finally:
                self.operations.append(Operation(method, path, body, status))
                self.changed.notify_all()

    def claim(self, body: Any) -> Any:
        """Open the next attempt, or refuse."""
        trainer = ClaimRequest.model_validate(body).trainer
        if self.job_state in {"succeeded", "failed", "cancelled"} or self.state.result is not None:
            raise Refused(409, "fenced", f"the job is {self.job_state} or its run has ended")
        last = self.state.attempts[-1] if self.state.attempts else None
        if last is None or last.state != "live" or self._lease_over(last):
            last = FakeAttempt(len(self.state.attempts) + 1, trainer, self.run)
            self.state.attempts.append(last)
        elif last.trainer != trainer:
            raise Refused(409, "attempt_held", f"attempt {last.number} holds its lease")
        resume = max(self.of(CheckpointItem), key=lambda item: item.step, default=None)
        return ClaimReply(
            attempt=last.number,
            lease_seconds=self.lease_seconds,
            resume=resume and ResumePoint(step=resume.step, prefix=resume.prefix, manifest=resume.manifest),
            trained_seconds=self.state.trained_seconds,
        ).model_dump(mode="json")

    def _lease_over(self, attempt: FakeAttempt) -> bool:
        return time.monotonic() - attempt.heartbeat > self.lease_seconds

    def report(self, number: int, body: Any) -> Any:
        """Take a batch once; a repeated one is acknowledged and ignored."""
        batch = ReportBatch.model_validate(body)
        attempt = next((a for a in self.state.attempts if a.number == number), None)
        seen = attempt is not None and attempt.sequences.get(batch.source, 0) >= batch.sequence
        if attempt is None or (attempt.state != "live" and not seen):
            raise Refused(409, "fenced", f"attempt {number} is not the live one")
        if not seen:
            attempt.sequences[batch.source] = batch.sequence
            attempt.heartbeat = time.monotonic()
            self.state.items.extend((number, batch.source, item) for item in batch.items)
            for item in batch.items:
                if isinstance(item, ResultItem):
                    attempt.state = "ended"
                    self.state.trained_seconds += item.trained_seconds
                    self.state.result = item
        return ReportReply(acknowledged=batch.sequence, command=self.command).model_dump(mode="json")

    def lost(self, number: int, body: Any) -> None:
        """Close an attempt whose trainer is gone."""
        for attempt in self.state.attempts:
            if attempt.number == number and attempt.state == "live" and attempt.trainer == body["trainer"]:
                attempt.state = "lost"

    def step(self, name: str, body: Any) -> None:
        """Note a step's state."""
        self.state.steps[name] = {"state": body["state"], "message": body.get("message", "")}

    def step_log(self, name: str, body: Any) -> None:
        """Keep a chunk of a step's log, each sequence once."""
        kept = self.state.step_logs.setdefault(name, [])
        if all(chunk["sequence"] != body["sequence"] for chunk in kept):
            kept.append(body)

    def register(self, _body: Any) -> Any:
        """Register the result once; needs one."""
        if self.state.result is None or self.state.result.manifest is None:
            raise Refused(409, "conflict", "the run has no result to register")
        self.state.registered = self.state.registered or {
            "model_version": "mv_1",
            "model": "model",
            "number": 1,
            "decision": self.decision,
            "reason": "",
        }
        return self.state.registered

    def deploy(self, _body: Any) -> Any:
        """Deploy the registered version once."""
        if self.state.registered is None:
            raise Refused(409, "conflict", "nothing is registered")
        self.state.deployed = {"endpoint": "endpoint"}
        return self.state.deployed

    def look(self, _body: Any) -> Any:
        """Answer what the run's processes may ask."""
        result = self.state.result and self.state.result.model_dump(mode="json")
        return {"job": self.job, "state": self.job_state, "command": self.command.value, "result": result}


_ROUTES: tuple[tuple[str, str, str], ...] = (
    ("POST", r"/attempts:claim", "claim"),
    ("POST", r"/attempts/(\d+)/reports", "report"),
    ("POST", r"/attempts/(\d+):lost", "lost"),
    ("PUT", r"/steps/([a-z-]+)", "step"),
    ("POST", r"/steps/([a-z-]+)/logs", "step_log"),
    ("POST", r"/register", "register"),
    ("POST", r"/deploy", "deploy"),
    ("GET", r"", "look"),
)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], plane: FakeControlPlane) -> None:
        self.plane = plane
        self.open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def cut(self) -> None:
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        super().finish()

    def log_message(self, *_: Any) -> None:
        """Keep the test output clean."""

    def _handle(self) -> None:
        plane = self.server.plane
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            status, reply = 200, self._apply(plane, json.loads(raw) if raw else None)
        except Refused as refused:
            status = refused.status
            reply = {"type": "about:blank", "status": status, "code": refused.code, "detail": str(refused)}
        except (ValidationError, KeyError, ValueError) as error:
            status, reply = 422, {"type": "about:blank", "status": 422, "code": "invalid", "detail": str(error)}
        if plane.drop_replies(self.path):
            self.close_connection = True
            return
        content = b"" if reply is None else json.dumps(reply).encode()
        self.send_response(204 if reply is None else status)
        self.send_header("content-type", "application/json" if status == 200 else "application/problem+json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _apply(self, plane: FakeControlPlane, body: Any) -> Any:
        prefix = f"/internal/v1/runs/{plane.run}"
        with plane.applied(self.command, self.path, body):
            if plane.refuse_with is not None:
                raise Refused(plane.refuse_with, "unavailable", "told to refuse")
            if self.headers.get("authorization") != f"Bearer {plane.token}":
                raise Refused(401, "unauthenticated", "no or wrong run token")
            for method, pattern, name in _ROUTES:
                found = re.fullmatch(re.escape(prefix) + pattern, self.path)
                if found and method == self.command:
                    arguments = [int(group) if group.isdigit() else group for group in found.groups()]
                    return getattr(plane, name)(*arguments, body)
            raise Refused(404, "not_found", self.path)

    do_GET = do_POST = do_PUT = _handle  # noqa: N815 - names that http.server looks for


def now() -> datetime:
    """Return the time, aware, UTC."""
    return datetime.now(UTC)
