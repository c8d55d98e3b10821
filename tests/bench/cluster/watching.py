"""A watch of the benchmark's own: when which version of an object was first seen."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from windlass.kube.client import Client
from windlass.kube.errors import ClusterError
from windlass.kube.objects import Kind, Object

Seen = Callable[[Object, float], None]


class Watching:
    """Tells ``seen`` of every new or changed object of a kind, with the moment of ``time.perf_counter``."""

    def __init__(self, client: Client, kind: Kind, seen: Seen) -> None:
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
                for change in self._client.watch(self._kind, since=self._since, seconds=600):
                    now = time.perf_counter()
                    if self._ending.is_set():
                        return
                    if change.type in {"ADDED", "MODIFIED"}:
                        self._seen(change.object, now)
                    self._since = change.object["metadata"]["resourceVersion"]
            except ClusterError:
                time.sleep(0.1)  # begun again where it was
