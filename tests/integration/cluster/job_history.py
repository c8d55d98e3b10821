"""What Kueue and KubeRay did with the RayJobs of jobs, from watches; some of the objects are deleted when they end."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError
from windlass.kube.kinds import RAY_JOB, WORKLOAD
from windlass.kube.names import JOB_LABEL
from windlass.kube.objects import Kind, Object, WatchEvent

_RUN = re.compile(r"job-([0-9a-z]{26})-r\d+$")
ENDED = frozenset({"Complete", "Failed"})


def job_of(run_name: str) -> str | None:
    """The id of the job with a run of this name."""
    match = _RUN.match(run_name)
    return f"job_{match[1]}" if match else None


class ObjectWatch:
    """Calls ``handle`` for every version of every object of a kind, in order, in a thread."""

    def __init__(self, client: KubeClient, kind: Kind, handle: Callable[[WatchEvent], None]) -> None:
        self._client, self._kind, self._handle = client, kind, handle
        self._ending = threading.Event()
        self.problems: list[str] = []

    def __enter__(self) -> Self:
        listing = self._client.list(self._kind)
        for found in listing.items:
            self._handle(WatchEvent("ADDED", found))
        threading.Thread(target=self._run, args=(listing.resource_version,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()

    def _run(self, since: str) -> None:
        while not self._ending.is_set():
            try:
                for change in self._client.watch(self._kind, resource_version=since, seconds=600):
                    if self._ending.is_set():
                        return
                    since = change.object["metadata"]["resourceVersion"]
                    if change.type != "BOOKMARK":
                        self._handle(change)
            except KubeApiError as error:
                if error.status:
                    self.problems.append(f"the watch of {self._kind} missed events: {error}")
                    return


@dataclass
class _Life:
    """The lifetimes of one RayJob: the closed ones, and when the open one began."""

    seconds: float = 0.0
    since: float | None = None


class RayJobLifetimes:
    """Measures with this process's clock for how long RayJobs are not suspended, until their end."""

    def __init__(self, client: KubeClient) -> None:
        self._lives: dict[tuple[str, str], _Life] = {}
        self._lock = threading.Lock()
        self.finished: list[str] = []
        """The jobs whose RayJobs have ended successfully, in this order."""
        self.watch = ObjectWatch(client, RAY_JOB, self._take)

    def seconds(self, job: str) -> float:
        """The lifetimes of the RayJobs of a job, until now if one has not ended."""
        now = time.monotonic()
        with self._lock:
            lives = [life for (owner, _), life in self._lives.items() if owner == job]
            return sum(life.seconds + (now - life.since if life.since is not None else 0.0) for life in lives)

    def _take(self, change: WatchEvent) -> None:
        now, found = time.monotonic(), change.object
        job = found["metadata"].get("labels", {}).get(JOB_LABEL, "").replace("-", "_")
        if not job:
            return  # a warm trainer without a run
        with self._lock:
            life = self._lives.setdefault((job, found["metadata"]["uid"]), _Life())
            lives = change.type != "DELETED" and is_alive(found, before=life.since is not None)
            if lives and life.since is None:
                life.since = now
            elif not lives and life.since is not None:
                life.seconds, life.since = life.seconds + now - life.since, None
                if found.get("status", {}).get("jobDeploymentStatus") == "Complete":
                    self.finished.append(job)


def is_alive(ray_job: Object, *, before: bool) -> bool:
    """Whether a RayJob may have pods. It may from the moment when Kueue resumes it until KubeRay has stopped it.

    KubeRay also sets up and suspends a RayJob that has not been resumed yet; it creates no pods for it.
    """
    status = ray_job.get("status", {}).get("jobDeploymentStatus", "")
    suspended = ray_job["spec"].get("suspend", False)
    return status not in ENDED and (not suspended or (before and status != "Suspended"))


@dataclass(frozen=True)
class QuotaEvent:
    """A change of the quota that the Workload of a job holds."""

    job: str
    verb: str
    """``queue``, ``reserve``, ``release``, or ``requeue`` after an eviction."""


class WorkloadHistory:
    """The order in which the Workloads of jobs were queued, and in which Kueue reserved and released quota for them."""

    def __init__(self, client: KubeClient) -> None:
        self.events: list[QuotaEvent] = []
        self.order: dict[str, tuple[str, str]] = {}
        """What Kueue orders a job by: creation time and uid of its Workload."""
        self.evictions: list[str] = []
        """The reasons of evictions."""
        self._held: set[str] = set()
        self.watch = ObjectWatch(client, WORKLOAD, self._take)

    def _take(self, change: WatchEvent) -> None:
        metadata = change.object["metadata"]
        owners = metadata.get("ownerReferences") or [{"name": ""}]
        job = job_of(owners[0]["name"])
        if job is None:
            return
        if job not in self.order:
            self.order[job] = (metadata["creationTimestamp"], metadata["uid"])
            self.events.append(QuotaEvent(job, "queue"))
        conditions = {each["type"]: each for each in change.object.get("status", {}).get("conditions", ())}
        ended = change.type == "DELETED" or _is_true(conditions, "Finished")
        reserved = _is_true(conditions, "QuotaReserved") and not ended
        if reserved and job not in self._held:
            self._held.add(job)
            self.events.append(QuotaEvent(job, "reserve"))
        elif not reserved and job in self._held:
            self._held.discard(job)
            self.events.append(QuotaEvent(job, "release" if ended else "requeue"))
            if not ended:
                self.evictions.append(conditions["Evicted"]["reason"])


def _is_true(conditions: dict[str, Any], kind: str) -> bool:
    return kind in conditions and conditions[kind]["status"] == "True"
