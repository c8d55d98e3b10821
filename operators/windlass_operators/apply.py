"""Reconciles the children of a resource: server-side apply, and deletion of orphans."""

from collections.abc import Iterable, Sequence

from windlass.kube.cache.store import Store
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError, KubeConflictError
from windlass.kube.names import DIGEST_ANNOTATION, FIELD_MANAGER
from windlass.kube.objects import Object, Ref
from windlass_operators.children import (
    ApplyFailure,
    ApplyResult,
    Owner,
    describe_owner,
    has_drifted,
    is_owned,
    orphans,
    requires_recreate,
    with_owner,
)
from windlass_operators.kinds import NAMESPACE

_MAX_UNCHANGED = 200_000
"""Some 60 MB. Deleted projects leave entries behind."""


class ChildReconciler:
    """Applies and deletes children through one client, with one field manager."""

    def __init__(self, client: KubeClient, store: Store) -> None:
        self._client = client
        self._store = store
        self._unchanged: dict[Ref, tuple[str, str]] = {}
        """Digest and resourceVersion of children that were compared and need no change."""

    def reconcile(self, desired: Sequence[Object], observed: Iterable[Object], owner: Owner) -> ApplyResult:
        """Apply missing and drifted children in order, then delete orphans.

        If the namespace fails, the children after it are skipped: the existing namespace may belong to others.

        Raises:
            KubeUnavailableError: the API server cannot answer now; completed changes stay.
            KubeConflictError: a concurrent write, or the owner has changed; reconcile again.
        """
        result = ApplyResult()
        manifests = {Ref.of(child): with_owner(child, owner) for child in desired}
        for ref, manifest in manifests.items():
            try:
                failure = self._reconcile_child(ref, manifest, owner, result)
            except KubeApiError as error:
                if error.retryable or isinstance(error, KubeConflictError):
                    raise
                failure = ApplyFailure(ref, "ApplyFailed", error.message)
            if failure:
                result.failed.append(failure)
                if ref.kind == NAMESPACE:
                    return result
        self._delete_orphans(orphans(observed, manifests, owner), owner, result)
        return result

    def _reconcile_child(self, ref: Ref, manifest: Object, owner: Owner, result: ApplyResult) -> ApplyFailure | None:
        # an object missing in the store may exist: without our labels, or newer than the cache
        live = self._store.get(ref) or self._client.find(ref)
        if live is None:
            self._check_owner(owner, result)
            self._store.put(self._client.apply(manifest, manager=FIELD_MANAGER))
            result.applied.append(ref)
            return None
        if not is_owned(live, manifest, owner):
            return ApplyFailure(ref, "NotOwned", describe_owner(ref, live, owner))
        if live["metadata"].get("deletionTimestamp"):
            return ApplyFailure(ref, "Terminating", f"{ref} is being deleted and will be recreated")
        if requires_recreate(live, manifest):
            self._check_owner(owner, result)
            self._client.delete(ref, uid=live["metadata"]["uid"])
            result.deleted.append(ref)
            message = f"{ref} is being deleted to change its queue or image and will be recreated"
            return ApplyFailure(ref, "Terminating", message)
        if not self._has_drifted(ref, live, manifest):
            return None
        self._check_owner(owner, result)
        with_uid = manifest | {"metadata": manifest["metadata"] | {"uid": live["metadata"]["uid"]}}
        self._store.put(self._client.apply(with_uid, manager=FIELD_MANAGER, force=True))
        result.applied.append(ref)
        return None

    def _has_drifted(self, ref: Ref, live: Object, manifest: Object) -> bool:
        """Compare a child with its manifest, once per version of both."""
        versions = (manifest["metadata"]["annotations"][DIGEST_ANNOTATION], live["metadata"].get("resourceVersion", ""))
        if self._unchanged.get(ref) == versions:
            return False
        if has_drifted(live, manifest):
            return True
        if len(self._unchanged) >= _MAX_UNCHANGED:
            self._unchanged.clear()
        self._unchanged[ref] = versions
        return False

    def _delete_orphans(self, children: list[Object], owner: Owner, result: ApplyResult) -> None:
        for child in reversed(children):  # a LocalQueue before its ClusterQueue
            ref = Ref.of(child)
            if child["metadata"].get("deletionTimestamp"):
                continue
            self._check_owner(owner, result)
            try:
                self._client.delete(ref, uid=child["metadata"]["uid"])
            except KubeConflictError:
                continue  # another object has this name now: a watch event follows
            result.deleted.append(ref)

    def _check_owner(self, owner: Owner, result: ApplyResult) -> None:
        """Check, once before the first write, that the owner is unchanged: the cache may be stale."""
        if result.owner_checked:
            return
        ref = Ref(owner.kind, owner.name, owner.namespace)
        metadata = (self._client.find(ref) or {"metadata": {}})["metadata"]
        if (metadata.get("uid"), metadata.get("generation")) != (owner.uid, owner.generation):
            raise KubeConflictError(f"{ref} has changed since it was read")
        result.owner_checked = True
