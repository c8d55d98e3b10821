"""One active replica: a Lease of coordination.k8s.io/v1, taken before anything is watched and renewed all the time.

Clocks of machines are never compared: who waits measures, by its own clock, how long the holder has not renewed. Who
holds begins no write after two thirds of the lease's time without a renewal, before anybody else can have it. What was
begun then may still land later, when connecting or the server takes long: whoever is active by then sees it as drift
and undoes it, and what is deleted or finalised names a uid or a version.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from windlass.kube.client import Client
from windlass.kube.errors import ConflictError
from windlass.kube.names import FIELD_MANAGER, labels
from windlass.kube.objects import Kind, Object, Ref

LEASE = Kind("coordination.k8s.io/v1", "Lease")
_TRUSTED = 2 / 3
"""Part of the lease's time for which the holder believes in it."""
ROUNDS = 7
"""Renewals that fit into one time of the lease."""

_log = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """Another replica may be active: nothing may be written any more."""


class Lease:
    """Takes and keeps one Lease. ``client`` must not be guarded by this very lease."""

    def __init__(
        self,
        client: Client,
        ref: Ref,
        identity: str,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._ref, self._identity, self._seconds, self._clock = client, ref, identity, seconds, clock
        self._renewed: float | None = None
        self._seen: tuple[str, float] | None = None

    @property
    def held(self) -> bool:
        """Tell whether this replica may write."""
        return self._renewed is not None and self._clock() < self._renewed + self._seconds * _TRUSTED

    def check(self) -> None:
        """Pass while the lease is held: the guard of every write.

        Raises:
            LeaseLostError: it is not, or this process has slept for too long to know.
        """
        if not self.held:
            raise LeaseLostError(f"{self._ref} is not held by {self._identity}")

    def acquire(self, stopping: threading.Event) -> bool:
        """Wait until the lease is ours; False when told to stop before."""
        waiting = False
        while not stopping.is_set():
            if self._try():
                return True
            if not waiting:
                _log.info("waiting for the lease", extra={"lease": str(self._ref), "identity": self._identity})
                waiting = True
            stopping.wait(self._seconds / ROUNDS)
        return False

    def keep(self, stopping: threading.Event, lost: Callable[[], None]) -> None:
        """Renew until told to stop; call ``lost`` once when the lease is lost."""
        while not stopping.wait(self._seconds / ROUNDS):
            if not self._try() and not self.held:
                lost()
                return

    def release(self) -> None:
        """Let the next replica begin at once."""
        if not self.held:
            return
        self._renewed = None
        found = self._client.find(self._ref)
        if found and found["spec"].get("holderIdentity") == self._identity:
            found["spec"]["holderIdentity"] = ""
            self._client.replace(found, manager=FIELD_MANAGER)

    def _try(self) -> bool:
        """Take or renew the lease; False when another holds it or the server cannot say."""
        began = self._clock()
        try:
            found = self._client.find(self._ref)
            if found is None:
                self._client.create(self._wish(None), manager=FIELD_MANAGER)
            elif self._is_free(found):
                self._client.replace(self._wish(found), manager=FIELD_MANAGER)
            else:
                self._renewed = None
                return False
        except ConflictError:
            return False  # another one was quicker: the next look shows who
        except Exception as error:  # noqa: BLE001 - a thread that ended here would leave nobody to say that it is lost
            _log.warning("the lease cannot be renewed", extra={"error": str(error)})
            return False
        # counted from before the request: the server may have written it at any time since
        self._renewed = began
        return True

    def _is_free(self, found: Object) -> bool:
        spec = found.get("spec", {})
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        version = found["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._clock())
        return self._clock() >= self._seen[1] + float(spec.get("leaseDurationSeconds") or self._seconds)

    def _wish(self, found: Object | None) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = (found or {}).get("spec", {})
        ours = before.get("holderIdentity") == self._identity
        metadata: Object = {"name": self._ref.name, "namespace": self._ref.namespace, "labels": labels()}
        if found:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, round(self._seconds)),
                "acquireTime": before.get("acquireTime", now) if ours else now,
                "renewTime": now,
                "leaseTransitions": (before.get("leaseTransitions") or 0) + (0 if ours or not found else 1),
            },
        }
