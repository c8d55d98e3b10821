"""Serves health and metrics over HTTP, from the start: a replica that waits for the lease is alive too."""

import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from windlass_operators.metrics import REGISTRY

_TIMEOUT_SECONDS = 60.0


class LivenessTracker:
    """Tracks heartbeats of a loop; a loop that has not started or was stopped is considered alive."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None

    def touch(self) -> None:
        """Record a heartbeat."""
        self._last = self._clock()

    def stop(self) -> None:
        """Record that the loop was stopped."""
        self._last = None

    @property
    def alive(self) -> bool:
        """Whether the loop does not hang."""
        return self._last is None or self._clock() - self._last < _TIMEOUT_SECONDS

    @property
    def active(self) -> bool:
        """Whether the loop runs."""
        return self._last is not None and self.alive


def start(host: str, port: int, liveness: LivenessTracker) -> ThreadingHTTPServer:
    """Serve ``/healthz`` (alive), ``/active`` (this replica is the leader and reconciles) and ``/metrics``.

    Raises:
        OSError: the address is in use.
    """

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "windlass", ""
        timeout = 10

        def do_GET(self) -> None:
            """Handle a request."""
            handlers: dict[str, Callable[[], tuple[bool, bytes, str]]] = {
                "/healthz": lambda: (liveness.alive, b"ok\n" if liveness.alive else b"the loop hangs\n", "text/plain"),
                "/active": lambda: (liveness.active, b"active\n" if liveness.active else b"waiting\n", "text/plain"),
                "/metrics": lambda: (True, generate_latest(REGISTRY), CONTENT_TYPE_LATEST),
            }
            if (handler := handlers.get(self.path)) is None:
                self._reply(HTTPStatus.NOT_FOUND, b"not found\n", "text/plain")
                return
            ok, body, content_type = handler()
            self._reply(HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE, body, content_type)

        def _reply(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Suppress the request log: probes are frequent."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
