"""A Ray and a serving back end, shared by all tests of a module."""

import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.contracts.serving_backend import settled
from tests.unit.serve.tiny_artifacts import seal, served_app, write_chat, write_classifier

from windlass.domain.endpoints import ServedApp
from windlass.domain.specs import Task
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.orchestration.ray_head import LocalRay
from windlass.serving.local import LocalServing

CONTEXT = 8192


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.path), "w")


@dataclass(frozen=True)
class ServingHarness:
    """A Ray and a serving back end, shared by all tests of a module."""

    root: Path
    ray: LocalRay
    serving: LocalServing
    apps: dict[str, ServedApp]

    def deploy_and_wait(self, *keys: str) -> str:
        """Deploy these applications, wait until each is ready or failed, and return the base URL."""
        settled(self.serving, [self.apps[key] for key in keys])
        return self.base_url()

    def base_url(self) -> str:
        """Return the address of the proxy; empty when it does not listen."""
        first, *_ = self.serving.status().apps
        return first.url.removesuffix(f"/{first.key}")

    def headers(self) -> dict[str, str]:
        """Return the credential of the proxy."""
        return self.serving.status().apps[0].headers

    def post(self, url: str, **options: Any) -> httpx2.Response:
        return self.request("POST", url, **options)

    def get(self, url: str, **options: Any) -> httpx2.Response:
        return self.request("GET", url, **options)

    def request(self, method: str, url: str, **options: Any) -> httpx2.Response:
        """Send a request with the credential of the proxy."""
        headers = {**self.headers(), **options.pop("headers", {})}
        return httpx2.request(method, url, headers=headers, trust_env=False, **options)

    def openai_client(self, key: str = "chat") -> openai.OpenAI:
        """Return a client of an application, with the credential of the proxy."""
        base = self.deploy_and_wait("texts", "chat")
        token = self.headers()["Authorization"].removeprefix("Bearer ")
        return openai.OpenAI(base_url=f"{base}/{key}", api_key=token, max_retries=0, timeout=60)

    def ongoing(self) -> int:
        """Return the number of chat requests that the replica has accepted and not ended."""
        count: int = self.get(f"{self.base_url()}/chat/healthz").json()["ongoing"]
        return count

    def replicas(self, key: str) -> set[int]:
        """Return the pids of an application's replicas; Ray writes their names into the process titles."""
        ours = ProcessRecord.load(self.root / "ray" / "process.json")
        assert ours is not None
        return {pid for pid in processes.pids(ours) if f"ServeReplica:{key}:" in _title(pid)}

    @property
    def controller(self) -> ProcessRecord:
        record = ProcessRecord.load(self.root / "serving" / "process.json")
        assert record is not None
        return record


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingHarness]:
    root = tmp_path_factory.mktemp("serving")
    ray = LocalRay(root / "ray", sys.executable)
    serving = LocalServing(root / "serving", ray, sys.executable)
    texts = write_classifier(root / "texts")
    apps = {
        "texts": served_app("texts", texts, Task.TEXT_CLASSIFICATION),
        "chat": served_app("chat", write_chat(root / "chat", context=CONTEXT), Task.CHAT),
        "mismatch": served_app("mismatch", texts, Task.TEXT_CLASSIFICATION, digest="0" * 64),
        "broken": _broken(root),
        "pickled": _pickled(root),
    }
    try:
        yield ServingHarness(root, ray, serving, apps)
    finally:
        serving.stop()
        ray.stop()


def _broken(root: Path) -> ServedApp:
    folder = Path(shutil.copytree(root / "texts", root / "broken"))
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}), encoding="utf-8")
    return served_app("broken", folder, Task.TEXT_CLASSIFICATION, digest=seal(folder))


def _pickled(root: Path) -> ServedApp:
    folder = Path(shutil.copytree(root / "texts", root / "pickled"))
    (folder / "model.safetensors").write_bytes(pickle.dumps(Canary(root / "canary")))
    return served_app("pickled", folder, Task.TEXT_CLASSIFICATION, digest=seal(folder))


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
