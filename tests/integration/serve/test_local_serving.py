"""Real Ray Serve on the local Ray, tiny models: what answers, what is refused, what survives, what is left behind."""

import json
import pickle
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.contracts.serving_backend import ServingBackendContract, settled
from tests.unit.serve.tiny_artifacts import LABELS, seal, served, write_chat, write_classifier

from windlass.domain.endpoints import AppState, ReplicaRange, ServedApp
from windlass.domain.specs import Task
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.orchestration.ray_head import LocalRay
from windlass.serving.local import LocalServing

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

CONTEXT = 8192
HELLO: Any = [{"role": "user", "content": "hello"}]


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.path), "w")


@dataclass(frozen=True)
class World:
    """One Ray and one serving back end for all tests of this module."""

    root: Path
    ray: LocalRay
    serving: LocalServing
    apps: dict[str, ServedApp]

    def ready(self, *keys: str) -> str:
        """Wish these applications, wait until each is ready or failed, and return the base URL."""
        settled(self.serving, [self.apps[key] for key in keys])
        return self.serving.status().base_url

    def replicas(self, key: str) -> set[int]:
        """Return the pids of an application's replicas; Ray writes their names into the process titles."""
        ours = ProcessRecord.load(self.root / "ray" / "process.json")
        assert ours is not None
        return {pid for pid in processes.members(ours) if f"ServeReplica:{key}:" in _title(pid)}

    @property
    def host(self) -> ProcessRecord:
        record = ProcessRecord.load(self.root / "serving" / "process.json")
        assert record is not None
        return record


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("serving")
    ray = LocalRay(root / "ray", sys.executable)
    serving = LocalServing(root / "serving", ray, sys.executable)
    texts = write_classifier(root / "texts")
    apps = {
        "texts": served("texts", texts, Task.TEXT_CLASSIFICATION),
        "chat": served("chat", write_chat(root / "chat", context=CONTEXT), Task.CHAT),
        "mismatch": served("mismatch", texts, Task.TEXT_CLASSIFICATION, digest="0" * 64),
        "broken": _broken(root),
        "pickled": _pickled(root),
    }
    try:
        yield World(root, ray, serving, apps)
    finally:
        serving.stop()
        ray.stop()


def _broken(root: Path) -> ServedApp:
    folder = Path(shutil.copytree(root / "texts", root / "broken"))
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}), encoding="utf-8")
    return served("broken", folder, Task.TEXT_CLASSIFICATION, digest=seal(folder))


def _pickled(root: Path) -> ServedApp:
    folder = Path(shutil.copytree(root / "texts", root / "pickled"))
    (folder / "model.safetensors").write_bytes(pickle.dumps(Canary(root / "canary")))
    return served("pickled", folder, Task.TEXT_CLASSIFICATION, digest=seal(folder))


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def listens(base_url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(base_url.rpartition(":")[2]))) == 0


