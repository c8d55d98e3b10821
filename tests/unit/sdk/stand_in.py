"""An HTTP server with scripted answers, and samples of what a real one would answer."""

import json
import socket
import struct
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

NOW = "2026-01-02T03:04:05Z"


@dataclass(frozen=True)
class Seen:
    """One request as it came in."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What to send back; ``cut`` drops the connection after the body (or, without a status, at once).

    ``hold`` keeps the connection open after the body until it is set, as an answer that is still being made.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hold: threading.Event | None = None


def ok(data: Any, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(data).encode(), {"Content-Type": "application/json", **named})


def problem(status: int, code: str, **facts: Any) -> Answer:
    headers = {"Content-Type": "application/problem+json"}
    if "retry_after" in facts:
        headers["Retry-After"] = str(facts.pop("retry_after"))
    body = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": f"it is {code}", **facts}
    return Answer(status, json.dumps(body).encode(), headers)


def dropped() -> Answer:
    """The server has read the request, and is gone before it answers."""
    return Answer(status=0, cut=True)


def events(*frames: str, cut: bool = False) -> Answer:
    return Answer(200, "".join(frames).encode(), {"Content-Type": "text/event-stream"}, cut)


def page(*items: Any, cursor: str | None = None) -> Answer:
    return ok({"items": items, "next_cursor": cursor})


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when a client has left; that is what some tests are about."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class StandIn:
    """Answers each route by its script, one answer per request; the last answer repeats."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._scripts: dict[tuple[str, str], deque[Answer | Callable[[Seen], Answer]]] = defaultdict(deque)
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def on(self, method: str, path: str, *answers: Answer | Callable[[Seen], Answer]) -> None:
        self._scripts[method, path].extend(answers)

    def requests(self, method: str, path: str) -> list[Seen]:
        return [seen for seen in self.seen if (seen.method, seen.path) == (method, path)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, seen: Seen) -> Answer:
        self.seen.append(seen)
        script = self._scripts.get((seen.method, seen.path))
        if not script:
            return problem(404, "not_found")
        answer = script[0] if len(script) == 1 else script.popleft()
        return answer if isinstance(answer, Answer) else answer(seen)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path, _, query = self.path.partition("?")
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = stand_in._answer(Seen(self.command, path, query, headers, body))
                if answer.status:
                    self._send(answer)
                if answer.hold is not None:
                    answer.hold.wait(30)
                if answer.cut:
                    # linger 0: the peer sees a reset, as when a process is killed
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True

            def _send(self, answer: Answer) -> None:
                streamed = answer.headers.get("Content-Type") == "text/event-stream"
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if streamed:
                    self.send_header("Connection", "close")
                else:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
                self.wfile.flush()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
                """Say nothing."""

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler._serve)
        return Handler


def a_pool(**changes: Any) -> dict[str, Any]:
    return {
        "name": "h200",
        "capacity": 8,
        "gpu_type": "H200",
        "max_gpus_per_job": None,
        "price_per_gpu_hour": 0.0,
        "nodes": None,
        "ready_nodes": None,
        "allocatable": None,
        "nominal": 0,
        "in_use": 0,
        "problem": "",
        "created_at": NOW,
        "version": 1,
        **changes,
    }


SPEC = {"task": "text-classification", "base_model": "minilm-l6", "dataset": "reviews", "model": "sentiment"}


def a_job(**changes: Any) -> dict[str, Any]:
    return {
        "id": "job_1",
        "project": "team-a",
        "name": None,
        "state": "queued",
        "reason": None,
        "spec": SPEC,
        "dataset": "reviews@1",
        "model": "sentiment",
        "model_version": None,
        "attempt": 0,
        "run": 0,
        "retry_of": None,
        "progress": None,
        "created_by": "ann",
        "created_at": NOW,
        "queued_at": NOW,
        "started_at": None,
        "finished_at": None,
        "version": 1,
        "runs": [],
        "attempts": [],
        "evaluation": None,
        **changes,
    }


def event_frame(sequence: int, code: str = "noted") -> str:
    data = {"sequence": sequence, "time": NOW, "code": code, "message": code, "facts": {}, "attempt": None}
    return f"event: event\nid: {sequence}\ndata: {json.dumps(data)}\n\n"


def metric_frame(name: str, step: int, value: float) -> str:
    return f"event: metric\ndata: {json.dumps({'name': name, 'step': step, 'value': value})}\n\n"


def state_frame(**changes: Any) -> str:
    return f"event: state\ndata: {json.dumps(a_job(**changes))}\n\n"


END = "event: end\ndata: {}\n\n"
