"""Real Ray Serve on the local Ray with tiny models: requests, the guide, invalid artifacts, restarts, cleanup."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.architecture.tree import ROOT
from tests.contracts.serving_backend import ServingBackendContract, settled
from tests.factories.http_servers import serve
from tests.factories.live_endpoints import add_live_endpoint
from tests.fakes.harness import ControlPlaneHarness
from tests.integration.serve.conftest import CONTEXT, ServingHarness
from tests.unit.serve.tiny_artifacts import LABELS

from windlass.domain.endpoints import AppState, ReplicaRange, ServedApp
from windlass.domain.specs import Task
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.serving.local import LocalServing

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

_TCP_LISTEN = "0A"
HELLO: Any = [{"role": "user", "content": "hello"}]
GUIDE = (ROOT / "docs" / "guides" / "openai-client.md").read_text("utf-8")
CURL = re.compile(r"^\$ (curl .*?)^```", re.MULTILINE | re.DOTALL)


def _listening_addresses(pid: int) -> set[str]:
    """Return the addresses of the listening TCP sockets of a process (proc_pid_net(5))."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    addresses = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for row in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = row.split()
            if fields[3] == _TCP_LISTEN and fields[9] in inodes:
                number = bytes.fromhex(fields[1].partition(":")[0])
                groups = [number[start : start + 4][::-1] for start in range(0, len(number), 4)]
                addresses.add(socket.inet_ntop(family, b"".join(groups)))
    return addresses


def is_listening(base_url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(base_url.rpartition(":")[2]))) == 0


