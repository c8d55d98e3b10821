"""Smoke tests run in threads: a slow application delays only its own group."""

import time
from collections.abc import Callable, Iterator
from threading import Event

import pytest

from windlass.domain.endpoints import ProbeRequest
from windlass.domain.specs import Task
from windlass.serving.probe import ProbePool


class Harness:
    """A pool whose probes of URLs that contain ``slow`` block until ``release``."""

    def __init__(self) -> None:
        self.release, self.sent = Event(), list[str]()
        self.pool = ProbePool(self._send, threads=6, max_per_group=2)

    def _send(self, request: ProbeRequest) -> str:
        self.sent.append(request.url)
        if "slow" in request.url:
            assert self.release.wait(20)
        return f"error of {request.url}"

    def result(self, key: str, group: str) -> str | None:
        return self.pool.result(key, group, ProbeRequest(url=key, task=Task.CHAT))


@pytest.fixture
def harness() -> Iterator[Harness]:
    created = Harness()
    yield created
    created.release.set()
    created.pool.close()


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_probe_runs_once_and_its_result_is_kept(harness: Harness) -> None:
    assert harness.result("fast", "a") is None
    eventually(lambda: harness.result("fast", "a") == "error of fast")
    assert harness.sent == ["fast"]
    harness.pool.retain(set())
    assert harness.result("fast", "a") is None
    eventually(lambda: harness.sent == ["fast", "fast"])


def test_slow_applications_of_one_group_leave_threads_to_others(harness: Harness) -> None:
    for number in range(8):
        assert harness.result(f"slow-{number}", "a") is None
    harness.pool.retain(set())  # rolled back: the requests still run and count
    assert harness.result("slow-8", "a") is None
    eventually(lambda: harness.result("fast", "b") == "error of fast")
    assert sorted(harness.sent) == ["fast", "slow-0", "slow-1"]
    harness.release.set()
    eventually(lambda: harness.result("slow-8", "a") == "error of slow-8")
