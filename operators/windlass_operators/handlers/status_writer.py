"""Writes of all kinds: children, finalizers, status, Events."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from pydantic import ValidationError

from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeNotFoundError
from windlass.kube.names import FIELD_MANAGER, FINALIZER
from windlass.kube.objects import Kind, Object, Ref
from windlass.kube.resources import Condition, CustomResource
from windlass_operators import metrics
from windlass_operators.apply import ChildReconciler
from windlass_operators.children import ApplyResult, Owner
from windlass_operators.cluster_cache import ClusterCache
from windlass_operators.decide import READY, ConditionResult, conditions, events
from windlass_operators.event_recorder import EventRecorder
from windlass_operators.kinds import MODELS

RETRY_SECONDS = 10.0
"""A failed child may succeed later without an event: a namespace was deleted, a webhook is available again."""
_log = logging.getLogger(__name__)


class StatusWriter:
    """Writes the results of a reconciliation; unchanged results are not written."""

    def __init__(self, client: KubeClient, cache: ClusterCache, now: Callable[[], datetime]) -> None:
        self._client, self._cache, self.now = client, cache, now
        self._children, self._recorder = ChildReconciler(client, cache.store), EventRecorder(client, now)

    def reconcile_children(
        self, subject: CustomResource, desired: Sequence[Object], observed: Iterable[Object]
    ) -> ApplyResult:
        """Reconcile the children of a resource."""
        owner = owner_of(subject)
        result = self._children.reconcile(desired, observed, owner)
        for action in ("applied", "deleted", "failed"):
            metrics.CHILDREN.labels(action).inc(len(getattr(result, action)))
        if result.applied or result.deleted:
            applied, deleted = [str(ref) for ref in result.applied], [str(ref) for ref in result.deleted]
            context = {"owner": owner.adoption_value, "applied": applied, "deleted": deleted}
            _log.info("children changed", extra=context)
        return result

    def add_finalizer(self, subject: CustomResource) -> None:
        """Add our finalizer, so that the resource stays until its children are deleted."""
        if FINALIZER not in subject.metadata.finalizers:
            finalizers = [*subject.metadata.finalizers, FINALIZER]
            self._cache.record(self._patch_finalizers(owner_of(subject), finalizers, subject.metadata.resource_version))

    def remove_finalizer(self, owner: Owner, finalizers: Sequence[str], version: str) -> None:
        """Remove our finalizer, so that the API server deletes the resource."""
        try:
            self._patch_finalizers(owner, [name for name in finalizers if name != FINALIZER], version)
        except KubeNotFoundError:
            return

    def update_status(self, subject: CustomResource, before: Object, after: Object) -> None:
        """Write a status if it changed, and record Events for changed conditions.

        Raises:
            KubeConflictError: a concurrent write, or the name belongs to another object now; reconcile again.
        """
        if before == after:
            return
        known = [Condition.model_validate(item) for item in before.get("conditions", ())]
        self._apply_status(owner_of(subject), subject.metadata.namespace, known, after)

    def conditions(
        self, subject: CustomResource, before: Sequence[Condition], results: Mapping[str, ConditionResult]
    ) -> list[Object]:
        """Return results as the conditions of a status."""
        return [each.wire() for each in conditions(before, results, subject.metadata.generation, self.now())]

    def mark_malformed(self, raw: Object, result: ConditionResult) -> None:
        """Set the condition Ready of an object that our models reject; its children stay unchanged.

        Raises:
            KubeConflictError: as ``update_status``.
        """
        metadata = raw["metadata"]
        generation = int(metadata.get("generation", 0))
        known = _valid_conditions(raw)
        (ready,) = conditions(known, {READY: result}, generation, self.now())
        if [condition for condition in known if condition.type == READY] != [ready]:
            owner = Owner(Kind.of(raw), metadata["name"], metadata["uid"])
            rest = _own_status(raw)
            others = [condition.wire() for condition in known if rest and condition.type != READY]
            status = rest | {"observedGeneration": generation, "conditions": [*others, ready.wire()]}
            self._apply_status(owner, metadata.get("namespace"), known, status)

    def _apply_status(self, owner: Owner, namespace: str | None, known: Sequence[Condition], status: Object) -> None:
        kind = {"apiVersion": owner.kind.api_version, "kind": owner.kind.kind}
        identity = {"name": owner.name, "uid": owner.uid} | ({"namespace": namespace} if namespace else {})
        manifest = kind | {"metadata": identity, "status": status}
        self._cache.record(self._client.apply(manifest, manager=FIELD_MANAGER, force=True, subresource="status"))
        after = [Condition.model_validate(item) for item in status["conditions"]]
        self._recorder.record(kind | identity, events(known, after))

    def _patch_finalizers(self, owner: Owner, finalizers: list[str], version: str) -> Object:
        """Replace the finalizers in the version that was read: another one may have been added meanwhile."""
        fields = {"metadata": {"finalizers": finalizers, "resourceVersion": version}}
        return self._client.patch(Ref(owner.kind, owner.name, owner.namespace), fields, manager=FIELD_MANAGER)


def owner_of(subject: CustomResource) -> Owner:
    """Return a resource as the owner of its children."""
    [kind] = [kind for kind, model in MODELS.items() if isinstance(subject, model)]
    metadata = subject.metadata
    return Owner(kind, metadata.name, metadata.uid, metadata.namespace, metadata.generation)


def _own_status(raw: Object) -> Object:
    """Return the stored status, which an apply must repeat to keep."""
    status = raw.get("status")
    return status if isinstance(status, dict) else {}


def _valid_conditions(raw: Object) -> list[Condition]:
    """Return the valid conditions of an object."""
    valid = []
    status = raw.get("status")
    for item in status.get("conditions", ()) if isinstance(status, dict) else ():
        try:
            valid.append(Condition.model_validate(item))
        except ValidationError:
            continue
    return valid
