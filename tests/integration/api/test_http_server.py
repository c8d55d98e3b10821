"""Limits of the HTTP server, tested over a raw socket."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.http_servers import serve
from tests.fakes.harness import ControlPlaneHarness

from windlass.settings import LimitSettings
from windlass_api import http_server
from windlass_api.http_server import MAX_HEAD_BYTES, LimitedH11Protocol

SECONDS = 0.5
ALIVE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """The address of a running server with short time limits."""
    monkeypatch.setattr(http_server, "HEAD_SECONDS", SECONDS)
    harness = ControlPlaneHarness(tmp_path, limits=LimitSettings(body_seconds=SECONDS))
    harness.create_project("ours")
    AUTHORIZATION[0] = harness.client.headers["Authorization"].encode()
    with serve(harness.app) as port:
        yield "127.0.0.1", port
    harness.close()


AUTHORIZATION = [b""]


def exchange(address: tuple[str, int], *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts with pauses; return what the server sends until it closes the connection."""
    with socket.create_connection(address, timeout=20) as client:
        try:
            for part in parts:
                client.sendall(part)
                time.sleep(pause)
        except OSError:
            pass  # closed by the server, which may have sent a reply
        reply = b""
        try:
            while data := client.recv(65536):
                reply += data
        except ConnectionResetError:
            pass
        return reply


def test_a_response_is_not_delayed_by_nagles_algorithm(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Head and body are two writes: the second one would wait 40 ms for the acknowledgement of the first one."""
    options: list[int] = []
    original = LimitedH11Protocol.data_received

    def data_received(self: LimitedH11Protocol, data: bytes) -> None:
        connection = self.transport.get_extra_info("socket")
        options.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        original(self, data)

    monkeypatch.setattr(LimitedH11Protocol, "data_received", data_received)
    assert exchange(address, ALIVE).startswith(b"HTTP/1.1 200")
    assert options == [1]


def test_a_request_head_without_end_is_refused_at_the_limit(address: tuple[str, int]) -> None:
    head = b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * MAX_HEAD_BYTES
    began = time.process_time()
    reply = exchange(address, head, *[b"a" * 65536] * 800)
    assert reply == b"" or reply.startswith(b"HTTP/1.1 400")
    assert time.process_time() - began < 5  # 50 MB took 5 to 10 s when the head was collected
    assert exchange(address, ALIVE).startswith(b"HTTP/1.1 200")


def test_a_head_that_fits_the_limit_is_accepted(address: tuple[str, int]) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-A: " + b"a" * (MAX_HEAD_BYTES - 200)
    assert exchange(address, head + b"\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("first", [b"", b"GET /healthz HTTP/1.1\r\n"])
def test_a_head_that_does_not_arrive_in_time_is_ended(address: tuple[str, int], first: bytes) -> None:
    began = time.monotonic()
    reply = exchange(address, first, *[b"X-A: b\r\n"] * (20 if first else 0), pause=0.1)
    assert reply.startswith(b"HTTP/1.1 408") if first else reply == b""
    assert time.monotonic() - began < SECONDS + 5


def test_the_head_of_a_second_request_has_its_own_time(address: tuple[str, int]) -> None:
    ask = ALIVE.replace(b"Connection: close\r\n", b"")
    reply = exchange(address, ask, *[ask[i : i + 1] for i in range(len(ask) - 1)], pause=0.05)
    assert reply.count(b"HTTP/1.1 200") == 1
    assert reply.count(b"HTTP/1.1 408") == 1


@pytest.mark.parametrize("path", [b"/v1/projects", b"/v1/projects/ours/uploads/up_x/files/a.csv"])
def test_a_body_that_does_not_arrive_in_time_is_ended(address: tuple[str, int], path: bytes) -> None:
    method = b"PUT" if b"uploads" in path else b"POST"
    head = (
        b"%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: %s\r\n"
        b"Connection: close\r\nContent-Length: 100\r\n\r\n"
    )
    began = time.monotonic()
    reply = exchange(address, head % (method, path, AUTHORIZATION[0]), b"{")
    assert reply.startswith(b"HTTP/1.1 40")
    assert (b'"request_timeout"' in reply) or b"uploads" in path  # the upload does not exist
    assert time.monotonic() - began < SECONDS + 5
