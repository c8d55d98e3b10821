"""Rate limits of keys, runs and projects."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.fakes.harness import ControlPlaneHarness

from windlass.settings import LimitSettings
from windlass_api.metrics import REGISTRY

Build = Callable[..., ControlPlaneHarness]


def rate(requests: int) -> float:
    """A rate whose bucket has this many tokens and is not refilled during a test."""
    return requests / 3600


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Returns a function that builds a control plane with these limits."""
    built: list[ControlPlaneHarness] = []

    def new(**limits: Any) -> ControlPlaneHarness:
        settings = LimitSettings(key_cache_seconds=60, rate_burst_seconds=3600, **limits)
        harness = ControlPlaneHarness(tmp_path, limits=settings)
        built.append(harness)
        harness.create_project("ours")
        harness.create_project("theirs", pool="other")
        return harness

    yield new
    for harness in built:
        harness.close()


def member(harness: ControlPlaneHarness, user: str, project: str, role: str = "viewer") -> TestClient:
    assert harness.client.put(f"/v1/projects/{project}/members/{user}", json={"role": role}).status_code == 200
    return harness.client_for_user(user)


def test_a_key_beyond_its_rate_is_refused_and_other_keys_are_not(build: Build) -> None:
    harness = build(request_rate_per_key=rate(10))
    eve, ann = harness.client_for_user("eve"), harness.client_for_user("ann")
    before = REGISTRY.get_sample_value(
        "windlass_rate_limited_requests_total", {"kind": "management", "partition": "key"}
    )
    replies = [eve.get("/v1/whoami") for _ in range(12)]
    assert [reply.status_code for reply in replies] == [200] * 10 + [429] * 2
    problem = replies[-1].json()
    assert (problem["code"], problem["retryable"]) == ("rate_limited", True)
    assert problem["context"] == {"policy": "management-per-key", "limit": 10, "window_seconds": 3600}
    assert 0 < int(replies[-1].headers["retry-after"]) <= 360
    assert ann.get("/v1/whoami").status_code == 200
    assert harness.client_for_user("eve").get("/v1/whoami").status_code == 200  # another key
    after = REGISTRY.get_sample_value(
        "windlass_rate_limited_requests_total", {"kind": "management", "partition": "key"}
    )
    assert (after or 0) - (before or 0) == 2


def test_the_headers_appear_when_half_of_the_burst_is_used(build: Build) -> None:
    harness = build(request_rate_per_key=rate(6))
    eve = harness.client_for_user("eve")
    replies = [eve.get("/v1/whoami") for _ in range(7)]
    assert ["ratelimit" in reply.headers for reply in replies] == [False] * 3 + [True] * 4
    assert replies[3].headers["ratelimit-policy"] == '"management-per-key";q=6;w=3600'
    assert replies[3].headers["ratelimit"].startswith('"management-per-key";r=2;t=')
    refused = replies[-1].headers
    assert refused["ratelimit"] == f'"management-per-key";r=0;t={refused["retry-after"]}'


def test_predictions_and_other_requests_have_separate_limits(build: Build) -> None:
    harness = build(request_rate_per_key=rate(3), prediction_rate_per_key=rate(5))
    harness.client.put("/v1/projects/ours/members/eve", json={"role": "viewer"})
    eve = harness.client_for_user("eve")
    paths = ("/v1/projects/ours/endpoints/e:predict", "/v1/projects/ours/endpoints/e/chat/completions")
    replies = [eve.post(paths[number % 2], json={"inputs": ["x"]}) for number in range(6)]
    assert [reply.status_code for reply in replies] == [404] * 5 + [429]
    assert replies[-1].json()["error"]["code"] == "rate_limited"  # for OpenAI's clients
    assert [eve.get("/v1/whoami").status_code for _ in range(4)] == [200] * 3 + [429]


def test_the_members_of_a_project_share_its_rate(build: Build) -> None:
    harness = build(request_rate_per_project=rate(4))
    eve, bob = member(harness, "eve", "ours"), member(harness, "bob", "ours")  # two requests to the project
    ann = member(harness, "ann", "theirs")
    assert [client.get("/v1/projects/ours").status_code for client in (eve, bob, eve)] == [200, 200, 429]
    assert bob.get("/v1/projects/ours/jobs").json()["detail"].startswith("project ours has sent too many")
    assert ann.get("/v1/projects/theirs").status_code == 200
    assert eve.get("/v1/whoami").status_code == 200  # belongs to no project


def test_a_stranger_cannot_use_up_the_rate_of_a_project(build: Build) -> None:
    harness = build(request_rate_per_project=rate(3))
    eve, stranger = member(harness, "eve", "ours"), harness.client_for_user("stranger")
    assert {stranger.get("/v1/projects/ours").status_code for _ in range(10)} == {404}
    assert eve.get("/v1/projects/ours").status_code == 200


def test_an_unauthenticated_request_uses_up_no_rate(build: Build) -> None:
    harness = build(request_rate_per_key=rate(2))
    anonymous = harness.client_for_key("wlk_" + "0" * 26 + "_" + "x" * 43)
    assert {anonymous.get("/v1/whoami").status_code for _ in range(5)} == {401}
    assert {harness.client.get("/healthz").status_code for _ in range(5)} == {200}
    assert harness.client.get("/v1/whoami").status_code == 200


def test_a_run_is_limited_and_other_runs_are_not(build: Build) -> None:
    harness = build(request_rate_per_key=rate(50))
    harness.create_base_model()
    harness.create_dataset("ours")
    harness.create_project("more", pool="local", gpus=1)
    harness.client.put("/v1/projects/ours/quotas/local", json={"nominal": 2})
    jobs = [harness.submit("ours", key=f"{number}") for number in range(2)]
    harness.run_worker_once(2)
    first, second = (harness.simulated_run(job) for job in jobs)
    statuses = [first.client.get(f"/internal/v1/runs/{first.run}").status_code for _ in range(52)]
    assert statuses == [200] * 50 + [429] * 2
    assert second.client.get(f"/internal/v1/runs/{second.run}").status_code == 200


def test_a_rate_of_zero_is_no_limit(build: Build) -> None:
    harness = build(request_rate_per_key=0, request_rate_per_project=0)
    assert {harness.client.get("/v1/projects/ours").status_code for _ in range(100)} == {200}


def test_the_defaults_let_a_caller_with_eight_connections_work_at_full_speed(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path)
    with harness.client as client, ThreadPoolExecutor(8) as pool:
        statuses = set(pool.map(lambda _: client.get("/v1/whoami").status_code, range(400)))
    assert statuses == {200}
    harness.close()
    assert LimitSettings().request_rate_per_key * LimitSettings().rate_burst_seconds >= 2000


def test_sign_ins_of_an_address_are_limited(build: Build) -> None:
    harness = build(request_rate_per_key=rate(3))
    anonymous = TestClient(harness.app)
    statuses = [anonymous.get("/v1/auth").status_code for _ in range(5)]
    limited = [anonymous.get("/v1/auth/sign-in", follow_redirects=False).status_code for _ in range(5)]
    assert 429 not in statuses
    assert limited[3:] == [429] * 2
    assert 429 not in limited[:3]
