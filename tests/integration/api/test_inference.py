"""The inference proxy between real sockets: client, API, model server."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.factories.http_servers import serve
from tests.factories.live_endpoints import add_live_endpoint
from tests.factories.run_contexts import run_context, run_environment
from tests.fakes.harness import ControlPlaneHarness
from tests.fakes.model_server import StubModelServer, stub_model_server
from tests.testcluster import relay

from windlass.domain.endpoints import AppState, ProbeRequest
from windlass.domain.errors import WindlassError
from windlass.domain.specs import JobSpec, Task
from windlass.runtime.client import RunApiClient
from windlass.serving.probe import send_probe
from windlass_api.app import create_app

CHAT = {"messages": [{"role": "user", "content": "a private sentence"}]}
LABELS = [[{"label": "good", "score": 0.75}]]


@dataclass
class Inference:
    harness: ControlPlaneHarness
    model: StubModelServer
    api: str
    key: str

    def post(self, path: str, body: Any, **options: Any) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": self.key, "Content-Type": "application/json"}
        url = f"{self.api}/v1/projects/ours/endpoints/{path}"
        return httpx2.post(url, content=content, headers=headers, trust_env=False, timeout=60, **options)


def send_and_disconnect(inference: Inference, path: str, body: Any) -> None:
    """Send a request, and close the connection once the model server has received it."""
    content = json.dumps(body).encode()
    address = inference.api.removeprefix("http://")
    head = (
        f"POST /v1/projects/ours/endpoints/{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {inference.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + 20
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + content)
        while not inference.model.requests:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def model() -> Iterator[StubModelServer]:
    with stub_model_server() as stub:
        stub.answer = {"model": "m@1", "predictions": LABELS, "truncated": [0]}
        yield stub


@pytest.fixture
def inference(harness: ControlPlaneHarness, model: StubModelServer) -> Iterator[Inference]:
    project = harness.create_project("ours")
    for name, task in (("texts", Task.TEXT_CLASSIFICATION), ("talk", Task.CHAT)):
        add_live_endpoint(harness, project, name, task)
    harness.serving.base_url = model.url
    harness.serving.headers = {"Authorization": "Bearer of-the-model-server"}
    with serve(create_app(harness.app_context)) as port:
        yield Inference(harness, model, f"http://127.0.0.1:{port}", harness.client.headers["Authorization"])


def test_a_prediction_reports_truncated_inputs_and_carries_the_credential(inference: Inference) -> None:
    answer = inference.post("texts:predict", {"inputs": ["a long text"]}).json()
    assert answer == {"predictions": LABELS, "truncated": [0], "model": "m", "number": 1}
    assert inference.model.requests == ["/app-texts/predict"]
    assert inference.model.authorizations == ["Bearer of-the-model-server"]


@pytest.mark.parametrize(
    ("path", "body"),
    [("texts:predict", {"inputs": ["a"]}), ("talk/chat/completions", CHAT)],
)
def test_a_client_that_disconnects_ends_the_request_to_the_model_server(
    inference: Inference, path: str, body: dict[str, Any]
) -> None:
    inference.model.stuck = True
    send_and_disconnect(inference, path, body)
    assert inference.model.disconnected.acquire(timeout=10)


def test_a_client_that_closes_a_stream_ends_the_request_to_the_model_server(inference: Inference) -> None:
    inference.model.events = True
    send_and_disconnect(inference, "talk/chat/completions", {**CHAT, "stream": True})
    assert inference.model.disconnected.acquire(timeout=10)


@pytest.mark.parametrize(("path", "body"), [("texts:predict", {"inputs": ["a"]}), ("talk/chat/completions", CHAT)])
def test_a_request_whose_connection_ends_without_a_response_is_sent_once_more(
    inference: Inference, path: str, body: dict[str, Any]
) -> None:
    """The pod of a replica that is removed closes its connections."""
    inference.model.dropped = 1
    assert inference.post(path, body).status_code == 200
    assert len(inference.model.requests) == 2
    inference.model.dropped = 2
    reply = inference.post(path, body)
    assert (reply.status_code, reply.json()["code"]) == (503, "endpoint_not_ready")
    assert len(inference.model.requests) == 4


def test_a_prediction_waits_for_a_model_server_that_accepts_no_connections_yet(inference: Inference) -> None:
    """As after a rollout, when a node does not know the address of the new model server."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        inference.harness.serving.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        address = inference.model.url.removeprefix("http://")
        # A bound socket refuses connections until a program listens on it.
        command = ["sh", "-c", 'sleep 0.5; exec "$@"', "sh", *relay.COMMAND, f"fd:{listener.fileno()}", address]
        with subprocess.Popen(command, pass_fds=[listener.fileno()]) as accepting:
            try:
                assert inference.post("texts:predict", {"inputs": ["a"]}).status_code == 200
            finally:
                accepting.kill()


