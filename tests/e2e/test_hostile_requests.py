"""Attack classes 2, 10, 16 and 19 against the server in its own process, over raw sockets."""

import gzip
import http.client
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.e2e.servers import ServerProcess, server

from windlass.sdk import Client

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

GROWTH_MIB = 96
"""How much the memory of the server may grow in this file: buffers of the largest bodies, code that loads lazily."""
CPU_SECONDS = 20
CANARY = "canary-8b1d2c77"
MIB = 1 << 20


class Target:
    """The server that is attacked."""

    def __init__(self, process: ServerProcess, client: Client) -> None:
        assert process.process is not None
        self.server, self.client, self.port = process, client, process.port
        self.key = (process.home / "admin.key").read_text().strip()
        self._process = psutil.Process(process.process.pid)
        self.rss_at_start, self.cpu_at_start = self.rss_mib(), self.cpu_seconds()

    def rss_mib(self) -> float:
        return float(self._process.memory_info().rss) / MIB

    def cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def exchange(self, *parts: bytes) -> bytes:
        """Send parts until the server closes the connection or replies; return the reply, and what came with it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
            except OSError:
                pass  # closed by the server, which may have sent a reply
            reply = b""
            try:
                while not _is_complete(reply) and (data := connection.recv(1 << 16)):
                    reply += data
            except ConnectionResetError:
                pass
            return reply

    def head(self, method: str, path: str, *headers: str, authorized: bool = True) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
        lines += [f"Authorization: Bearer {self.key}"] * authorized
        return "\r\n".join([*lines, "", ""]).encode()

    def status(self, *parts: bytes) -> int:
        reply = self.exchange(*parts)
        return int(reply.split(b" ", 2)[1]) if reply else 0


def _is_complete(reply: bytes) -> bool:
    """Whether a reply has its head and its body, which the server may send in two packets."""
    head, separator, body = reply.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    return bool(separator) and length is not None and len(body) >= int(length[1])


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with server(tmp_path_factory.mktemp("attacked") / "home") as process:
        yield Target(process, process.start())


PROTECTED = "/v1/whoami"


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/v1/../v1/whoami",
            "//v1/whoami",
            "/v1//whoami",
            "/V1/WHOAMI",
            "/v1/whoami/",
            "/v1/whoami;a=b",
            "/v1/%77hoami",
        ),
        *(
            "/healthz/../v1/whoami",
            "/healthz%2f..%2fv1%2fwhoami",
            "/healthz/..;/v1/whoami",
            "/v1/openapi.json/../whoami",
        ),
        *(
            "/healthz/",
            "/healthz%00",
            "/readyz/x",
            "/v1/openapi.json/",
            "/metrics",
            "/docs",
            "/internal/v1/transfers:list",
        ),
        *("http://x/v1/whoami", "http://evil.example/v1/keys", "*", "x:443"),
    ],
)
def test_no_form_of_a_path_gets_past_the_authentication(target: Target, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        assert target.status(target.head(method, path, authorized=False)) in (400, 401), method


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")),
        ("GET", ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")),
        ("PRI", ()),
        ("CONNECT", ()),
        ("TRACE", ()),
    ],
)
@pytest.mark.parametrize("authorized", [True, False])
def test_no_other_protocol_gets_past_the_authentication(
    target: Target, method: str, headers: tuple[str, ...], authorized: bool
) -> None:
    if headers:
        headers = (*headers, "Connection: Upgrade")
    reply = target.exchange(target.head(method, PROTECTED, *headers, authorized=authorized))
    assert not reply.startswith(b"HTTP/1.1 101")
    accepted = authorized and method == "GET"  # the upgrade is ignored
    assert reply.split(b" ", 2)[1] in ((b"200",) if accepted else (b"400", b"401", b"405"))
    assert (b'"user"' in reply) == accepted


def test_a_request_with_two_lengths_is_refused_and_its_connection_closed(target: Target) -> None:
    headers = ("Content-Length: 5", "Transfer-Encoding: chunked", "Content-Type: application/json")
    head = target.head("POST", "/v1/projects", *headers).replace(b"Connection: close\r\n", b"", 1)
    with socket.create_connection(("127.0.0.1", target.port), timeout=30) as connection:
        connection.sendall(head + b"0\r\n\r\n" + target.head("GET", PROTECTED))
        replies = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert replies.startswith(b"HTTP/1.1 400 ")
    assert replies.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "framing",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Content-Length: -1",),
        ("Content-Length: +5",),
        ("Content-Length : 5",),
    ],
)
def test_a_request_of_doubtful_length_gets_one_reply(target: Target, framing: tuple[str, ...]) -> None:
    smuggled = target.head("GET", PROTECTED)
    head = target.head("POST", "/v1/projects", *framing, "Content-Type: application/json").replace(
        b"close", b"keep-alive", 1
    )
    reply = target.exchange(head + b"0\r\n\r\n" + smuggled)
    assert reply.count(b"HTTP/1.1 ") <= 1
    assert b'"user"' not in reply


def bodies() -> Iterator[tuple[str, bytes, list[bytes], set[int]]]:
    """Name, further headers, parts of the body, and accepted statuses of bodies that need much of the server."""
    announced = b"Content-Length: %d\r\n"
    yield "1 GiB announced", announced % (1 << 30), [b"["], {413}
    yield "1 EiB announced", announced % (1 << 60), [b"["], {413}
    chunk = b"10000\r\n" + b"[" * 65536 + b"\r\n"
    yield "64 MiB in chunks", b"Transfer-Encoding: chunked\r\n", [chunk] * 1024, {413}
    small = b"1\r\n[\r\n" * 100_000
    yield "100,000 chunks of one byte", b"Transfer-Encoding: chunked\r\n", [small, b"0\r\n\r\n"], {400, 422}
    deep = b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    yield "depth 100,000", announced % len(deep), [deep], {400}
    objects = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    yield "100,000 nested objects", announced % len(objects), [objects], {400}
    digits = b'{"capacity": ' + b"9" * 1_900_000 + b"}"
    yield "a number of 1.9 million digits", announced % len(digits), [digits], {400, 422}
    wide = json.dumps({f"k{number}": 1 for number in range(100_000)}).encode()
    yield "100,000 unknown fields", announced % len(wide), [wide], {422}
    escapes = b'{"name": "' + b"\\u0041" * 300_000 + b'"}'
    yield "300,000 escapes", announced % len(escapes), [escapes], {422}
    bomb = gzip.compress(b"[" * (200 * MIB), 9)
    yield "a bomb of gzip", b"Content-Encoding: gzip\r\n" + announced % len(bomb), [bomb], {400, 415}


BODIES = list(bodies())


@pytest.mark.parametrize(("headers", "parts", "statuses"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES])
def test_a_body_that_is_too_much_is_refused(
    target: Target, headers: bytes, parts: list[bytes], statuses: set[int]
) -> None:
    head = target.head("POST", "/v1/pools", "Content-Type: application/json")
    assert target.status(head.removesuffix(b"\r\n") + headers + b"\r\n", *parts) in statuses


@pytest.mark.parametrize(
    ("path", "headers", "statuses"),
    [
        ("/v1/projects?limit=1000000000", (), {422}),
        ("/v1/projects?limit=201", (), {422}),
        ("/v1/projects?limit=" + "9" * 5000, (), {422}),
        ("/v1/projects?cursor=" + "A" * 50_000, (), {422}),
        ("/v1/projects?" + "&".join(f"p{number}=1" for number in range(5000)), (), {400}),
        ("/v1/projects?" + "limit=1&" * 5000, (), {200, 400, 422}),
        ("/v1/projects/" + "a" * 60_000, (), {404, 422}),
        ("/v1/projects", tuple(f"X-{number}: 1" for number in range(4000)), {200, 400}),
        ("/v1/projects", ("X-Long: " + "a" * 60_000,), {200}),
        ("/v1/projects", ("X-Long: " + "a" * 300_000,), {0, 400}),
        ("/v1/projects", ("Accept: " + "a/b," * 15_000,), {200}),
        ("/v1/projects", ("Range: bytes=" + ",".join(f"{n}-" for n in range(5000)),), {200}),
    ],
)
def test_a_head_that_is_too_much_is_refused_or_answered(
    target: Target, path: str, headers: tuple[str, ...], statuses: set[int]
) -> None:
    assert target.status(target.head("GET", path, *headers)) in statuses


def test_connections_that_send_nothing_keep_nobody_out(target: Target) -> None:
    idle = [socket.create_connection(("127.0.0.1", target.port), timeout=30) for _ in range(300)]
    try:
        assert target.status(target.head("GET", PROTECTED)) == 200
    finally:
        for connection in idle:
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # ends with a reset
            connection.close()
    assert target.status(target.head("GET", PROTECTED)) == 200


@pytest.mark.parametrize(
    "token",
    [
        *("", "wlk_", "wlk__", "wlk_x_y", "Bearer", "null", "undefined", "[object Object]", "eyJhbGciOiJub25lIn0.e30."),
        *("wlk_{public}_", "wlk_{public}_{wrong}", "wlk_{public}_{secret}x", "{secret}", "WLK_{public}_{secret}"),
        *(
            "wlk_{public}_{secret}\x00",
            "wlk_{public}%5f{secret}",
            "wlk_{public}_{secret},x",
            "wlr_{wrong}",
            "wlt_e30.{wrong}",
        ),
    ],
)
def test_a_token_that_is_nearly_right_is_none(target: Target, token: str) -> None:
    _, public, secret = target.key.split("_", 2)
    text = token.format(public=public, secret=secret, wrong="0" * 64)
    for path in (PROTECTED, "/internal/v1/transfers:list", "/internal/v1/runs/run_" + "0" * 26):
        head = target.head("GET", path, authorized=False).removesuffix(b"\r\n")
        reply = target.exchange(head + b"Authorization: Bearer " + text.encode("latin-1") + b"\r\n\r\n")
        assert reply.split(b" ", 2)[1] in (b"401", b"400"), reply


def test_a_key_in_another_place_is_no_credential(target: Target) -> None:
    for path in (f"{PROTECTED}?access_token={target.key}", f"{PROTECTED}?key={target.key}"):
        assert target.status(target.head("GET", path, authorized=False)) == 401
    for header in (
        f"Cookie: key={target.key}",
        f"X-API-Key: {target.key}",
        f"Proxy-Authorization: Bearer {target.key}",
    ):
        assert target.status(target.head("GET", PROTECTED, header, authorized=False)) == 401
    basic = f"Authorization: Basic {target.key}"
    assert target.status(target.head("GET", PROTECTED, basic, authorized=False)) == 401


def test_the_log_has_neither_the_key_nor_texts_of_requests(target: Target) -> None:
    created = target.client.keys.create("carol", name=CANARY)
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=30)
    for body in (f'{{"name": "{CANARY}"', json.dumps({"name": CANARY, "display_name": CANARY * 100})):
        headers = {"Authorization": f"Bearer {target.key}", "Content-Type": "application/json", "User-Agent": CANARY}
        connection.request("POST", f"/v1/projects?{CANARY}={target.key}", body, headers)
        assert connection.getresponse().read()
    connection.close()
    log = target.server.home.with_suffix(".log").read_text()
    assert all(json.loads(line)["event"] for line in log.splitlines() if line.startswith("{"))
    secrets = [target.key.split("_", 2)[2], created.secret.split("_", 2)[2]]
    assert [text for text in (CANARY, *secrets) if text in log] == []
    public = re.compile(re.escape(created.secret).encode())
    assert not any(public.search(path.read_bytes()) for path in _data_files(target.server.home))


def _data_files(home: Path) -> Iterator[Path]:
    yield from (path for path in home.rglob("*") if path.is_file() and path.name != "admin.key")


def test_the_attacks_have_cost_the_server_little(target: Target) -> None:
    """The last test of this file: what all others have used together."""
    assert target.rss_mib() - target.rss_at_start < GROWTH_MIB
    assert target.cpu_seconds() - target.cpu_at_start < CPU_SECONDS
    assert target.status(target.head("GET", PROTECTED)) == 200
