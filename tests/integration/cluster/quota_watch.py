"""Watches all the time that no more is promised than the resources allow, and what of the finished comes back."""

import threading
from types import TracebackType
from typing import Self

from windlass.kube.client import Client
from windlass.kube.errors import ClusterError
from windlass.kube.objects import Change, Kind, Ref
from windlass_operators.kinds import CLUSTER_QUEUE, NAMESPACE

_KINDS = (CLUSTER_QUEUE, NAMESPACE)


class QuotaWatch:
    """Sees every version of every ClusterQueue and namespace, by watches past whatever proxy there is.

    ``allow`` says what a queue's nominal quota may be from now on; a queue that nobody named is nobody's business.
    """

    def __init__(self, client: Client) -> None:
        self.wrong: list[str] = []
        """What must not have been."""
        self.seen = 0
        self._client = client
        self._allowed: dict[str, set[int]] = {}
        self._nominal: dict[str, int] = {}
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._stay: set[Ref] = set()
        self._gone: set[Ref] = set()

    def allow(self, queue: str, nominal: int, *, only: bool = False) -> None:
        """Let a queue have a quota; ``only`` this one, when what was allowed before is over."""
        with self._lock:
            self._allowed[queue] = {nominal} if only else self._allowed.get(queue, set()) | {nominal}

    def stays(self, *refs: Ref) -> None:
        """From now on these must not be deleted."""
        with self._lock:
            self._stay |= set(refs)

    def stays_gone(self, *refs: Ref) -> None:
        """From now on these must not come back."""
        with self._lock:
            self._gone |= set(refs)

    @property
    def total(self) -> int:
        """The sum of nominal quotas as it stands."""
        return sum(self._nominal.values())

    def __enter__(self) -> Self:
        for kind in _KINDS:
            listing = self._client.list(kind)
            for one in listing.items:
                self._take(Change("ADDED", one))
            threading.Thread(target=self._run, args=(kind, listing.resource_version), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        if error is None:
            assert self.wrong == [], self.wrong
            assert self.seen > 0, "the watch has seen nothing"

    def _run(self, kind: Kind, since: str) -> None:
        while not self._ending.is_set():
            try:
                for change in self._client.watch(kind, since=since, seconds=600):
                    if self._ending.is_set():
                        return
                    since = change.object["metadata"]["resourceVersion"]
                    if change.type != "BOOKMARK":
                        self._take(change)
            except ClusterError as error:
                if error.status:
                    self.wrong.append(f"the watch has a hole: {error}")

    def _take(self, change: Change) -> None:
        ref = Ref.of(change.object)
        with self._lock:
            self.seen += 1
            ending = change.type == "DELETED" or "deletionTimestamp" in change.object["metadata"]
            if ref in self._stay and ending:
                self.wrong.append(f"{ref} was deleted")
            if ref in self._gone and change.type == "ADDED":
                self.wrong.append(f"{ref} has come back")
            if ref.kind == CLUSTER_QUEUE and ref.name in self._allowed:
                self._count(ref.name, change)

    def _count(self, queue: str, change: Change) -> None:
        if change.type == "DELETED":
            self._nominal.pop(queue, None)
            return
        resource = change.object["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]
        self._nominal[queue] = int(resource["nominalQuota"])
        if self._nominal[queue] not in self._allowed[queue]:
            self.wrong.append(f"{queue} has {self._nominal[queue]}, allowed are {sorted(self._allowed[queue])}")
        if (bound := sum(map(max, self._allowed.values()))) < self.total:
            self.wrong.append(f"queues have {self.total} in all, and the resources allow {bound}")
