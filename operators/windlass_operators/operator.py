"""Connects the informers and the work queue: changes of the cache enqueue keys, the queue reconciles them."""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from windlass.kit.circuit_breaker import CircuitBreaker
from windlass.kube.cache.informer import InformerHandlers, SharedInformer, WatchTarget, WatchTimings
from windlass.kube.cache.store import Change
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError, KubeUnavailableError
from windlass.kube.names import MANAGED_BY, OWNER
from windlass_operators import metrics
from windlass_operators.cluster_cache import ClusterCache
from windlass_operators.handlers import Reconciler
from windlass_operators.kinds import CHILDREN, COHORT, MODELS, POOL, PROJECT, WATCHED, WORKLOAD
from windlass_operators.work_queue import Key, WorkQueue

_OWN_LABELS = f"{MANAGED_BY}={OWNER}"
WATCH_TARGETS = tuple(WatchTarget(kind, _OWN_LABELS if kind in CHILDREN else "") for kind in WATCHED)
_MIN_INTERVAL = 0.2
"""Seconds between two reconciliations of a key: a burst of changes causes at most two."""
_SYNC_POLL_SECONDS = 0.1
_UNSERVED_RETRY_SECONDS = 10.0
_log = logging.getLogger(__name__)


class Operator:
    """Cache, queue and reconciliations of the leader."""

    def __init__(
        self,
        watch_client: KubeClient,
        cache: ClusterCache,
        reconciler: Reconciler,
        *,
        resync_seconds: float,
        usage_seconds: float,
        workers: int,
        heartbeat: Callable[[], None],
        circuit_breaker: CircuitBreaker,
    ) -> None:
        """``watch_client`` only watches, so that its responses do not close the circuit breaker of the writes.

        ``usage_seconds``: delay of a reconciliation that only changed usage causes, so that it covers all changes
        of that time.
        """
        self._cache, self._reconciler = cache, reconciler
        self._resync_seconds, self._usage_seconds = resync_seconds, usage_seconds
        self._circuit_breaker = circuit_breaker
        self._heartbeat = heartbeat
        self._synced = False
        self._next_resync = 0.0
        self._work_queue = WorkQueue(self._work, self._failed, workers, self._beat)
        handlers = InformerHandlers(self._changed, on_missed=metrics.MISSED_EVENTS.inc)
        timings = WatchTimings(
            resync=resync_seconds,
            # a silent watch must not outlast the resync
            idle_timeout=min(WatchTimings().idle_timeout, 1.2 * resync_seconds),
            unserved_retry=_UNSERVED_RETRY_SECONDS,
        )
        self._informer = SharedInformer(watch_client, cache.store, WATCH_TARGETS, handlers, timings)
        cache.subscribe(self._written, self._usage_changed)

    def run(self, stopping: threading.Event) -> None:
        """Fill the cache, then reconcile until ``stopping`` is set.

        Raises:
            RuntimeError: a worker thread ended, which is a defect.
        """
        self._informer.start()
        try:
            while not all(status.synced for status in self._informer.status().values()):
                if stopping.wait(_SYNC_POLL_SECONDS):
                    return
            self._synced = True
            self._resync()
            self._heartbeat()
            self._work_queue.run(stopping)
        finally:
            self._informer.stop()

    def _beat(self) -> None:
        self._heartbeat()
        if time.monotonic() >= self._next_resync:
            self._resync()

    def _resync(self) -> None:
        """Enqueue all resources: some of what they depend on is not watched."""
        self._next_resync = time.monotonic() + self._resync_seconds
        for kind in (*MODELS, COHORT):
            for subject in self._cache.store.all(kind):
                metadata = subject["metadata"]
                self._work_queue.add(Key(kind, metadata["name"], metadata.get("namespace")))

    def _changed(self, change: Change) -> None:
        """Enqueue the keys that a watched change affects; before the first sync there is nothing to reconcile with."""
        if not self._synced:
            return
        for key in self._cache.affected_keys(change):
            # sums over many objects, which change often
            if change.ref.kind == WORKLOAD or (change.ref.kind == PROJECT and key.kind == POOL):
                self._work_queue.add(key, self._usage_seconds)
            else:
                self._work_queue.enqueue(key, _MIN_INTERVAL)

    def _written(self, change: Change) -> None:
        """Propagate what the response to one of our writes contains in addition, such as a new spec.

        The watch will report the same version, which is no change any more. The key itself was just reconciled.
        """
        if self._synced and self._cache.is_foreign(change):
            self._changed(change)

    def _usage_changed(self, projects: Iterable[str]) -> None:
        for key in self._cache.usage_keys(projects):
            self._work_queue.add(key, self._usage_seconds)

    def _work(self, key: Key) -> float | None:
        started = time.perf_counter()
        try:
            requeue_after = self._reconciler.reconcile(key)
        finally:
            metrics.SECONDS.labels(key.kind.kind).observe(time.perf_counter() - started)
        metrics.RECONCILIATIONS.labels(key.kind.kind, "ok").inc()
        return requeue_after

    def _failed(self, key: Key, error: Exception) -> float | None:
        expected = isinstance(error, KubeApiError)
        metrics.RECONCILIATIONS.labels(key.kind.kind, "failed" if expected else "crashed").inc()
        context = {"kind": key.kind.kind, "object": key.name, "error": str(error)}
        if expected:
            _log.warning("reconciliation failed and will be retried", extra=context)
        else:
            _log.error("reconciliation crashed and will be retried", exc_info=error, extra=context)
        if not isinstance(error, KubeUnavailableError):
            return None
        self._work_queue.pause(self._circuit_breaker.record_failure(key, error.retry_after))
        return error.retry_after
