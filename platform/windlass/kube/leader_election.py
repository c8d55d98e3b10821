"""Leader election with a Lease of coordination.k8s.io/v1: acquired before any watch starts, renewed continuously.

A write that the leader started before it lost the lease may still arrive later: the next leader sees it as drift and
reverts it, and deletions and finalizer updates name a uid or resourceVersion.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from windlass.kit.boot_time import boot_seconds
from windlass.kit.lease import LeaseTimer
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeConflictError
from windlass.kube.names import FIELD_MANAGER, labels
from windlass.kube.objects import Kind, Object, Ref
from windlass.ports.leadership import NotLeaderError

LEASE = Kind("coordination.k8s.io/v1", "Lease")
RENEWALS_PER_LEASE = 7
"""Renewal attempts per lease duration."""

_log = logging.getLogger(__name__)


class LeaderLease:
    """Implements ``windlass.ports.leadership.LeaderElector``. ``client`` must not be guarded by this lease."""

    def __init__(
        self,
        client: KubeClient,
        ref: Ref,
        identity: str,
        seconds: float,
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        self._client, self._ref, self._identity, self._seconds = client, ref, identity, seconds
        self._timer = LeaseTimer(seconds, clock)

    @property
    def is_leader(self) -> bool:
        """Whether this replica may write."""
        return self._timer.valid

    def ensure_leader(self) -> None:
        """Check leadership; the guard of every write.

        Raises:
            NotLeaderError: the lease is not held, or was not renewed in time.
        """
        if not self.is_leader:
            raise NotLeaderError(f"{self._ref} is not held by {self._identity}")

    def acquire(self, stopping: threading.Event) -> bool:
        """Wait until the lease is acquired; False if stopped before."""
        waiting = False
        while not stopping.is_set():
            if self.try_acquire_or_renew():
                return True
            if not waiting:
                _log.info("waiting for the lease", extra={"lease": str(self._ref), "identity": self._identity})
                waiting = True
            stopping.wait(self._seconds / RENEWALS_PER_LEASE)
        return False

    def renew(self, stopping: threading.Event, on_lost: Callable[[], None]) -> None:
        """Renew until stopped; call ``on_lost`` once if the lease is lost."""
        while not stopping.wait(self._seconds / RENEWALS_PER_LEASE):
            if not self.try_acquire_or_renew() and not self.is_leader:
                on_lost()
                return

    def release(self) -> None:
        """Release the lease, so that the next replica acquires it at once."""
        if not self.is_leader:
            return
        self._timer.lost()
        lease = self._client.find(self._ref)
        if lease and lease["spec"].get("holderIdentity") == self._identity:
            lease["spec"]["holderIdentity"] = ""
            self._client.replace(lease, manager=FIELD_MANAGER)

    def try_acquire_or_renew(self) -> bool:
        """Acquire or renew the lease; False if another replica holds it or the request failed."""
        started = self._timer.now()
        try:
            lease = self._client.find(self._ref)
            if lease is None:
                self._client.create(self._desired_lease(None), manager=FIELD_MANAGER)
            elif self._is_available(lease):
                self._client.replace(self._desired_lease(lease), manager=FIELD_MANAGER)
            else:
                self._timer.lost()
                return False
        except KubeConflictError:
            return False  # another replica was faster
        except Exception as error:  # noqa: BLE001 - if this thread ended, the loss would not be detected
            _log.warning("renewing the lease failed", extra={"error": str(error)})
            return False
        self._timer.renewed(started)
        return True

    def _is_available(self, lease: Object) -> bool:
        spec = lease.get("spec", {})
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        version = lease["metadata"]["resourceVersion"]
        return self._timer.has_expired(version, float(spec.get("leaseDurationSeconds") or self._seconds))

    def _desired_lease(self, lease: Object | None) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = (lease or {}).get("spec", {})
        ours = before.get("holderIdentity") == self._identity
        metadata: Object = {"name": self._ref.name, "namespace": self._ref.namespace, "labels": labels()}
        if lease:
            metadata["resourceVersion"] = lease["metadata"]["resourceVersion"]
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, round(self._seconds)),
                "acquireTime": before.get("acquireTime", now) if ours else now,
                "renewTime": now,
                "leaseTransitions": (before.get("leaseTransitions") or 0) + (0 if ours or not lease else 1),
            },
        }
