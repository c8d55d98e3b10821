"""What all kinds have in common: children, finalizers, status, Events."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from pydantic import ValidationError

from windlass.kube.client import Client
from windlass.kube.errors import NotFoundError
from windlass.kube.names import FIELD_MANAGER, FINALIZER
from windlass.kube.objects import Kind, Object, Ref
from windlass.kube.resources import Condition, Resource, condition
from windlass.kube.store import Store
from windlass_operators import metrics
from windlass_operators.apply import Children
from windlass_operators.children import Outcome, Owner
from windlass_operators.decide import READY, Verdict, events
from windlass_operators.kinds import ENDPOINT, MODELS
from windlass_operators.post import Poster

RETRY_SECONDS = 10.0
"""What others refuse may be allowed later without an event of ours: a namespace is gone, a webhook is up."""
_log = logging.getLogger(__name__)


class Writer:
    """Writes what a reconciliation has decided. What did not change is not written."""

    def __init__(self, client: Client, store: Store, now: Callable[[], datetime]) -> None:
        self._client, self._store, self.now = client, store, now
        self._children, self._poster = Children(client, store), Poster(client, now)

    def children(self, subject: Resource, wished: Sequence[Object], observed: Iterable[Object]) -> Outcome:
        """Bring the children of a resource to what is wished."""
        owner = owner_of(subject)
        outcome = self._children.bring(wished, observed, owner)
        for action in ("applied", "deleted", "refused"):
            metrics.CHANGES.labels(action).inc(len(getattr(outcome, action)))
        if outcome.applied or outcome.deleted:
            applied, deleted = [str(ref) for ref in outcome.applied], [str(ref) for ref in outcome.deleted]
            facts = {"owner": owner.adopts, "applied": applied, "deleted": deleted}
            _log.info("children changed", extra=facts)
        return outcome

    def hold(self, subject: Resource) -> None:
        """Make sure that the resource stays until what it stands for is gone."""
        if FINALIZER not in subject.metadata.finalizers:
            more = [*subject.metadata.finalizers, FINALIZER]
            self._store.put(self._finalizers(owner_of(subject), more, subject.metadata.resource_version))

    def let_go(self, owner: Owner, finalizers: Sequence[str], version: str) -> None:
        """Let the API server remove the resource."""
        try:
            self._finalizers(owner, [one for one in finalizers if one != FINALIZER], version)
        except NotFoundError:
            return

    def status(self, subject: Resource, before: Object, after: Object) -> None:
        """Write a status if it says something new, and post what is worth an Event.

        Raises:
            ConflictError: somebody wrote at the same time, or the name belongs to another object by now: look again.
        """
        if before == after:
            return
        known = [Condition.model_validate(one) for one in before.get("conditions", ())]
        self._say(owner_of(subject), subject.metadata.namespace, known, after)

    def verdicts(self, subject: Resource, before: Sequence[Condition], verdicts: Mapping[str, Verdict]) -> list[Object]:
        """Return conditions as they stand in a status."""
        return [
            _condition(before, kind, one, subject.metadata.generation, self.now()).wire()
            for kind, one in verdicts.items()
        ]

    def malformed(self, raw: Object, verdict: Verdict) -> None:
        """Say on an object that we cannot read what is wrong with it, and leave all that it owns as it is.

        Raises:
            ConflictError: as ``status``.
        """
        metadata = raw["metadata"]
        generation = int(metadata.get("generation", 0))
        known = _conditions(raw)
        said = _condition(known, READY, verdict, generation, self.now())
        if [one for one in known if one.type == READY] != [said]:
            owner = Owner(Kind.of(raw), metadata["name"], metadata["uid"])
            rest = _rest(raw)
            others = [one.wire() for one in known if rest and one.type != READY]
            status = rest | {"observedGeneration": generation, "conditions": [*others, said.wire()]}
            self._say(owner, metadata.get("namespace"), known, status)

    def _say(self, owner: Owner, namespace: str | None, known: Sequence[Condition], status: Object) -> None:
        kind = {"apiVersion": owner.kind.api_version, "kind": owner.kind.kind}
        address = {"name": owner.name, "uid": owner.uid} | ({"namespace": namespace} if namespace else {})
        wish = kind | {"metadata": address, "status": status}
        self._store.put(self._client.apply(wish, manager=FIELD_MANAGER, force=True, subresource="status"))
        after = [Condition.model_validate(one) for one in status["conditions"]]
        self._poster.post(kind | address, events(known, after))

    def _finalizers(self, owner: Owner, finalizers: list[str], version: str) -> Object:
        """Write the finalizers into the version that was read: others may have added one meanwhile."""
        fields = {"metadata": {"finalizers": finalizers, "resourceVersion": version}}
        return self._client.patch(Ref(owner.kind, owner.name, owner.namespace), fields, manager=FIELD_MANAGER)


def owner_of(subject: Resource) -> Owner:
    """Return a resource as the owner of its children."""
    [kind] = [kind for kind, model in MODELS.items() if isinstance(subject, model)]
    metadata = subject.metadata
    return Owner(kind, metadata.name, metadata.uid, metadata.namespace, metadata.generation)


def _condition(before: Sequence[Condition], kind: str, one: Verdict, generation: int, now: datetime) -> Condition:
    status, reason, message = one.status, one.reason, one.message
    return condition(before, kind, status=status, reason=reason, message=message, generation=generation, now=now)


def _rest(raw: Object) -> Object:
    """What an earlier status of ours said, which applying less would take away; an endpoint's rest is not ours."""
    status = raw.get("status")
    return status if isinstance(status, dict) and Kind.of(raw) != ENDPOINT else {}


def _conditions(raw: Object) -> list[Condition]:
    """The conditions of an object as far as they can be read."""
    found = []
    status = raw.get("status")
    for one in status.get("conditions", ()) if isinstance(status, dict) else ():
        try:
            found.append(Condition.model_validate(one))
        except ValidationError:
            continue
    return found
