"""The children of a custom resource: ownership, drift and orphans; pure."""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from windlass.kube.names import (
    ADOPT_ANNOTATION,
    DIGEST_ANNOTATION,
    MANAGED_BY,
    OWNER,
    POOL_LABEL,
    PROJECT_LABEL,
    PROJECT_UID_LABEL,
    QUEUE_LABEL,
)
from windlass.kube.objects import Kind, Object, Ref
from windlass_operators.kinds import COHORT, NAMESPACE, RAY_SERVICE

_THOUSANDS = re.compile(r"([0-9]+)k")
"""A quantity in thousands, as the API server normalizes it."""
_WITHOUT_OWNER_REFERENCE = {NAMESPACE, COHORT}
"""A cohort is shared. Deleting a namespace ends all that runs in it, so only our finalizer may do it, not the garbage
collector, which would follow ``--cascade=foreground`` at once."""
_PRECREATED = {("ServiceAccount", "default")}
"""Objects that Kubernetes creates in each namespace: adopted in the namespaces of projects."""
_DIGEST_ONLY = {RAY_SERVICE}
"""Applied when the manifest changes, not when the object does: Kueue adds the flavor's node labels and tolerations to
atomic lists, and removes them again."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The custom resource that owns the children."""

    kind: Kind
    name: str
    uid: str
    namespace: str | None = None
    generation: int = 0
    """The generation from which the children are rendered."""

    @property
    def adoption_value(self) -> str:
        """The value of the adopt annotation for this owner."""
        return f"{self.kind.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class ApplyFailure:
    """A child that could not be applied."""

    ref: Ref
    reason: str
    message: str


@dataclass(slots=True)
class ApplyResult:
    """The changes of one reconciliation."""

    applied: list[Ref] = field(default_factory=list)
    deleted: list[Ref] = field(default_factory=list)
    failed: list[ApplyFailure] = field(default_factory=list)
    owner_checked: bool = False
    """Whether the API server confirmed that the owner is unchanged."""


def with_owner(manifest: Object, owner: Owner) -> Object:
    """Return the manifest with its owner reference and digest annotation."""
    metadata = dict(manifest["metadata"])
    if Kind.of(manifest) not in _WITHOUT_OWNER_REFERENCE:
        metadata["ownerReferences"] = [
            {
                "apiVersion": owner.kind.api_version,
                "kind": owner.kind.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    owned = manifest | {"metadata": metadata}
    digest = hashlib.sha256(orjson.dumps(owned, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
    metadata["annotations"] = metadata.get("annotations", {}) | {DIGEST_ANNOTATION: digest}
    return owned


def is_owned(live: Object, manifest: Object, owner: Owner) -> bool:
    """Return whether an existing object is the owner's child, not another object of the same name."""
    metadata, labels = live["metadata"], live["metadata"].get("labels", {})
    if metadata.get("annotations", {}).get(ADOPT_ANNOTATION) == owner.adoption_value:
        return True
    if (live["kind"], metadata["name"]) in _PRECREATED and not _controllers(metadata):
        return True
    if _controllers(metadata) == [owner.uid]:
        return True  # even if its labels were changed
    desired_labels = manifest["metadata"]["labels"]
    names = (MANAGED_BY, PROJECT_LABEL, POOL_LABEL, PROJECT_UID_LABEL)
    if any(labels.get(name) != desired_labels.get(name) for name in names):
        return False
    return not _controllers(metadata)


def has_drifted(live: Object, manifest: Object) -> bool:
    """Return whether a child must be applied: the manifest or the object has changed."""
    annotations = live["metadata"].get("annotations", {})
    if annotations.get(DIGEST_ANNOTATION) != manifest["metadata"]["annotations"][DIGEST_ANNOTATION]:
        return True
    return Kind.of(manifest) not in _DIGEST_ONLY and not _includes(live, manifest)


def requires_recreate(live: Object, manifest: Object) -> bool:
    """Return whether a child cannot be updated in place.

    The queue of an admitted object is immutable.
    """
    if Kind.of(manifest) != RAY_SERVICE:
        return False
    before, after = (subject["metadata"].get("labels", {}).get(QUEUE_LABEL) for subject in (live, manifest))
    return bool(before != after)


def orphans(observed: Iterable[Object], desired: Collection[Ref], owner: Owner) -> list[Object]:
    """Return the owner's children that are not desired any more; never a namespace."""
    return [
        child
        for child in observed
        if Ref.of(child) not in desired
        and Kind.of(child) not in _WITHOUT_OWNER_REFERENCE
        and child["metadata"].get("labels", {}).get(MANAGED_BY) == OWNER
        and _controllers(child["metadata"]) == [owner.uid]
    ]


def _controllers(metadata: Mapping[str, Any]) -> list[str]:
    return [owner["uid"] for owner in metadata.get("ownerReferences", ()) if owner.get("controller")]


def _includes(live: Any, desired: Any) -> bool:
    """Return whether ``live`` includes all fields of ``desired``.

    Lists must be equal: the API server sets no defaults in the lists that we write, and added fields, as a borrowing
    limit of a queue, have effects.
    """
    if not desired and live is None:
        return True  # the API server drops empty values
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(_includes(live.get(name), value) for name, value in desired.items())
    return bool(live == desired or _normalized(live) == _normalized(desired))  # the second is slow and rarely needed


def _normalized(value: Any) -> Any:
    """Normalize quantities: numbers and strings are equal, as for the API server."""
    if isinstance(value, dict):
        return {name: _normalized(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_normalized(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    match = _THOUSANDS.fullmatch(str(value))
    return f"{match[1]}000" if match else str(value)


def describe_owner(ref: Ref, live: Object, owner: Owner) -> str:
    """Describe who owns a conflicting object, and how to resolve the conflict."""
    manager = live["metadata"].get("labels", {}).get(MANAGED_BY)
    field_managers = sorted({entry.get("manager", "") for entry in live["metadata"].get("managedFields", ())})
    if manager == OWNER:
        owned_by = "belongs to another owner"
    elif manager:
        owned_by = f"is managed by {manager}"
    elif field_managers:
        owned_by = f"is managed by {', '.join(field_managers)}"
    else:
        owned_by = "is not managed by Windlass"
    adopt = f"{ADOPT_ANNOTATION}={owner.adoption_value}"
    return f"{ref} exists and {owned_by}; delete it, or let Windlass adopt it with the annotation {adopt}"