def test_a_prediction_waits_until_this_replica_observes_what_the_worker_has_observed(inference: Inference) -> None:
    states = inference.harness.serving.states
    states["app-texts"] = AppState.DEPLOYING
    threading.Timer(0.5, states.update, [{"app-texts": AppState.READY}]).start()
    assert inference.post("texts:predict", {"inputs": ["a"]}).status_code == 200
    states["app-texts"] = AppState.DEPLOYING
    assert inference.post("texts:predict", {"inputs": ["a"]}).json()["code"] == "endpoint_not_ready"


@pytest.mark.parametrize(
    ("status", "code"),
    [(413, "too_large"), (422, "invalid"), (429, "busy"), (503, "endpoint_not_ready"), (500, "upstream_failed")],
)
def test_errors_of_the_model_server_keep_their_meaning(inference: Inference, status: int, code: str) -> None:
    inference.model.status = status
    inference.model.answer = {"type": "t", "title": "t", "status": status, "code": "c", "detail": "why it failed"}
    reply = inference.post("texts:predict", {"inputs": ["a"]})
    assert (reply.json()["code"], reply.json()["detail"]) == (code, "why it failed")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"inputs": ["x" * 3_000_000]}, 413, "too_large"),
        (b'{"inputs": ["\\ud800"]}', 422, "invalid"),
        ({"inputs": ["x" * 100_001]}, 422, "invalid"),
        ({"inputs": ["a"] * 257}, 422, "invalid"),
    ],
)
def test_invalid_inputs_never_reach_the_model_server(inference: Inference, body: Any, status: int, code: str) -> None:
    reply = inference.post("texts:predict", body)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert inference.model.requests == []


def test_the_wrong_route_of_an_endpoint_names_the_right_one(inference: Inference) -> None:
    chat = inference.post("texts/chat/completions", CHAT).json()
    assert "`windlass predict texts`" in chat["hint"]
    assert "/v1/projects/ours/endpoints/texts:predict" in chat["hint"]
    predict = inference.post("talk:predict", {"inputs": ["a"]}).json()
    assert "`windlass chat talk`" in predict["hint"]


@pytest.mark.parametrize(
    ("endpoint", "key", "kind", "code", "message"),
    [
        ("nothing", None, openai.NotFoundError, "not_found", "nothing"),
        ("talk", "wrong", openai.AuthenticationError, "unauthenticated", "key"),
        ("texts", None, openai.UnprocessableEntityError, "invalid", "windlass predict texts"),
    ],
)
def test_the_openai_client_shows_the_errors_of_the_api(
    inference: Inference, endpoint: str, key: str | None, kind: type[openai.APIStatusError], code: str, message: str
) -> None:
    base_url = f"{inference.api}/v1/projects/ours/endpoints/{endpoint}"
    secret = key or inference.key.removeprefix("Bearer ")
    with (
        openai.OpenAI(base_url=base_url, api_key=secret, max_retries=0) as client,
        pytest.raises(kind) as raised,
    ):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert raised.value.code == code
    assert message in raised.value.message


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubModelServer]:
    """A recording proxy that the environment names, before any client is created."""
    with stub_model_server() as stub:
        stub.status = 502
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, stub.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield stub


@pytest.fixture
def inference_behind_proxy(proxy: StubModelServer, inference: Inference) -> Inference:
    del proxy
    return inference


def test_no_internal_request_uses_the_proxy_of_the_environment(
    proxy: StubModelServer, inference_behind_proxy: Inference, tmp_path: Path
) -> None:
    inference = inference_behind_proxy
    assert httpx2.get(inference.model.url).status_code == 502, "the environment's proxy works"
    assert proxy.requests == [f"{inference.model.url}/"]
    assert inference.post("texts:predict", {"inputs": ["a"]}).status_code == 200
    assert inference.post("talk/chat/completions", CHAT).status_code == 200
    assert send_probe(ProbeRequest(url=f"{inference.model.url}/app", task=Task.CHAT)) == ""
    spec = JobSpec(task=Task.TEXT_CLASSIFICATION, base_model="b", dataset="d", model="m")
    environment = run_environment(tmp_path, run_context(tmp_path, spec, api_url=inference.api))
    with RunApiClient(environment) as run_client, pytest.raises(WindlassError):
        run_client.register()  # the API refuses the token; the request arrived
    assert len(proxy.requests) == 1
