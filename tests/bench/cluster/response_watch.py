"""A watch that records when each version of an object was first received."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError
from windlass.kube.objects import Kind, Object

Seen = Callable[[Object, float], None]


class ResponseWatch:
    """Calls ``seen`` with every new or changed object of a kind, and the ``time.perf_counter`` time."""

    def __init__(self, client: KubeClient, kind: Kind, seen: Seen) -> None:
        self._client, self._kind, self._seen = client, kind, seen
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._since = self._client.list(self._kind).resource_version
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                for change in self._client.watch(self._kind, resource_version=self._since, seconds=600):
                    now = time.perf_counter()
                    if self._ending.is_set():
                        return
                    if change.type in {"ADDED", "MODIFIED"}:
                        self._seen(change.object, now)
                    self._since = change.object["metadata"]["resourceVersion"]
            except KubeApiError:
                time.sleep(0.1)  # continue from the last resource version
