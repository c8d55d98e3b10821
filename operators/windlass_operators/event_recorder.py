"""Records Events of custom resources, as shown by `kubectl describe`."""

import logging
import secrets
from collections.abc import Callable, Iterable
from datetime import datetime

from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError
from windlass.kube.names import FIELD_MANAGER
from windlass.kube.objects import Object
from windlass_operators.decide import EventMessage

_CLUSTER_SCOPED_NAMESPACE = "default"
"""The namespace for Events of cluster-scoped objects."""
_MAX_NOTE_LENGTH = 1024
"""The API server's limit for an Event's note, in characters."""
_log = logging.getLogger(__name__)


class EventRecorder:
    """Records Events; a failure is logged and does not fail the reconciliation."""

    def __init__(self, client: KubeClient, now: Callable[[], datetime]) -> None:
        self._client, self._now = client, now

    def record(self, regarding: Object, events: Iterable[EventMessage]) -> None:
        """Record Events regarding an object (an ObjectReference)."""
        for event in events:
            context = {
                "kind": regarding["kind"],
                "object": regarding["name"],
                "reason": event.reason,
                "note": event.message,
            }
            _log.info("event", extra=context)
            try:
                self._client.create(self._manifest(regarding, event), manager=FIELD_MANAGER)
            except KubeApiError as error:
                _log.warning("recording an Event failed", extra={"error": error.message})

    def _manifest(self, regarding: Object, event: EventMessage) -> Object:
        namespace = regarding.get("namespace", _CLUSTER_SCOPED_NAMESPACE)
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{regarding['name']}.{secrets.token_hex(8)}", "namespace": namespace},
            "eventTime": self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "regarding": regarding,
            "type": event.type,
            "reason": event.reason[:128],
            "action": "Reconcile",
            "note": event.message[:_MAX_NOTE_LENGTH],
            "reportingController": "windlass.dev/operators",
            "reportingInstance": FIELD_MANAGER,
        }
