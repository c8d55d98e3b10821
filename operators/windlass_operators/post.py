"""Events about custom resources: what `kubectl describe` shows."""

import logging
import secrets
from collections.abc import Callable, Iterable
from datetime import datetime

from windlass.kube.client import Client
from windlass.kube.errors import ClusterError
from windlass.kube.names import FIELD_MANAGER
from windlass.kube.objects import Object
from windlass_operators.decide import Said

_CLUSTER_WIDE = "default"
"""Where Kubernetes keeps the Events of objects without a namespace."""
_MESSAGE = 1024
"""Characters that the API server takes in an Event's note."""
_log = logging.getLogger(__name__)


class Poster:
    """Posts Events; one that cannot be posted is logged, and fails nothing."""

    def __init__(self, client: Client, now: Callable[[], datetime]) -> None:
        self._client, self._now = client, now

    def post(self, about: Object, sayings: Iterable[Said]) -> None:
        """Post what is said about an object (an ObjectReference)."""
        for said in sayings:
            facts = {"kind": about["kind"], "object": about["name"], "reason": said.reason, "said": said.message}
            _log.info("said", extra=facts)
            try:
                self._client.create(self._event(about, said), manager=FIELD_MANAGER)
            except ClusterError as error:
                _log.warning("an Event was not posted", extra={"error": error.message})

    def _event(self, about: Object, said: Said) -> Object:
        space = about.get("namespace", _CLUSTER_WIDE)
        moment = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{about['name']}.{secrets.token_hex(8)}", "namespace": space},
            "eventTime": moment,
            "regarding": about,
            "type": said.type,
            "reason": said.reason[:128],
            "action": "Reconcile",
            "note": said.message[:_MESSAGE],
            "reportingController": "windlass.dev/operators",
            "reportingInstance": FIELD_MANAGER,
        }
