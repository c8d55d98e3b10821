"""The application of a RayService: the arguments that the operators render, and authentication."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message
from tests.unit.operators import desired_objects
from tests.unit.serve.tiny_artifacts import served_app

from windlass.domain.endpoints import ServedApp
from windlass.domain.specs import Task
from windlass.serving.credentials import PROXY_CALLBACK, PROXY_CALLBACK_VARIABLE, proxy_headers
from windlass.serving.environment import (
    APPLICATION,
    AUTHORIZATION_FILE,
    CACHE_VARIABLE,
    CREDENTIALS_VARIABLE,
    DEPLOYMENT_NAME,
)
from windlass.storage.file_transfer import FileTransfer
from windlass_operators.render.model_endpoint import serve_config
from windlass_pipelines.serve.node_cache import artifact_folder
from windlass_pipelines.serve.proxy_auth import ProxyAuthMiddleware, middlewares

# Ray declares its own pydantic models in a way that pydantic 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of a pod; returns the folder of its cache."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / AUTHORIZATION_FILE).write_text("Bearer of-the-control-plane\n")
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv(CREDENTIALS_VARIABLE, str(secret))
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.setenv(PROXY_CALLBACK_VARIABLE, PROXY_CALLBACK)
    return cache


def rendered() -> dict[str, Any]:
    version = desired_objects.served_version(gpus=1, pool="a100")
    endpoint = desired_objects.endpoint(version, resources={"cpu": "3500m", "memory": "8Gi"})
    [application] = serve_config(endpoint, endpoint.spec.versions[0])["applications"]
    return dict(application)


def build(arguments: dict[str, Any]) -> Any:
    from windlass_pipelines.serve import application

    module, _, name = APPLICATION.partition(":")
    assert module == application.__name__
    return getattr(application, name)(application.ServeArguments.model_validate(arguments))


@pytest.mark.usefixtures("pod")
def test_the_rendered_arguments_build_the_deployment_whose_replicas_are_set() -> None:
    app = rendered()
    deployment = build(app["args"])._bound_deployment
    assert deployment.name == DEPLOYMENT_NAME == app["deployments"][0]["name"]
    assert deployment.ray_actor_options["num_cpus"] == 1
    assert deployment.ray_actor_options["num_gpus"] == 1
    json, threads, hosts = deployment.init_args
    assert ServedApp.model_validate_json(json).digest == "a" * 64
    assert (threads, hosts) == (3, ())


def test_an_application_without_authentication_in_front_of_it_is_not_built(
    pod: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PROXY_CALLBACK_VARIABLE)
    with pytest.raises(RuntimeError, match="does not set RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"):
        build(rendered()["args"])
    monkeypatch.setenv(PROXY_CALLBACK_VARIABLE, PROXY_CALLBACK)
    (pod.parent / "secret" / AUTHORIZATION_FILE).unlink()
    with pytest.raises(RuntimeError, match="no credential"):
        build(rendered()["args"])


def status_of(path: str, authorization: str = "") -> int:
    """Send a request through the middlewares of the proxy; return the status."""
    sent: list[Message] = []

    async def answer(scope: object, receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    [middleware] = middlewares()
    options: dict[str, Any] = middleware.kwargs
    headers = [(b"authorization", authorization.encode())] if authorization else []
    scope = {"type": "http", "method": "GET", "path": path, "headers": headers}
    asyncio.run(ProxyAuthMiddleware(answer, **options)(scope, receive, send))
    return int(sent[0]["status"])


@pytest.mark.usefixtures("pod")
def test_the_proxy_of_a_pod_requires_the_credential_except_for_probes() -> None:
    assert status_of("/-/healthz") == 200
    for path in ("/-/routes", "/key/predict", "/-/healthz/x", "/key/-/healthz"):
        assert status_of(path) == 401
        assert status_of(path, "Bearer wrong") == 401
        assert status_of(path, "Bearer of-the-control-plane") == 200


def test_a_pod_without_its_secret_refuses_every_request(pod: Path) -> None:
    (pod.parent / "secret" / AUTHORIZATION_FILE).unlink()
    assert proxy_headers({CREDENTIALS_VARIABLE: str(pod.parent / "secret")}) == {}
    assert status_of("/key/predict", "Bearer ") == 401


class CountingTransfer(FileTransfer):
    """Copies like a remote store, and counts."""

    fetched = 0

    def fetch(self, uri: str, folder: Path) -> Path:
        self.fetched += 1
        folder.mkdir()
        for file in super().fetch(uri, folder).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        return folder


def test_an_artifact_is_fetched_once_for_a_pod(pod: Path, classifier_folder: Path) -> None:
    app, transfer = served_app("a", classifier_folder, Task.TEXT_CLASSIFICATION), CountingTransfer()
    for _ in range(2):
        with artifact_folder(app, transfer) as folder:
            assert folder == pod / app.digest
    assert transfer.fetched == 1


def test_a_damaged_or_partial_artifact_is_fetched_again(pod: Path, classifier_folder: Path) -> None:
    app, transfer = served_app("a", classifier_folder, Task.TEXT_CLASSIFICATION), CountingTransfer()
    (pod / f"{app.digest}.partial").mkdir()
    with pytest.raises(ValueError, match="damaged"), artifact_folder(app, transfer):
        raise ValueError("damaged")
    with artifact_folder(app, transfer):
        pass
    assert transfer.fetched == 2


def test_without_a_cache_nothing_is_kept(pod: Path, classifier_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    app = served_app("a", classifier_folder, Task.TEXT_CLASSIFICATION)
    with artifact_folder(app, CountingTransfer()) as folder:
        assert folder.is_dir()
    assert not folder.exists()
    assert not list(pod.iterdir())
