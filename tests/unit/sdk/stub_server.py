"""An HTTP server with scripted responses, and sample response bodies."""

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
class RecordedRequest:
    """A received request."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class StubResponse:
    """A scripted response; ``reset`` resets the connection after the body (or immediately, without a status).

    ``hold`` keeps the connection open after the body until the event is set, like an unfinished stream.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False
    hold: threading.Event | None = None


def ok(data: Any, status: int = 200, **headers: str) -> StubResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return StubResponse(status, json.dumps(data).encode(), {"Content-Type": "application/json", **named})


def problem(status: int, code: str, **context: Any) -> StubResponse:
    headers = {"Content-Type": "application/problem+json"}
    if "retry_after" in context:
        headers["Retry-After"] = str(context.pop("retry_after"))
    body = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": f"it is {code}", **context}
    return StubResponse(status, json.dumps(body).encode(), headers)


def connection_reset() -> StubResponse:
    """Return a response that resets the connection after the request has been read."""
    return StubResponse(status=0, reset=True)


def events(*frames: str, reset: bool = False) -> StubResponse:
    return StubResponse(200, "".join(frames).encode(), {"Content-Type": "text/event-stream"}, reset)


def page(*items: Any, cursor: str | None = None) -> StubResponse:
    return ok({"items": items, "next_cursor": cursor})


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore connection errors: some tests disconnect on purpose."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class StubServer:
    """Serves scripted responses per route, one per request; the last one repeats."""

    def __init__(self) -> None:
        self.recorded: list[RecordedRequest] = []
        self._scripts: dict[tuple[str, str], deque[StubResponse | Callable[[RecordedRequest], StubResponse]]] = (
            defaultdict(deque)
        )
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def on(self, method: str, path: str, *responses: StubResponse | Callable[[RecordedRequest], StubResponse]) -> None:
        self._scripts[method, path].extend(responses)

    def requests(self, method: str, path: str) -> list[RecordedRequest]:
        return [request for request in self.recorded if (request.method, request.path) == (method, path)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _respond(self, request: RecordedRequest) -> StubResponse:
        self.recorded.append(request)
        script = self._scripts.get((request.method, request.path))
        if not script:
            return problem(404, "not_found")
        response = script[0] if len(script) == 1 else script.popleft()
        return response if isinstance(response, StubResponse) else response(request)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path, _, query = self.path.partition("?")
                headers = {name.lower(): value for name, value in self.headers.items()}
                response = stub._respond(RecordedRequest(self.command, path, query, headers, body))
                if response.status:
                    self._send(response)
                if response.hold is not None:
                    response.hold.wait(30)
                if response.reset:
                    # linger 0: the peer receives a reset, as if the process was killed
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True

            def _send(self, response: StubResponse) -> None:
                streamed = response.headers.get("Content-Type") == "text/event-stream"
                self.send_response(response.status)
                for name, value in response.headers.items():
                    self.send_header(name, value)
                if streamed:
                    self.send_header("Connection", "close")
                else:
                    self.send_header("Content-Length", str(len(response.body)))
                self.end_headers()
                self.wfile.write(response.body)
                self.wfile.flush()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
                """Disable logging."""

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler._serve)
        return Handler


def pool_json(**changes: Any) -> dict[str, Any]:
    return {
        "name": "h200",
        "capacity": 8,
        "gpu_type": "H200",
        "max_gpus_per_job": None,
        "price_per_gpu_hour": 0.0,
        "gpu_memory_bytes": None,
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


def job_json(**changes: Any) -> dict[str, Any]:
    return {
        "id": "job_1",
        "project": "team-a",
        "name": None,
        "state": "queued",
        "reason": None,
        "spec": SPEC,
        "dataset": "reviews@1",
        "world_size": 1,
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
    data = {"sequence": sequence, "time": NOW, "code": code, "message": code, "context": {}, "attempt": None}
    return f"event: event\nid: {sequence}\ndata: {json.dumps(data)}\n\n"


def metric_frame(name: str, step: int, value: float) -> str:
    return f"event: metric\ndata: {json.dumps({'name': name, 'step': step, 'value': value})}\n\n"


def state_frame(**changes: Any) -> str:
    return f"event: state\ndata: {json.dumps(job_json(**changes))}\n\n"


END = "event: end\ndata: {}\n\n"
