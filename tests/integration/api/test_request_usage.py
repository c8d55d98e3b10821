"""Requests and tokens of endpoints: counted in memory, stored every few seconds and at the end."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from tests.factories.http_servers import serve
from tests.factories.live_endpoints import add_live_endpoint
from tests.fakes.harness import ControlPlaneHarness
from tests.fakes.model_server import StubModelServer, stub_model_server

from windlass.domain.errors import UnavailableError
from windlass.domain.specs import Task
from windlass.domain.usage import Interval, RequestCounts, RequestGroup, month_interval
from windlass.ports import UnitOfWork
from windlass.services.request_usage import FLUSH_SECONDS, RequestUsageCounter
from windlass_api.app import create_app

pytestmark = pytest.mark.database("sqlite", "postgresql")
GROUP = RequestGroup("p", "key_1", "talk", "m", 1)
CHAT = {"messages": [{"role": "user", "content": "hi"}]}
LABELS = [[{"label": "good", "score": 0.75}]]


def totals(harness: ControlPlaneHarness, interval: Interval | None = None) -> dict[str, RequestCounts]:
    with harness.database.read() as uow:
        stored = uow.request_usage.totals(interval or month_interval("2026-01"), None)
    return {f"{each.endpoint}/{each.model}@{each.number}": each.counts for each in stored}


def counter_of(harness: ControlPlaneHarness, instance: str = "api_1") -> RequestUsageCounter:
    return RequestUsageCounter(harness.database, instance, harness.clock)


# ---------------------------------------------------------------- the counter


def test_a_request_writes_nothing_and_a_step_stores_all(harness: ControlPlaneHarness) -> None:
    counter, woken = counter_of(harness), []
    counter.on_start = lambda: woken.append(True)
    assert counter.step() is None
    for _ in range(3):
        counter.count(GROUP, "succeeded", 10, 5)
    counter.count(GROUP._replace(number=2), "failed")
    assert (woken, totals(harness)) == ([True], {})
    harness.clock.advance(FLUSH_SECONDS)
    counter.step()
    expected = {
        "talk/m@1": RequestCounts(succeeded=3, prompt_tokens=30, completion_tokens=15),
        "talk/m@2": RequestCounts(failed=1),
    }
    assert totals(harness) == expected
    counter.count(GROUP, "cancelled", 1, 1)
    assert counter.step() == FLUSH_SECONDS, "at most one write every few seconds"
    assert totals(harness) == expected
    harness.clock.advance(FLUSH_SECONDS)
    assert counter.step() is None
    assert totals(harness)["talk/m@1"].cancelled == 1


def test_counts_are_stored_once_even_if_the_outcome_of_a_commit_is_unknown(
    harness: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = counter_of(harness)
    counter.count(GROUP, "succeeded", 10, 5)

    write, failing = harness.database.write, [True]

    @contextmanager
    def write_without_a_reply() -> Iterator[UnitOfWork]:
        with write() as uow:
            yield uow
        if failing.pop():
            raise UnavailableError("the connection was lost after the commit")

    monkeypatch.setattr(harness.database, "write", write_without_a_reply)
    with pytest.raises(UnavailableError):
        counter.flush()
    failing.append(False)
    counter.count(GROUP, "succeeded", 1, 1)
    counter.flush()
    assert totals(harness) == {"talk/m@1": RequestCounts(succeeded=2, prompt_tokens=11, completion_tokens=6)}


def test_two_replicas_and_a_restart_add_up(harness: ControlPlaneHarness) -> None:
    for instance in ("api_1", "api_2", "api_1_restarted"):
        counter = counter_of(harness, instance)
        counter.count(GROUP, "succeeded", 2, 1)
        counter.flush()
    assert totals(harness)["talk/m@1"] == RequestCounts(succeeded=3, prompt_tokens=6, completion_tokens=3)


def test_each_hour_is_counted_on_its_own(harness: ControlPlaneHarness) -> None:
    counter, noon = counter_of(harness), harness.clock.now()
    counter.count(GROUP, "succeeded")
    harness.clock.advance(3600)
    counter.count(GROUP, "failed")
    counter.flush()
    one = harness.clock.now()
    assert totals(harness, Interval(noon, one))["talk/m@1"] == RequestCounts(succeeded=1)
    assert totals(harness, Interval(one, one.replace(hour=14)))["talk/m@1"] == RequestCounts(failed=1)
    harness.clock.set_wall_clock(-3600)
    counter.count(GROUP, "rejected")
    counter.flush()
    assert totals(harness, Interval(noon, one))["talk/m@1"] == RequestCounts(succeeded=1), "a stored hour stays"
    assert totals(harness)["talk/m@1"].requests == 3


def test_counts_of_many_threads_are_complete(harness: ControlPlaneHarness) -> None:
    counter = counter_of(harness)

    def count() -> None:
        for _ in range(200):
            counter.count(GROUP, "succeeded", 1, 2)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    counter.flush()
    for thread in threads:
        thread.join()
    counter.flush()
    assert totals(harness)["talk/m@1"] == RequestCounts(succeeded=800, prompt_tokens=800, completion_tokens=1600)


# ---------------------------------------------------------------- through the API


@dataclass
class Served:
    """An API with two endpoints and a stub of their model server."""

    harness: ControlPlaneHarness
    model: StubModelServer
    api: str

    def post(self, path: str, body: Any) -> httpx2.Response:
        headers = {"Authorization": self.harness.client.headers["Authorization"], "Content-Type": "application/json"}
        url = f"{self.api}/v1/projects/ours/endpoints/{path}"
        return httpx2.post(url, content=json.dumps(body), headers=headers, trust_env=False, timeout=60)

    def stored(self) -> dict[str, RequestCounts]:
        """Return what is stored once a request has been counted: a client may have its answer a moment earlier."""
        deadline = time.monotonic() + 30
        while True:
            self.harness.app_context.request_usage.flush()
            if (found := totals(self.harness)) or time.monotonic() > deadline:
                return found
            time.sleep(0.01)


@pytest.fixture
def served(harness: ControlPlaneHarness) -> Iterator[Served]:
    project = harness.create_project("ours")
    for name, task in (("texts", Task.TEXT_CLASSIFICATION), ("talk", Task.CHAT)):
        add_live_endpoint(harness, project, name, task)
    with stub_model_server() as model, serve(create_app(harness.app_context)) as port:
        harness.serving.base_url = model.url
        yield Served(harness, model, f"http://127.0.0.1:{port}")


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def test_predictions_and_completions_are_counted_with_their_tokens(served: Served) -> None:
    served.model.answer = {"predictions": LABELS, "truncated": [], "usage": usage(9, 0)}
    assert served.post("texts:predict", {"inputs": ["a"]}).status_code == 200
    served.model.answer = {"choices": [], "usage": usage(5, 7)}
    assert served.post("talk/chat/completions", CHAT).status_code == 200
    assert served.stored() == {
        "texts/m@1": RequestCounts(succeeded=1, prompt_tokens=9),
        "talk/m@1": RequestCounts(succeeded=1, prompt_tokens=5, completion_tokens=7),
    }
    [talk, texts] = served.harness.client.get(
        "/v1/projects/ours/usage/months/2026-01", params={"group_by": ["endpoint", "key"]}
    ).json()["items"]
    assert (talk["endpoint"], talk["requests"]["completion_tokens"], talk["key"][:4]) == ("talk", 7, "key_")
    assert (texts["endpoint"], texts["requests"]["total"]) == ("texts", 1)


def test_requests_are_counted_by_outcome(served: Served) -> None:
    served.model.answer = {"predictions": LABELS}
    served.model.failures = [422, 500, 429, 0]
    for expected in (422, 502, 429, 200):
        assert served.post("texts:predict", {"inputs": ["a"]}).status_code == expected
    served.model.answer = {"nothing": 1}
    assert served.post("texts:predict", {"inputs": ["a"]}).status_code == 502
    served.model.failures = [400]
    assert served.post("talk/chat/completions", CHAT).status_code == 400
    served.model.dropped = 2
    assert served.post("talk/chat/completions", CHAT).status_code == 503
    assert served.post("unknown:predict", {"inputs": ["a"]}).status_code == 404
    assert served.stored() == {
        "texts/m@1": RequestCounts(succeeded=1, rejected=2, failed=2),
        "talk/m@1": RequestCounts(rejected=1, failed=1),
    }
    assert served.harness.app_context.request_loads.ongoing == {}


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (
            b": usage 4 6\n\ndata: {}\n\ndata: [DONE]\n\n",
            RequestCounts(succeeded=1, prompt_tokens=4, completion_tokens=6),
        ),
        (b'data: {"error":{}}\n\ndata: [DONE]\n\n', RequestCounts(failed=1)),
    ],
)
def test_streams_are_counted_at_their_end(served: Served, stream: bytes, expected: RequestCounts) -> None:
    served.model.stream = stream
    reply = served.post("talk/chat/completions", {**CHAT, "stream": True})
    assert (reply.status_code, reply.content) == (200, stream)
    assert served.stored() == {"talk/m@1": expected}


def test_the_last_counts_are_stored_when_the_server_stops(harness: ControlPlaneHarness) -> None:
    counter = harness.app_context.request_usage
    harness.application.api_loops.start()  # type: ignore[union-attr]  # this process serves the API
    counter.count(GROUP, "succeeded")
    counter.count(GROUP, "succeeded")
    harness.application._stop_api_loops(harness.application.api_loops)  # type: ignore[arg-type]  # as above
    assert totals(harness)["talk/m@1"] == RequestCounts(succeeded=2)