def eventually(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestContract(ServingBackendContract):
    """The port's own suite."""

    @pytest.fixture
    def backend(self, world: World) -> LocalServing:
        return world.serving

    @pytest.fixture
    def good(self, world: World) -> ServedApp:
        return world.apps["texts"]

    @pytest.fixture
    def bad(self, world: World) -> ServedApp:
        return world.apps["mismatch"]


def test_texts_are_classified_one_or_many_at_a_time(world: World) -> None:
    url = world.ready("texts", "chat") + "/texts/predict"
    one = httpx2.post(url, json={"inputs": ["fine"]}).json()
    many = httpx2.post(url, json={"inputs": ["bad", "fine", "x" * 100], "top_k": 1}).json()
    assert one["model"] == "texts-model"
    assert {item["label"] for item in one["predictions"][0]} == set(LABELS)
    assert sum(item["score"] for item in one["predictions"][0]) == pytest.approx(1, abs=1e-4)
    assert many["predictions"][1][0] == pytest.approx(one["predictions"][0][0], abs=1e-5)
    assert [len(row) for row in many["predictions"]] == [1, 1, 1]
    assert many["truncated"] == [2]


def test_bad_requests_get_problems_and_statuses(world: World) -> None:
    base = world.ready("texts", "chat")
    problem = httpx2.post(base + "/texts/predict", json={"inputs": []})
    assert (problem.status_code, problem.json()["errors"][0]["pointer"]) == (422, "/inputs")
    large = httpx2.post(base + "/texts/predict", json={"inputs": ["x" * 2_000_000]})
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    rebound = httpx2.get(base + "/texts/healthz", headers={"Host": "evil.example"})
    assert rebound.status_code == 403
    assert httpx2.get(base + "/texts/healthz").json() == {"status": "ok", "model": "texts-model"}


def client(base: str, key: str = "chat") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{base}/{key}", api_key="none", max_retries=0, timeout=60)


def test_the_stock_client_gets_the_same_answer_whole_and_streamed(world: World) -> None:
    with client(world.ready("texts", "chat")) as stock:
        whole = stock.chat.completions.create(model="m", messages=HELLO, temperature=0, max_tokens=24)
        chunks = list(
            stock.chat.completions.create(
                model="m",
                messages=HELLO,
                temperature=0,
                max_completion_tokens=24,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == whole.choices[0].message.content != ""
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 24
    assert whole.model == "chat-model"


def test_the_stock_client_raises_its_own_errors(world: World) -> None:
    with client(world.ready("texts", "chat")) as stock:
        with pytest.raises(openai.BadRequestError) as caught:
            stock.chat.completions.create(model="m", messages=HELLO, n=2)
        with pytest.raises(openai.BadRequestError) as long:
            stock.chat.completions.create(model="m", messages=[{"role": "user", "content": "x" * CONTEXT}])
    assert caught.value.param == "n"
    assert long.value.code == "context_length_exceeded"


def test_a_reader_who_leaves_frees_the_model(world: World) -> None:
    base = world.ready("texts", "chat")
    with client(base) as stock:
        streams = [
            stock.chat.completions.create(
                model="m", messages=HELLO, temperature=1.5, seed=n, max_tokens=4096, stream=True, stop=["\x00\x00\x00"]
            )
            for n in range(4)
        ]
        for stream in streams:
            next(iter(stream))
        assert httpx2.get(base + "/chat/healthz").json()["ongoing"] > 0
        for stream in streams:
            stream.close()
        # Written to their ends, these answers take several times as long.
        eventually(lambda: httpx2.get(base + "/chat/healthz").json()["ongoing"] == 0, seconds=4)


def test_bad_artifacts_fail_with_their_reasons_and_disturb_nobody(world: World) -> None:
    base = world.ready("texts", "chat", "mismatch", "broken", "pickled")
    apps = settled(world.serving)
    assert {key for key, app in apps.items() if app.state is AppState.READY} == {"texts", "chat"}
    assert "was to be served" in apps["mismatch"].message
    assert "lacks weights" in apps["broken"].message
    assert "named safetensors" in apps["pickled"].message
    assert not (world.root / "canary").exists()
    assert httpx2.post(base + "/texts/predict", json={"inputs": ["a"]}).status_code == 200
    assert not world.replicas("broken")


def test_a_new_replica_range_scales_without_loading_anew(world: World) -> None:
    base = world.ready("texts", "chat")
    before = world.replicas("texts")
    scale = ReplicaRange(min=1, max=2, target_ongoing_requests=1)
    world.serving.apply([world.apps["texts"].model_copy(update={"replicas": scale}), world.apps["chat"]])

    def ask(_number: int) -> int:
        return httpx2.post(base + "/texts/predict", json={"inputs": ["some text"] * 64}, timeout=60).status_code

    with ThreadPoolExecutor(6) as pool:
        eventually(lambda: set(pool.map(ask, range(12))) == {200} and len(world.replicas("texts")) == 2, seconds=90)
    assert before < world.replicas("texts")


def test_a_killed_host_stops_nothing_and_its_successor_adopts_all(world: World) -> None:
    base = world.ready("texts", "chat")
    eventually(lambda: (len(world.replicas("texts")), len(world.replicas("chat"))) == (1, 1))
    before, pids = world.host, world.replicas("texts") | world.replicas("chat")
    processes.send(before, signal.SIGKILL)
    assert processes.wait(before, 10)
    status = world.serving.status()
    assert (status.base_url, {app.state for app in status.apps}) == ("", {AppState.DEPLOYING})
    assert httpx2.get(base + "/texts/healthz").status_code == 200
    assert world.ready("texts", "chat") == base
    assert world.host != before
    assert world.replicas("texts") | world.replicas("chat") == pids


def test_a_second_server_adopts_the_host(world: World) -> None:
    base = world.ready("texts", "chat")
    before = world.host
    successor = LocalServing(world.root / "serving", world.ray, sys.executable)
    assert successor.status().base_url == base
    successor.apply([world.apps["texts"], world.apps["chat"]])
    assert world.host == before


def test_a_deleted_application_frees_its_process_and_its_path(world: World) -> None:
    base = world.ready("texts", "chat")
    assert world.replicas("chat")
    world.ready("texts")
    eventually(lambda: not world.replicas("chat"))
    assert httpx2.get(base + "/chat/healthz").status_code == 404
    assert httpx2.get(base + "/texts/healthz").status_code == 200


def test_stop_leaves_no_process_and_no_port(world: World) -> None:
    base = world.ready("texts")
    host = world.host
    world.serving.stop()
    assert not listens(base)
    assert not processes.members(host)
    assert not world.replicas("texts")
    assert world.serving.status().base_url == ""


def test_stop_cleans_up_after_a_host_that_was_killed(world: World) -> None:
    base = world.ready("mismatch")
    assert listens(base)
    processes.send(world.host, signal.SIGKILL)
    world.serving.stop()
    assert not listens(base)


def test_serving_comes_back_when_ray_was_killed(world: World) -> None:
    world.ready("texts")
    record = ProcessRecord.load(world.root / "ray" / "process.json")
    assert record is not None
    processes.kill(record)
    eventually(lambda: not processes.alive(world.host))
    assert {app.state for app in world.serving.status().apps} == {AppState.DEPLOYING}
    base = world.ready("texts")
    assert httpx2.get(base + "/texts/healthz").status_code == 200
