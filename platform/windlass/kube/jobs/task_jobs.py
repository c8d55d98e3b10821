"""The batch Jobs of the control plane in its namespace, observed by one informer."""

import threading
import time
from collections.abc import Mapping, Sequence

from windlass.domain.errors import UnavailableError
from windlass.kit.ca_bundle import ca_bundle_files
from windlass.kube.cache.informer import InformerHandlers, SharedInformer, WatchTarget, WatchTimings
from windlass.kube.cache.store import Store
from windlass.kube.cache.transform import strip_managed_fields
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError, KubeConflictError
from windlass.kube.jobs.pod_spec import context_secret, owner_references
from windlass.kube.jobs.task_job import TaskJob
from windlass.kube.kinds import BATCH_JOB, POD, SECRET
from windlass.kube.kueue.cluster_objects import Pod
from windlass.kube.names import BATCH_JOB_LABEL, PAUSED_ANNOTATION, TASK_LABEL
from windlass.kube.objects import Object, Ref

_MANAGER = "windlass-worker"
_SYNC_SECONDS = 30.0
_KILL_SECONDS = 120.0
_POLL_SECONDS = 0.1
_ENDED_PHASES = frozenset({"Succeeded", "Failed"})


class TaskJobs:
    """Creates, observes and stops the Jobs of one namespace that have the label ``TASK_LABEL``. Thread-safe.

    The watches start with the first use.
    """

    def __init__(self, client: KubeClient, namespace: str, timings: WatchTimings | None = None) -> None:
        self.namespace = namespace
        self._client = client
        self._store = Store(strip_managed_fields)
        targets = [WatchTarget(kind, TASK_LABEL, namespace) for kind in (BATCH_JOB, POD)]
        self._synced = threading.Event()
        handlers = InformerHandlers(on_change=lambda _: None, on_sync=lambda _: self._synced.set())
        self._informer = SharedInformer(client, self._store, targets, handlers, timings)
        self._lock, self._started = threading.Lock(), False

    def close(self) -> None:
        """Stop the watches. The Jobs go on."""
        if self._started:
            self._informer.stop()

    def create(self, manifest: Object, files: Mapping[str, str]) -> bool:
        """Create a Job with its Secret, which holds ``files``; adopt them, and return False, if the Job exists.

        The Secret is created first: a caller that dies after it leaves no Job whose pod waits for it.

        Raises:
            UnavailableError: the API server cannot be reached, or rejects them; the call can be repeated.
        """
        self._ensure_synced()
        created = True
        secret = context_secret(manifest["metadata"]["name"], {**files, **ca_bundle_files()}, manifest)
        try:
            self._create_secret(secret)
            try:
                job = self._client.create(manifest, manager=_MANAGER)
            except KubeConflictError:
                job, created = self._client.get(Ref.of(manifest)), False
            owned = {"metadata": {"ownerReferences": owner_references(job)}}
            self._client.patch(Ref.of(secret), owned, manager=_MANAGER)
        except KubeApiError as error:
            raise UnavailableError(f"the Job cannot be created: {error.message}") from error
        self._store.put(job)
        return created

    def _create_secret(self, secret: Object) -> None:
        """Create the Secret of a Job; replace one whose caller died before it created the Job."""
        try:
            self._client.create(secret, manager=_MANAGER)
        except KubeConflictError:
            if self._client.find(self._ref(secret["metadata"]["name"])) is None:
                self._client.delete(Ref.of(secret))
                self._client.create(secret, manager=_MANAGER)

    def find(self, name: str) -> TaskJob | None:
        """Return a Job as observed, None if it does not exist.

        Raises:
            UnavailableError: the Jobs cannot be listed.
        """
        self._ensure_synced()
        job = self._store.get(self._ref(name))
        if job is None:
            return None
        return _task_job(job, self._store.by_label(POD, BATCH_JOB_LABEL, name))

    def read(self, name: str) -> TaskJob | None:
        """Return a Job as it is, read from the API server; None if it does not exist or is being deleted.

        Raises:
            UnavailableError: the API server cannot be reached.
        """
        try:
            job = self._client.find(self._ref(name))
            if job is None or "deletionTimestamp" in job["metadata"]:
                return None
            pods = self._client.list(POD, self.namespace, labels=f"{BATCH_JOB_LABEL}={name}").items
        except KubeApiError as error:
            raise UnavailableError(f"Job {name} cannot be read: {error.message}") from error
        return _task_job(job, pods)

    def names(self, kind: str | None = None) -> list[str]:
        """Return the names of the Jobs of a kind of task; None: of all kinds."""
        self._ensure_synced()
        jobs = self._store.all(BATCH_JOB) if kind is None else self._store.by_label(BATCH_JOB, TASK_LABEL, kind)
        return sorted(job["metadata"]["name"] for job in jobs)

    def pause(self, name: str) -> None:
        """Suspend a Job until ``resume``: Kubernetes ends its pod, which does not count as a failure.

        Raises:
            UnavailableError: the API server cannot be reached.
        """
        self._suspend(name, suspend=True, paused="true")

    def resume(self, name: str) -> None:
        """Let a paused Job start another pod. Raises as ``pause``."""
        self._suspend(name, suspend=False, paused=None)

    def _suspend(self, name: str, *, suspend: bool, paused: str | None) -> None:
        fields = {"metadata": {"annotations": {PAUSED_ANNOTATION: paused}}, "spec": {"suspend": suspend}}
        try:
            self._store.put(self._client.patch(self._ref(name), fields, manager=_MANAGER))
        except KubeApiError as error:
            raise UnavailableError(f"Job {name} cannot be changed: {error.message}") from error

    def stop(self, name: str) -> None:
        """Stop a Job, wait until its pods have ended, and keep the Job; no error if it does not exist or has ended.

        Raises:
            UnavailableError: the API server cannot be reached, or a pod does not end.
        """
        try:
            if self._client.find(self._ref(name)) is None:
                return
            self._suspend(name, suspend=True, paused=None)
            self._end_pods(name)
        except KubeApiError as error:
            raise UnavailableError(f"Job {name} cannot be stopped: {error.message}") from error

    def delete(self, name: str) -> None:
        """Delete a Job with its pods and its Secret, and wait until they are gone; no error if it does not exist.

        Raises:
            UnavailableError: the API server cannot be reached, or a pod does not end.
        """
        ref, deadline = self._ref(name), time.monotonic() + _KILL_SECONDS
        try:
            job = self._client.find(ref)
            if job is not None:
                self._client.delete(ref, foreground=True)
                self._end_pods(name)
            while self._client.find(ref) is not None:
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"Job {name} is not deleted; what it owns may be on a node that is not ready"
                    )
                time.sleep(_POLL_SECONDS)
            self._client.delete(Ref(SECRET, name, self.namespace))  # the Job may not have owned it yet
        except KubeApiError as error:
            raise UnavailableError(f"Job {name} cannot be deleted: {error.message}") from error
        if job is not None:
            self._store.delete_finally(job)

    def _end_pods(self, name: str) -> None:
        """Give the pods of a Job a second to end, and wait until they have."""
        deadline, asked = time.monotonic() + _KILL_SECONDS, set[Ref]()
        while live := self._live_pods(name):
            for pod in live:
                if pod not in asked:
                    self._client.delete(pod, grace_seconds=1)
                    asked.add(pod)
            if time.monotonic() > deadline:
                raise UnavailableError(f"pod {live[0].name} does not end; its node may not be ready")
            time.sleep(_POLL_SECONDS)

    def _live_pods(self, name: str) -> list[Ref]:
        listed = self._client.list(POD, self.namespace, labels=f"{BATCH_JOB_LABEL}={name}")
        return [Ref.of(pod) for pod in listed.items if pod.get("status", {}).get("phase") not in _ENDED_PHASES]

    def _ref(self, name: str) -> Ref:
        return Ref(BATCH_JOB, name, self.namespace)

    def _ensure_synced(self) -> None:
        with self._lock:
            if not self._started:
                self._informer.start()
                self._started = True
        deadline = time.monotonic() + _SYNC_SECONDS
        while not all(status.synced for status in self._informer.status().values()):
            if time.monotonic() > deadline:
                errors = "; ".join(status.error for status in self._informer.status().values() if status.error)
                raise UnavailableError(f"the Jobs of namespace {self.namespace} cannot be listed: {errors}")
            self._synced.wait(0.1)
            self._synced.clear()


def _task_job(job: Object, pods: Sequence[Object]) -> TaskJob:
    return TaskJob(job, Pod.parse_all(sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))))
