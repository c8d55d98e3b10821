"""A proxy in front of the API server that injects errors, delays and stalls by rules of the tests.

It serves plain HTTP on the loopback interface, connects to the API server with TLS, and forwards the client's token.
Requests without a matching rule are forwarded unchanged, watches line by line.
"""

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]
_DROPPED = {"host", "connection", "accept-encoding", "content-length", "transfer-encoding"}
_KEPT = ("Content-Type", "Retry-After")


@dataclass(frozen=True)
class ProxiedRequest:
    """A request of the client."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes

    @property
    def watches(self) -> bool:
        return self.query.get("watch") == "true"

    @property
    def lists(self) -> bool:
        """Whether it lists a collection."""
        return self.method == "GET" and "limit" in self.query and not self.watches

    @property
    def leases(self) -> bool:
        return "/leases/" in self.path or self.path.endswith("/leases")


@dataclass(frozen=True)
class InjectedResponse:
    """The response of a rule in place of the API server's."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ForwardedRequest:
    """One answered request; watches are recorded when they start."""

    moment: float
    request: ProxiedRequest
    status: int


Fault = Callable[[ProxiedRequest], InjectedResponse | None]
"""Called with each request before it is forwarded; returns a response, or None to forward it."""


def refusal(status: HTTPStatus, reason: str, *, retry_after: int | None = None) -> InjectedResponse:
    """A metav1.Status response."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": int(status)}
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    return InjectedResponse(status, json.dumps(body | {"message": f"injected: {reason}"}).encode(), headers)


class _Stream:
    """A forwarded watch."""

    def __init__(self, upstream: socket.socket) -> None:
        self.dead, self.final_event = False, b""
        self._upstream = upstream

    def end(self, final_event: bytes) -> None:
        self.final_event = final_event
        self._upstream.shutdown(socket.SHUT_RDWR)


class FaultProxy:
    """A context manager that serves in background threads."""

    def __init__(self, server: str, authority: str) -> None:
        self.passed: list[ForwardedRequest] = []
        self.answered: Callable[[ProxiedRequest, bytes], None] = lambda _request, _body: None
        """Called with each response of the API server except watches."""
        self._faults: list[Fault] = []
        self._streams: set[_Stream] = set()
        self._lock = threading.Lock()
        self._far = urlsplit(server)
        self._tls = ssl.create_default_context(cadata=authority)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def fault(self, rule: Fault) -> Iterator[None]:
        """Apply a rule during the block; the latest rule has precedence."""
        self._faults.insert(0, rule)
        try:
            yield
        finally:
            self._faults.remove(rule)

    def stall_watches(self) -> int:
        """Keep the current watches open without further events, and return their number."""
        with self._lock:
            for stream in self._streams:
                stream.dead = True
            return len(self._streams)

    def expire(self) -> int:
        """End the current watches with 410 Gone, and return their number."""
        status = {"kind": "Status", "code": int(HTTPStatus.GONE), "reason": "Expired", "message": "too old"}
        final_event = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
        with self._lock:
            for stream in self._streams:
                stream.end(final_event)
            return len(self._streams)

    def since(self, moment: float) -> list[ForwardedRequest]:
        """The requests answered since a ``time.monotonic`` time, without leases."""
        return [one for one in list(self.passed) if one.moment >= moment and not one.request.leases]

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._far.hostname or "", self._far.port, timeout=None, context=self._tls)

    def injected_response(self, request: ProxiedRequest) -> InjectedResponse | None:
        """The response of the first matching rule, None to forward the request."""
        for rule in list(self._faults):
            if response := rule(request):
                return response
        return None

    def record(self, request: ProxiedRequest, status: int) -> None:
        self.passed.append(ForwardedRequest(time.monotonic(), request, status))

    @contextmanager
    def streaming(self, upstream: socket.socket) -> Iterator[_Stream]:
        stream = _Stream(upstream)
        with self._lock:
            self._streams.add(stream)
        try:
            yield stream
        finally:
            with self._lock:
                self._streams.discard(stream)


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.far = self.proxy.connect()

    def finish(self) -> None:
        self.far.close()
        super().finish()

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = ProxiedRequest(self.command, parts.path, dict(parse_qsl(parts.query)), body)
        try:
            if answer := self.proxy.injected_response(request):
                self.proxy.record(request, answer.status)
                self._reply(answer.status, answer.body, answer.headers)
            else:
                self._pass_on(request)
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # one side has closed the connection

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server calls these names

    def _pass_on(self, request: ProxiedRequest) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _DROPPED}
        try:
            self.far.request(self.command, self.path, request.body or None, headers)
            answer = self.far.getresponse()
        except (OSError, http.client.HTTPException):
            self.far.close()  # the API server has closed it
            self.far.request(self.command, self.path, request.body or None, headers)
            answer = self.far.getresponse()
        self.proxy.record(request, answer.status)
        if request.watches and answer.status == HTTPStatus.OK:
            self._stream(answer)
            return
        text = answer.read()
        self.proxy.answered(request, text)
        self._reply(answer.status, text, {name: answer.headers[name] for name in _KEPT if name in answer.headers})

    def _reply(self, status: int, text: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _stream(self, answer: http.client.HTTPResponse) -> None:
        self.close_connection = True
        upstream = self.far.sock
        assert isinstance(upstream, socket.socket)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with self.proxy.streaming(upstream) as stream:
            while text := self._more(answer):
                if not stream.dead:
                    self._chunk(text)
            if stream.final_event:
                self._chunk(stream.final_event)
        self.wfile.write(b"0\r\n\r\n")

    def _more(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.read1(1 << 16)
        except (OSError, http.client.HTTPException):
            return b""

    def _chunk(self, text: bytes) -> None:
        self.wfile.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's parameter name
        """Do not log."""
