"""Brings the children of a resource to what is wished: applies on the server's side, prunes, refuses."""

from collections.abc import Iterable, Sequence

from windlass.kube.client import Client
from windlass.kube.errors import ClusterError, ConflictError
from windlass.kube.names import FIELD_MANAGER
from windlass.kube.objects import Object, Ref
from windlass.kube.store import Store
from windlass_operators.children import (
    Outcome,
    Owner,
    Refusal,
    drifted,
    is_ours,
    must_be_made_anew,
    owned,
    surplus,
    whose,
)
from windlass_operators.kinds import NAMESPACE


class Children:
    """Applies and prunes through one client, as the one field manager of the operators."""

    def __init__(self, client: Client, store: Store) -> None:
        self._client = client
        self._store = store

    def bring(self, wished: Sequence[Object], observed: Iterable[Object], owner: Owner) -> Outcome:
        """Apply what is missing or has drifted, in order, and then delete what is surplus.

        A namespace that is refused keeps all after it from being tried: it would be put into somebody else's.

        Raises:
            UnavailableError: the API server cannot answer now; what was done stays done.
            ConflictError: somebody wrote at the same time, or the owner is no longer as it was read: look again.
        """
        outcome = Outcome()
        whole = [owned(wish, owner) for wish in wished]
        for wish in whole:
            ref = Ref.of(wish)
            try:
                refusal = self._one(wish, owner, outcome)
            except ClusterError as error:
                if error.retryable or isinstance(error, ConflictError):
                    raise
                refusal = Refusal(ref, "Refused", error.message)
            if refusal:
                outcome.refused.append(refusal)
                if ref.kind == NAMESPACE:
                    return outcome
        self._prune(surplus(observed, whole, owner), owner, outcome)
        return outcome

    def _one(self, wish: Object, owner: Owner, outcome: Outcome) -> Refusal | None:
        ref = Ref.of(wish)
        # one that is not known may still exist: not ours, or newer than our knowledge
        live = self._store.get(ref) or self._client.find(ref)
        if live is None:
            self._ask(owner, outcome)
            self._store.put(self._client.apply(wish, manager=FIELD_MANAGER))
            outcome.applied.append(ref)
            return None
        if not is_ours(live, wish, owner):
            return Refusal(ref, "NotOurs", whose(ref, live, owner))
        if live["metadata"].get("deletionTimestamp"):
            return Refusal(ref, "Terminating", f"{ref} is being deleted; it is made again when it is gone")
        if must_be_made_anew(live, wish):
            self._ask(owner, outcome)
            self._client.delete(ref, uid=live["metadata"]["uid"])
            outcome.deleted.append(ref)
            return Refusal(
                ref, "Terminating", f"{ref} is deleted for its queue to change; it is made again when it is gone"
            )
        if not drifted(live, wish):
            return None
        self._ask(owner, outcome)
        exactly = wish | {"metadata": wish["metadata"] | {"uid": live["metadata"]["uid"]}}
        self._store.put(self._client.apply(exactly, manager=FIELD_MANAGER, force=True))
        outcome.applied.append(ref)
        return None

    def _prune(self, extra: list[Object], owner: Owner, outcome: Outcome) -> None:
        for one in reversed(extra):  # a queue of jobs before the quota behind it
            ref = Ref.of(one)
            if one["metadata"].get("deletionTimestamp"):
                continue
            self._ask(owner, outcome)
            try:
                self._client.delete(ref, uid=one["metadata"]["uid"])
            except ConflictError:
                continue  # another one took its name meanwhile: the watch will tell
            outcome.deleted.append(ref)

    def _ask(self, owner: Owner, outcome: Outcome) -> None:
        """Make sure, once before the first change, that the wish is not one that is over: a list may have been old."""
        if outcome.asked:
            return
        ref = Ref(owner.kind, owner.name, owner.namespace)
        metadata = (self._client.find(ref) or {"metadata": {}})["metadata"]
        if (metadata.get("uid"), metadata.get("generation")) != (owner.uid, owner.generation):
            raise ConflictError(f"{ref} is no longer as it was read")
        outcome.asked = True
