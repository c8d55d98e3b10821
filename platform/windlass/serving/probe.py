"""Smoke tests of served applications: one small request to each before it receives traffic, in a pool of threads."""

from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import httpx2

from windlass.domain.endpoints import ProbeRequest
from windlass.domain.specs import Task
from windlass.runtime.http import internal_client

_TIMEOUT_SECONDS = 60.0
_THREADS = 16
_MAX_PER_GROUP = 2
_REQUESTS: dict[Task, tuple[str, dict[str, object]]] = {
    Task.TEXT_CLASSIFICATION: ("predict", {"inputs": ["A short sentence.", ""]}),
    Task.CHAT: ("chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}),
}


def send_probe(request: ProbeRequest) -> str:
    """Send one request to an application; return an empty string on success, else the error."""
    path, body = _REQUESTS[request.task]
    try:
        with internal_client(timeout=_TIMEOUT_SECONDS, headers=request.headers) as client:
            reply = client.post(f"{request.url}/{path}", json=body)
    except httpx2.HTTPError as error:
        return f"it did not respond ({type(error).__name__})"
    return "" if reply.is_success else f"status {reply.status_code}"


@dataclass(frozen=True)
class _Probe:
    group: str
    future: Future[str]


class ProbePool:
    """Implements ``services.rollouts.Prober``: a slow application delays only probes of its own group.

    Args:
        send: sends a probe and returns its error, empty on success; it may block.
        threads: probes that run at the same time.
        max_per_group: probes of one group that run at the same time.
    """

    def __init__(
        self,
        send: Callable[[ProbeRequest], str] = send_probe,
        *,
        threads: int = _THREADS,
        max_per_group: int = _MAX_PER_GROUP,
    ) -> None:
        self._send, self._max_per_group = send, max_per_group
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="probe")
        self._probes: dict[str, _Probe] = {}

    def result(self, key: str, group: str, request: ProbeRequest) -> str | None:
        """Return the result of the probe ``key``; start it if necessary, and return None until it has ended."""
        probe = self._probes.get(key)
        if probe is not None:
            return probe.future.result() if probe.future.done() else None
        running = sum(other.group == group and not other.future.done() for other in self._probes.values())
        if running < self._max_per_group:
            self._probes[key] = _Probe(group, self._executor.submit(self._send, request))
        return None

    def retain(self, keys: Collection[str]) -> None:
        """Forget the results of all other probes; those that still run count for their group until they end."""
        self._probes = {key: probe for key, probe in self._probes.items() if key in keys or not probe.future.done()}

    def close(self) -> None:
        """Wait for the running probes; call it after the back end has stopped, which ends them."""
        self._executor.shutdown(cancel_futures=True)
