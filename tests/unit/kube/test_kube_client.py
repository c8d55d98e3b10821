"""The client's handling of responses, over a real socket. A real API server: tests/integration/cluster."""

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
from windlass.kube.client import KubeClient, load_configuration
from windlass.kube.objects import Kind, Ref

CONFIG = Kind("v1", "ConfigMap")
CORE = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]}


class Server(ThreadingHTTPServer):
    """Answers discovery of the core kinds, and all other requests with one prepared response."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.headers, self.body = 200, dict[str, str](), b"{}"
        self.requested: list[tuple[str, str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def respond(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        sent = json.loads(self.rfile.read(length)) if length else None
        found: tuple[int, dict[str, str], bytes] = (200, {}, json.dumps(CORE).encode())
        if self.path != "/api/v1":
            self.server.requested.append((self.command, self.path, sent))
            found = (self.server.status, self.server.headers, self.server.body)
        status, headers, body = found
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = respond  # noqa: N815 - as http.server finds them

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the parent
        """Suppress the request log."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def client_for_user(server: Server, **options: Any) -> KubeClient:
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_address[1]}"
    return KubeClient(configuration, **options)


def refusing(server: Server, status: int, body: Any = None, **headers: str) -> KubeClient:
    server.status, server.headers = status, headers
    server.body = json.dumps(body or {}).encode()
    return client_for_user(server)


REF = Ref(CONFIG, "settings", "space")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.KubeInvalidError),
        (401, errors.KubeForbiddenError),
        (403, errors.KubeForbiddenError),
        (404, errors.KubeNotFoundError),
        (409, errors.KubeConflictError),
        (410, errors.ResourceExpiredError),
        (418, errors.KubeApiError),
        (422, errors.KubeInvalidError),
        (429, errors.KubeUnavailableError),
        (500, errors.KubeUnavailableError),
        (503, errors.KubeUnavailableError),
    ],
)
def test_each_status_has_its_error_class(server: Server, status: int, kind: type[errors.KubeApiError]) -> None:
    status_body = {"kind": "Status", "message": "because", "reason": "Why"}
    with pytest.raises(kind, match=r"^get ConfigMap space/settings: because$") as raised:
        refusing(server, status, status_body).get(REF)
    assert type(raised.value) is kind
    assert (raised.value.status, raised.value.reason) == (status, "Why")


def test_retry_after_is_reported_and_the_request_is_not_repeated(server: Server) -> None:
    with pytest.raises(errors.KubeUnavailableError) as raised:
        refusing(server, 429, **{"Retry-After": "7"}).get(REF)
    assert raised.value.retry_after == 7.0
    assert raised.value.retryable
    assert len(server.requested) == 1
    with pytest.raises(errors.KubeUnavailableError) as raised:
        refusing(server, 503, {"details": {"retryAfterSeconds": 3}}).get(REF)
    assert raised.value.retry_after == 3


def test_kind_whose_crd_was_deleted_is_not_served(server: Server) -> None:
    client = refusing(server, 200, {"metadata": {}, "items": []})
    assert client.list(CONFIG).items == []
    server.status = 404
    with pytest.raises(errors.NoKindMatchError):
        client.list(CONFIG)


def test_unreadable_token_is_unavailable(server: Server) -> None:
    def gone(_: Configuration) -> None:
        raise FileNotFoundError("/var/run/token")

    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_address[1]}"
    configuration.refresh_api_key_hook = gone
    configuration.api_key["authorization"] = "old"
    with pytest.raises(errors.KubeUnavailableError, match="token cannot be read"):
        KubeClient(configuration).get(REF)


def test_timeout_limits_the_wait(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configuration = Configuration()
        configuration.host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(errors.KubeUnavailableError, match="cannot be reached"):
            KubeClient(configuration, timeout=0.2).get(REF)
        assert time.monotonic() - began < 5


def test_unreachable_server_is_unavailable(server: Server) -> None:
    client = client_for_user(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(errors.KubeUnavailableError, match="cannot be reached"):
        client.get(REF)


def test_field_conflict_names_the_manager(server: Server) -> None:
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl"', "field": ".data.a"}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "space"}}
    with pytest.raises(errors.KubeConflictError) as raised:
        refusing(server, 409, {"details": {"causes": [cause]}}).apply(manifest, manager="us")
    assert raised.value.managers == '.data.a: conflict with "kubectl"'


def test_unserved_kind_raises_no_kind_match(server: Server) -> None:
    with pytest.raises(errors.NoKindMatchError, match="Widget"):
        client_for_user(server).get(Ref(Kind("v1", "Widget"), "one"))
    assert not refusing(server, 404).serves(Kind("example.dev/v1", "Widget"))
    with pytest.raises(errors.KubeUnavailableError):  # what cannot be asked is not taken for absent
        refusing(server, 500).serves(Kind("example.dev/v1", "Widget"))


def test_name_is_escaped_in_the_path(server: Server) -> None:
    client_for_user(server).get(Ref(CONFIG, "../../secrets/x?y#z", "a/b"))
    [(_, path, _)] = server.requested
    assert path == "/api/v1/namespaces/a%2Fb/configmaps/..%2F..%2Fsecrets%2Fx%3Fy%23z"


def test_guard_prevents_writes_and_allows_reads(server: Server) -> None:
    def lost() -> None:
        raise RuntimeError("the lease is lost")

    client = client_for_user(server, guard=lost)
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "space"}}
    client.get(REF)
    for write in (
        lambda: client.apply(manifest, manager="us"),
        lambda: client.create(manifest, manager="us"),
        lambda: client.replace(manifest, manager="us"),
        lambda: client.patch(REF, {}, manager="us"),
        lambda: client.delete(REF),
    ):
        with pytest.raises(RuntimeError, match="lease"):
            write()
    assert [method for method, _, _ in server.requested] == ["GET"]


def test_response_that_is_not_json_is_an_error(server: Server) -> None:
    server.body = b"<html>"
    with pytest.raises(errors.KubeApiError, match="not JSON"):
        client_for_user(server).get(REF)
    server.status = 502
    with pytest.raises(errors.KubeUnavailableError, match="HTTP 502"):
        client_for_user(server).get(REF)


def test_missing_configuration_error_has_a_hint(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(errors.KubeForbiddenError, match="set KUBECONFIG"):
        load_configuration(tmp_path / "absent")
