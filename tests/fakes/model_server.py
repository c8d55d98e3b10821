"""A model server for tests of the inference proxy: real HTTP on the loopback address, fixed answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StubModelServer:
    """Answers with ``answer``; with ``stuck`` it does not, and counts in ``disconnected`` when the peer closes."""

    url: str = ""
    status: int = 200
    answer: dict[str, Any] = field(default_factory=dict)
    respond: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """Returns the answer to the body of a request; without it ``answer`` is the answer to all."""
    failures: list[int] = field(default_factory=list)
    """Statuses of the next requests; 0 is a success."""
    dropped: int = 0
    """Requests whose connections are closed without a response."""
    stuck: bool = False
    events: bool = False
    """Whether the answer is an event stream that begins and never ends."""
    stream: bytes = b""
    """An event stream that ends."""
    requests: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    disconnected: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class _Handler(BaseHTTPRequestHandler):
    stub: StubModelServer

    def do_POST(self) -> None:
        self.stub.requests.append(self.path)
        self.stub.authorizations.append(self.headers.get("authorization"))
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.stub.dropped:
            self.stub.dropped -= 1
            self.close_connection = True
            return
        failure = self.stub.failures.pop(0) if self.stub.failures else 0
        status = failure or self.stub.status
        if self.stub.stuck or self.stub.events:
            self.close_connection = True
            with suppress(ConnectionError):  # the peer may close before the first event is written
                if self.stub.events:
                    self.begin(200, "text/event-stream")
                    self.wfile.write(b'data: {"choices": []}\n\n')
                assert self.connection.recv(1) == b"", "the peer closes the connection"
            self.stub.disconnected.release()
            return
        if self.stub.stream:
            self.begin(200, "text/event-stream", len(self.stub.stream))
            self.wfile.write(self.stub.stream)
            return
        answer = self.stub.respond(json.loads(body)) if self.stub.respond and status == 200 else self.stub.answer
        if failure:
            answer = {"type": "t", "title": "t", "status": failure, "code": "c", "detail": "it fails"}
        content = json.dumps(answer).encode()
        self.begin(status, "application/json" if status == 200 else "application/problem+json", len(content))
        self.wfile.write(content)

    def begin(self, status: int, kind: str, *length: int) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        for number in length:
            self.send_header("content-length", str(number))
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - the name that the base class calls

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def stub_model_server() -> Iterator[StubModelServer]:
    """Run a stub model server; used as an HTTP proxy, it records the absolute URLs of the requests."""
    stub = StubModelServer()

    class Handler(_Handler):
        pass

    Handler.stub = stub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
