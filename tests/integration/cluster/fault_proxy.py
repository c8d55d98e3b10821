"""A proxy before the API server that answers wrongly, late or not at all, by rules that tests give it.

It speaks plain HTTP on the loopback to the operators and TLS to the API server, and passes their own token on. What no
rule concerns goes through as it is, watches line by line.
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
class Request:
    """What a client asks."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes

    @property
    def watches(self) -> bool:
        return self.query.get("watch") == "true"

    @property
    def lists(self) -> bool:
        """Whether a collection is asked for: its path ends with a plural, and nothing is watched."""
        return self.method == "GET" and "limit" in self.query and not self.watches

    @property
    def leases(self) -> bool:
        return "/leases/" in self.path or self.path.endswith("/leases")


@dataclass(frozen=True)
class Answer:
    """What a rule says in place of the API server."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Passed:
    """One answered request; a watch counts when it begins."""

    moment: float
    request: Request
    status: int


Fault = Callable[[Request], Answer | None]
"""Looks at each request before it is passed on, may do something meanwhile, and answers it or not."""


def refusal(status: HTTPStatus, reason: str, *, retry_after: int | None = None) -> Answer:
    """A metav1.Status, as the API server sends it."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": int(status)}
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    return Answer(status, json.dumps(body | {"message": f"injected: {reason}"}).encode(), headers)


class _Stream:
    """A watch that is passed on."""

    def __init__(self, upstream: socket.socket) -> None:
        self.dead, self.last_words = False, b""
        self._upstream = upstream

    def end(self, last_words: bytes) -> None:
        self.last_words = last_words
        self._upstream.shutdown(socket.SHUT_RDWR)


class FaultProxy:
    """Runs in threads of its own while it is entered."""

    def __init__(self, server: str, authority: str) -> None:
        self.passed: list[Passed] = []
        self.answered: Callable[[Request, bytes], None] = lambda _request, _body: None
        """Is told what the API server answered, watches apart."""
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
        """Have a rule in force for the time of a block; the one that came last is asked first."""
        self._faults.insert(0, rule)
        try:
            yield
        finally:
            self._faults.remove(rule)

    def silence(self) -> int:
        """Let the watches that run now stay open and bring nothing any more, and return how many they are."""
        with self._lock:
            for stream in self._streams:
                stream.dead = True
            return len(self._streams)

    def expire(self) -> int:
        """End the watches that run now as the API server does when their version is too old."""
        status = {"kind": "Status", "code": int(HTTPStatus.GONE), "reason": "Expired", "message": "too old"}
        last_words = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
        with self._lock:
            for stream in self._streams:
                stream.end(last_words)
            return len(self._streams)

    def since(self, moment: float) -> list[Passed]:
        """What was answered after a moment of ``time.monotonic``, leases apart."""
        return [one for one in list(self.passed) if one.moment >= moment and not one.request.leases]

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._far.hostname or "", self._far.port, timeout=None, context=self._tls)

    def wrong(self, request: Request) -> Answer | None:
        """The first rule's answer, None when the request goes through."""
        for rule in list(self._faults):
            if answer := rule(request):
                return answer
        return None

    def note(self, request: Request, status: int) -> None:
        self.passed.append(Passed(time.monotonic(), request, status))

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
        request = Request(self.command, parts.path, dict(parse_qsl(parts.query)), body)
        try:
            if answer := self.proxy.wrong(request):
                self.proxy.note(request, answer.status)
                self._reply(answer.status, answer.body, answer.headers)
            else:
                self._pass_on(request)
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # one of the two has gone

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names are http.server's

    def _pass_on(self, request: Request) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _DROPPED}
        try:
            self.far.request(self.command, self.path, request.body or None, headers)
            answer = self.far.getresponse()
        except (OSError, http.client.HTTPException):
            self.far.close()  # the API server has closed it meanwhile
            self.far.request(self.command, self.path, request.body or None, headers)
            answer = self.far.getresponse()
        self.proxy.note(request, answer.status)
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
            if stream.last_words:
                self._chunk(stream.last_words)
        self.wfile.write(b"0\r\n\r\n")

    def _more(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.read1(1 << 16)
        except (OSError, http.client.HTTPException):
            return b""

    def _chunk(self, text: bytes) -> None:
        self.wfile.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing: what passed is kept."""
