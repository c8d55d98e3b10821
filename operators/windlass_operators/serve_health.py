"""Health and metrics over HTTP: from the first moment on, since a replica that waits for the lease is alive too."""

import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from windlass_operators.metrics import REGISTRY

_SILENT_SECONDS = 60.0


class Pulse:
    """The last sign of life of a loop; a loop that has not begun, or has ended, need not give one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None

    def beat(self) -> None:
        """Say that the loop turns."""
        self._last = self._clock()

    def stop(self) -> None:
        """Say that the loop has ended on purpose."""
        self._last = None

    @property
    def alive(self) -> bool:
        """Tell whether nothing hangs."""
        return self._last is None or self._clock() - self._last < _SILENT_SECONDS

    @property
    def active(self) -> bool:
        """Tell whether the loop turns."""
        return self._last is not None and self.alive


def start(host: str, port: int, pulse: Pulse) -> ThreadingHTTPServer:
    """Answer ``/healthz`` (alive), ``/active`` (reconciles, and does not wait for the lease) and ``/metrics``.

    Raises:
        OSError: the address is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "windlass", ""
        timeout = 10

        def do_GET(self) -> None:
            """Answer one question."""
            answers: dict[str, Callable[[], tuple[bool, bytes, str]]] = {
                "/healthz": lambda: (pulse.alive, b"ok\n" if pulse.alive else b"the loop hangs\n", "text/plain"),
                "/active": lambda: (pulse.active, b"active\n" if pulse.active else b"waiting\n", "text/plain"),
                "/metrics": lambda: (True, generate_latest(REGISTRY), CONTENT_TYPE_LATEST),
            }
            if (answer := answers.get(self.path)) is None:
                self._reply(HTTPStatus.NOT_FOUND, b"not found\n", "text/plain")
                return
            good, body, kind = answer()
            self._reply(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, body, kind)

        def _reply(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing: a probe asks every few seconds."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
