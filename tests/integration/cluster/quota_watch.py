"""Checks continuously that quotas stay within the allowed values, and that deleted objects stay deleted."""

import threading
from types import TracebackType
from typing import Self

from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError
from windlass.kube.objects import Kind, Ref, WatchEvent
from windlass_operators.kinds import CLUSTER_QUEUE, NAMESPACE

_KINDS = (CLUSTER_QUEUE, NAMESPACE)


class QuotaWatch:
    """Watches every version of every ClusterQueue and namespace, without a proxy.

    ``allow`` sets the nominal quotas that a queue may have; other queues are ignored.
    """

    def __init__(self, client: KubeClient) -> None:
        self.violations: list[str] = []
        """The violations."""
        self.seen = 0
        self._client = client
        self._allowed: dict[str, set[int]] = {}
        self._nominal: dict[str, int] = {}
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._stay: set[Ref] = set()
        self._gone: set[Ref] = set()

    def allow(self, queue: str, nominal: int, *, only: bool = False) -> None:
        """Allow a nominal quota of a queue; with ``only``, no other one."""
        with self._lock:
            self._allowed[queue] = {nominal} if only else self._allowed.get(queue, set()) | {nominal}

    def expect_kept(self, *refs: Ref) -> None:
        """Objects that must not be deleted from now on."""
        with self._lock:
            self._stay |= set(refs)

    def expect_deleted(self, *refs: Ref) -> None:
        """Objects that must not be recreated from now on."""
        with self._lock:
            self._gone |= set(refs)

    @property
    def total(self) -> int:
        """The current sum of nominal quotas."""
        return sum(self._nominal.values())

    def __enter__(self) -> Self:
        for kind in _KINDS:
            listing = self._client.list(kind)
            for one in listing.items:
                self._take(WatchEvent("ADDED", one))
            threading.Thread(target=self._run, args=(kind, listing.resource_version), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        if error is None:
            assert self.violations == [], self.violations
            assert self.seen > 0, "the watch received no event"

    def _run(self, kind: Kind, since: str) -> None:
        while not self._ending.is_set():
            try:
                for change in self._client.watch(kind, resource_version=since, seconds=600):
                    if self._ending.is_set():
                        return
                    since = change.object["metadata"]["resourceVersion"]
                    if change.type != "BOOKMARK":
                        self._take(change)
            except KubeApiError as error:
                if error.status:
                    self.violations.append(f"the watch missed events: {error}")

    def _take(self, change: WatchEvent) -> None:
        ref = Ref.of(change.object)
        with self._lock:
            self.seen += 1
            ending = change.type == "DELETED" or "deletionTimestamp" in change.object["metadata"]
            if ref in self._stay and ending:
                self.violations.append(f"{ref} was deleted")
            if ref in self._gone and change.type == "ADDED":
                self.violations.append(f"{ref} was recreated")
            if ref.kind == CLUSTER_QUEUE and ref.name in self._allowed:
                self._count(ref.name, change)

    def _count(self, queue: str, change: WatchEvent) -> None:
        if change.type == "DELETED":
            self._nominal.pop(queue, None)
            return
        resource = change.object["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]
        self._nominal[queue] = int(resource["nominalQuota"])
        if self._nominal[queue] not in self._allowed[queue]:
            self.violations.append(f"{queue} has {self._nominal[queue]}, allowed are {sorted(self._allowed[queue])}")
        if (bound := sum(map(max, self._allowed.values()))) < self.total:
            self.violations.append(f"queues have {self.total} in all, and the resources allow {bound}")