def eventually(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestContract(ServingBackendContract):
    """The contract tests of the serving back end port."""

    @pytest.fixture
    def backend(self, harness: ServingHarness) -> LocalServing:
        return harness.serving

    @pytest.fixture
    def good(self, harness: ServingHarness) -> ServedApp:
        return harness.apps["texts"]

    @pytest.fixture
    def bad(self, harness: ServingHarness) -> ServedApp:
        return harness.apps["mismatch"]


def test_texts_are_classified_singly_and_in_batches(harness: ServingHarness) -> None:
    url = harness.deploy_and_wait("texts", "chat") + "/texts/predict"
    one = harness.post(url, json={"inputs": ["fine"]}).json()
    many = harness.post(url, json={"inputs": ["bad", "fine", "x" * 100], "top_k": 1}).json()
    assert one["model"] == "texts-model"
    assert {item["label"] for item in one["predictions"][0]} == set(LABELS)
    assert sum(item["score"] for item in one["predictions"][0]) == pytest.approx(1, abs=1e-4)
    assert many["predictions"][1][0] == pytest.approx(one["predictions"][0][0], abs=1e-5)
    assert [len(row) for row in many["predictions"]] == [1, 1, 1]
    assert many["truncated"] == [2]


def test_invalid_requests_get_problem_responses(harness: ServingHarness) -> None:
    base = harness.deploy_and_wait("texts", "chat")
    problem = harness.post(base + "/texts/predict", json={"inputs": []})
    assert (problem.status_code, problem.json()["errors"][0]["pointer"]) == (422, "/inputs")
    large = harness.post(base + "/texts/predict", json={"inputs": ["x" * 3_000_000]})
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    rebound = harness.get(base + "/texts/healthz", headers={"Host": "evil.example"})
    assert rebound.status_code == 403
    assert harness.get(base + "/texts/healthz").json() == {"status": "ok", "model": "texts-model"}


@pytest.fixture(scope="module")
def guide_environment(harness: ServingHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Serve a chat model as endpoint ``support`` of project ``default``."""
    control = ControlPlaneHarness(tmp_path_factory.mktemp("guide"))
    project = control.create_project("default")
    add_live_endpoint(control, project, "support", Task.CHAT, app="chat")
    control.serving.base_url = harness.deploy_and_wait("texts", "chat")
    control.serving.headers = harness.headers()
    key = control.client.headers["Authorization"].removeprefix("Bearer ")
    with serve(control.app) as port:
        yield {**os.environ, "WINDLASS_URL": f"http://127.0.0.1:{port}", "WINDLASS_KEY": key, "NO_PROXY": "*"}
    control.close()


def test_the_python_examples_of_the_guide_run(guide_environment: dict[str, str], tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    script = tmp_path / "guide.py"
    script.write_text("\n".join([*blocks, "print('the end')"]), "utf-8")
    ended = subprocess.run(
        [sys.executable, str(script)], env=guide_environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "\n32\n" in ended.stdout, "the number of tokens"
    assert "n Error code: 400 - /n: must be 1" in ended.stdout
    assert ended.stdout.endswith("the end\n")


def test_the_curl_example_of_the_guide_runs(guide_environment: dict[str, str]) -> None:
    found = CURL.search(GUIDE)
    assert found is not None
    command = "curl --fail --silent " + found[1].removeprefix("curl").replace("\n>", "\n")
    ended = subprocess.run(
        ["bash", "-c", command], env=guide_environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert '"chat.completion"' in ended.stdout


def test_the_openai_client_gets_the_same_answer_with_and_without_streaming(harness: ServingHarness) -> None:
    with harness.openai_client() as openai_client:
        whole = openai_client.chat.completions.create(model="m", messages=HELLO, temperature=0, max_tokens=24)
        chunks = list(
            openai_client.chat.completions.create(
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


def test_the_openai_client_raises_its_own_errors(harness: ServingHarness) -> None:
    with harness.openai_client() as openai_client:
        with pytest.raises(openai.BadRequestError) as caught:
            openai_client.chat.completions.create(model="m", messages=HELLO, n=2)
        with pytest.raises(openai.BadRequestError) as long:
            openai_client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x" * CONTEXT}])
    assert caught.value.param == "n"
    assert long.value.code == "context_length_exceeded"


ENDLESS: Any = {"messages": HELLO, "max_tokens": 4096, "stop": ["\x00\x00\x00"]}
"""An answer that takes much longer than the tests wait."""


def test_a_client_disconnect_cancels_the_generation(harness: ServingHarness) -> None:
    with harness.openai_client() as openai_client:
        streams = [
            openai_client.chat.completions.create(model="m", seed=n, temperature=1.5, stream=True, **ENDLESS)
            for n in range(4)
        ]
        for stream in streams:
            next(iter(stream))
        assert harness.ongoing() > 0
        for stream in streams:
            stream.close()
        # Written to their ends, these answers take several times as long.
        eventually(lambda: harness.ongoing() == 0, seconds=4)


def test_a_client_disconnect_cancels_an_answer_that_is_not_streamed(harness: ServingHarness) -> None:
    url = harness.deploy_and_wait("texts", "chat") + "/chat/chat/completions"

    def gives_up(number: int) -> bool:
        messages = [{"role": "user", "content": f"is the screen great? {number}"}]
        try:
            harness.post(url, json={**ENDLESS, "messages": messages, "temperature": 0}, timeout=1)
        except httpx2.ReadTimeout:
            return True
        return False

    with ThreadPoolExecutor(6) as pool:
        given_up = list(pool.map(gives_up, range(6)))
    # Which answers repeat themselves without an end depends on the random weights and on the CPU.
    assert any(given_up)
    eventually(lambda: harness.ongoing() == 0, seconds=4)


def test_the_proxy_refuses_requests_without_the_credential(harness: ServingHarness) -> None:
    base = harness.deploy_and_wait("texts", "chat")
    for path in ("/-/routes", "/-/healthz", "/texts/healthz", "/nothing"):
        assert httpx2.get(base + path, trust_env=False).status_code == 401, path
        wrong = httpx2.get(base + path, headers={"Authorization": "Bearer x"}, trust_env=False)
        assert (wrong.status_code, wrong.json()["code"]) == (401, "unauthenticated"), path
    assert httpx2.post(base + "/texts/predict", json={"inputs": ["a"]}, trust_env=False).status_code == 401
    assert harness.get(base + "/-/routes").status_code == 200


def test_no_process_listens_on_another_address_than_loopback(harness: ServingHarness) -> None:
    harness.deploy_and_wait("texts", "chat")
    record = ProcessRecord.load(harness.root / "ray" / "process.json")
    assert record is not None
    addresses = {address for pid in processes.pids(record) for address in _listening_addresses(pid)}
    assert addresses
    assert {address for address in addresses if not address.removeprefix("::ffff:").startswith("127.")} == set()


def test_invalid_artifacts_fail_with_reasons_and_do_not_affect_other_apps(harness: ServingHarness) -> None:
    base = harness.deploy_and_wait("texts", "chat", "mismatch", "broken", "pickled")
    apps = settled(harness.serving)
    assert {key for key, app in apps.items() if app.state is AppState.READY} == {"texts", "chat"}
    assert "expected 0000" in apps["mismatch"].message
    assert "lacks weights" in apps["broken"].message
    assert "not a safetensors file" in apps["pickled"].message
    assert not (harness.root / "canary").exists()
    assert harness.post(base + "/texts/predict", json={"inputs": ["a"]}).status_code == 200
    assert not harness.replicas("broken")


def test_a_new_replica_range_scales_without_reloading(harness: ServingHarness) -> None:
    base = harness.deploy_and_wait("texts", "chat")
    before = harness.replicas("texts")
    scale = ReplicaRange(min=1, max=2, target_ongoing_requests=1)
    harness.serving.apply([harness.apps["texts"].model_copy(update={"replicas": scale}), harness.apps["chat"]])

    def ask(_number: int) -> int:
        return harness.post(base + "/texts/predict", json={"inputs": ["some text"] * 64}, timeout=60).status_code

    with ThreadPoolExecutor(6) as pool:
        eventually(lambda: set(pool.map(ask, range(12))) == {200} and len(harness.replicas("texts")) == 2, seconds=90)
    assert before < harness.replicas("texts")


def test_a_new_controller_adopts_serve_after_a_kill(harness: ServingHarness) -> None:
    base = harness.deploy_and_wait("texts", "chat")
    eventually(lambda: (len(harness.replicas("texts")), len(harness.replicas("chat"))) == (1, 1))
    eventually(lambda: harness.serving.status().complete and len(settled(harness.serving)) == 2)
    before, pids = harness.controller, harness.replicas("texts") | harness.replicas("chat")
    processes.send_signal(before, signal.SIGKILL)
    assert processes.wait(before, 10)
    status = harness.serving.status()
    assert (harness.base_url(), {app.state for app in status.apps}) == (base, {AppState.READY}), (
        "the replicas still answer"
    )
    assert not status.complete
    assert harness.get(base + "/texts/healthz").status_code == 200
    harness.serving.apply([harness.apps["texts"], harness.apps["chat"]])
    eventually(lambda: harness.serving.status().complete)
    assert harness.deploy_and_wait("texts", "chat") == base
    assert harness.controller != before
    assert harness.replicas("texts") | harness.replicas("chat") == pids


def test_a_second_server_adopts_the_controller(harness: ServingHarness) -> None:
    base = harness.deploy_and_wait("texts", "chat")
    before = harness.controller
    successor = LocalServing(harness.root / "serving", harness.ray, sys.executable)
    assert {app.url for app in successor.status().apps} == {f"{base}/texts", f"{base}/chat"}
    successor.apply([harness.apps["texts"], harness.apps["chat"]])
    assert harness.controller == before


def test_a_deleted_app_frees_its_process_and_its_route(harness: ServingHarness) -> None:
    base = harness.deploy_and_wait("texts", "chat")
    assert harness.replicas("chat")
    harness.deploy_and_wait("texts")
    eventually(lambda: not harness.replicas("chat"))
    assert harness.get(base + "/chat/healthz").status_code == 404
    assert harness.get(base + "/texts/healthz").status_code == 200


def test_stop_leaves_no_process_and_no_port(harness: ServingHarness) -> None:
    base = harness.deploy_and_wait("texts")
    controller = harness.controller
    harness.serving.stop()
    assert not is_listening(base)
    assert not processes.pids(controller)
    assert not harness.replicas("texts")
    assert harness.base_url() == ""


def test_stop_cleans_up_after_a_killed_controller(harness: ServingHarness) -> None:
    base = harness.deploy_and_wait("mismatch")
    assert is_listening(base)
    processes.send_signal(harness.controller, signal.SIGKILL)
    harness.serving.stop()
    assert not is_listening(base)


def test_serving_recovers_after_ray_was_killed(harness: ServingHarness) -> None:
    harness.deploy_and_wait("texts")
    record = ProcessRecord.load(harness.root / "ray" / "process.json")
    assert record is not None
    processes.kill(record)
    eventually(lambda: not processes.is_alive(harness.controller))
    assert {app.state for app in harness.serving.status().apps} == {AppState.DEPLOYING}
    base = harness.deploy_and_wait("texts")
    assert harness.get(base + "/texts/healthz").status_code == 200
