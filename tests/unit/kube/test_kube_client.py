"""What the client makes of a server's answers, over a real socket. A real API server: tests/integration/cluster."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes.client import Configuration

from windlass.kube import errors
from windlass.kube.client import Client, load_configuration
from windlass.kube.objects import Kind, Ref

CONFIG = Kind("v1", "ConfigMap")
CORE = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]}


class Server(ThreadingHTTPServer):
    """Answers discovery of the core kinds, and everything else with one prepared answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status, self.headers, self.body = 200, dict[str, str](), b"{}"
        self.asked: list[tuple[str, str, Any]] = []


class Answer(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        sent = json.loads(self.rfile.read(length)) if length else None
        found: tuple[int, dict[str, str], bytes] = (200, {}, json.dumps(CORE).encode())
        if self.path != "/api/v1":
            self.server.asked.append((self.command, self.path, sent))
            found = (self.server.status, self.server.headers, self.server.body)
        status, headers, body = found
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815 - as http.server finds them

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the parent
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def client_of(server: Server, **options: Any) -> Client:
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_address[1]}"
    return Client(configuration, **options)


def refusing(server: Server, status: int, body: Any = None, **headers: str) -> Client:
    server.status, server.headers = status, headers
    server.body = json.dumps(body or {}).encode()
    return client_of(server)


REF = Ref(CONFIG, "settings", "space")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidError),
        (401, errors.ForbiddenError),
        (403, errors.ForbiddenError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (410, errors.ExpiredError),
        (418, errors.ClusterError),
        (422, errors.InvalidError),
        (429, errors.UnavailableError),
        (500, errors.UnavailableError),
        (503, errors.UnavailableError),
    ],
)
def test_each_refusal_has_its_class(server: Server, status: int, kind: type[errors.ClusterError]) -> None:
    told = {"kind": "Status", "message": "because", "reason": "Why"}
    with pytest.raises(kind, match=r"^get ConfigMap space/settings: because$") as raised:
        refusing(server, status, told).get(REF)
    assert type(raised.value) is kind
    assert (raised.value.status, raised.value.reason) == (status, "Why")


def test_a_busy_server_says_how_long_to_wait_and_is_not_asked_again(server: Server) -> None:
    with pytest.raises(errors.UnavailableError) as raised:
        refusing(server, 429, **{"Retry-After": "7"}).get(REF)
    assert raised.value.retry_after == 7.0
    assert raised.value.retryable
    assert len(server.asked) == 1
    with pytest.raises(errors.UnavailableError) as raised:
        refusing(server, 503, {"details": {"retryAfterSeconds": 3}}).get(REF)
    assert raised.value.retry_after == 3


def test_a_kind_whose_definition_went_while_we_run_is_unknown(server: Server) -> None:
    client = refusing(server, 200, {"metadata": {}, "items": []})
    assert client.list(CONFIG).items == []
    server.status = 404
    with pytest.raises(errors.UnknownKindError):
        client.list(CONFIG)


def test_a_token_that_cannot_be_read_now_is_unavailable(server: Server) -> None:
    def gone(_: Configuration) -> None:
        raise FileNotFoundError("/var/run/token")

    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_address[1]}"
    configuration.refresh_api_key_hook = gone
    configuration.api_key["authorization"] = "old"
    with pytest.raises(errors.UnavailableError, match="token cannot be read"):
        Client(configuration).get(REF)


def test_who_is_impatient_waits_no_longer(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configuration = Configuration()
        configuration.host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(errors.UnavailableError, match="does not answer"):
            Client(configuration, patience=0.2).get(REF)
        assert time.monotonic() - began < 5


def test_nobody_there_is_unavailable(server: Server) -> None:
    client = client_of(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(errors.UnavailableError, match="does not answer"):
        client.get(REF)


def test_a_contended_field_names_its_manager(server: Server) -> None:
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl"', "field": ".data.a"}
    wish = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "space"}}
    with pytest.raises(errors.ConflictError) as raised:
        refusing(server, 409, {"details": {"causes": [cause]}}).apply(wish, manager="us")
    assert raised.value.managers == '.data.a: conflict with "kubectl"'


def test_a_kind_that_is_not_served_is_said_so(server: Server) -> None:
    with pytest.raises(errors.UnknownKindError, match="Widget"):
        client_of(server).get(Ref(Kind("v1", "Widget"), "one"))
    assert not refusing(server, 404).serves(Kind("example.dev/v1", "Widget"))
    with pytest.raises(errors.UnavailableError):  # what cannot be asked is not taken for absent
        refusing(server, 500).serves(Kind("example.dev/v1", "Widget"))


def test_a_name_cannot_leave_its_path(server: Server) -> None:
    client_of(server).get(Ref(CONFIG, "../../secrets/x?y#z", "a/b"))
    [(_, path, _)] = server.asked
    assert path == "/api/v1/namespaces/a%2Fb/configmaps/..%2F..%2Fsecrets%2Fx%3Fy%23z"


def test_no_write_passes_the_guard_and_reads_do(server: Server) -> None:
    def lost() -> None:
        raise RuntimeError("the lease is lost")

    client = client_of(server, guard=lost)
    wish = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "space"}}
    client.get(REF)
    for write in (
        lambda: client.apply(wish, manager="us"),
        lambda: client.create(wish, manager="us"),
        lambda: client.replace(wish, manager="us"),
        lambda: client.patch(REF, {}, manager="us"),
        lambda: client.delete(REF),
    ):
        with pytest.raises(RuntimeError, match="lease"):
            write()
    assert [method for method, _, _ in server.asked] == ["GET"]


def test_an_answer_that_is_no_json_is_an_error(server: Server) -> None:
    server.body = b"<html>"
    with pytest.raises(errors.ClusterError, match="no JSON"):
        client_of(server).get(REF)
    server.status = 502
    with pytest.raises(errors.UnavailableError, match="HTTP 502"):
        client_of(server).get(REF)


def test_without_any_configuration_it_is_said_what_to_do(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(errors.ForbiddenError, match="set KUBECONFIG"):
        load_configuration(tmp_path / "absent")
