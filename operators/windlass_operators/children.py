"""The children of a custom resource: whose an object is, whether it is as wished, and what is too much. Pure."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
"""How the API server writes a quantity of whole thousands."""
_UNOWNED = {NAMESPACE, COHORT}
"""Without an owner reference: a cohort is shared. A namespace's end is final, and ends all that runs in it: that is for
our finalizer alone to decide, and not for the garbage collector, which would obey ``--cascade=foreground`` at once."""
_GIVEN = {("ServiceAccount", "default")}
"""What Kubernetes makes in each namespace by itself: in a namespace of ours it is ours."""
_SHARED = {RAY_SERVICE}
"""Applied when the wish changes and not when the object does: Kueue writes the flavor's node labels and tolerations
into lists that are one field to the API server, and takes them out again."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The custom resource whose children are brought about."""

    kind: Kind
    name: str
    uid: str
    namespace: str | None = None
    generation: int = 0
    """Of the wish that its children follow from."""

    @property
    def adopts(self) -> str:
        """The value of the annotation by which somebody gives it an object."""
        return f"{self.kind.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A child that was not brought about, and why."""

    ref: Ref
    reason: str
    message: str


@dataclass(slots=True)
class Outcome:
    """What was done."""

    applied: list[Ref] = field(default_factory=list)
    deleted: list[Ref] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    asked: bool = False
    """The API server has said that the owner is still as it was read."""


def owned(wish: Object, owner: Owner) -> Object:
    """Return the wish with its owner and its digest on it."""
    metadata = dict(wish["metadata"])
    if Kind.of(wish) not in _UNOWNED:
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
    whole = wish | {"metadata": metadata}
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]
    metadata["annotations"] = metadata.get("annotations", {}) | {DIGEST_ANNOTATION: digest}
    return whole


def is_ours(live: Object, wish: Object, owner: Owner) -> bool:
    """Tell whether an object that exists is the child that is wished, and not somebody else's of the same name."""
    metadata, labels = live["metadata"], live["metadata"].get("labels", {})
    if metadata.get("annotations", {}).get(ADOPT_ANNOTATION) == owner.adopts:
        return True
    if (live["kind"], metadata["name"]) in _GIVEN and not _controllers(metadata):
        return True
    if _controllers(metadata) == [owner.uid]:
        return True  # whatever somebody made of its labels
    wanted = wish["metadata"]["labels"]
    marks = (MANAGED_BY, PROJECT_LABEL, POOL_LABEL, PROJECT_UID_LABEL)
    if any(labels.get(mark) != wanted.get(mark) for mark in marks):
        return False
    return not _controllers(metadata)


def drifted(live: Object, wish: Object) -> bool:
    """Tell whether a child must be applied: the wish has changed, or somebody has changed the child."""
    annotations = live["metadata"].get("annotations", {})
    if annotations.get(DIGEST_ANNOTATION) != wish["metadata"]["annotations"][DIGEST_ANNOTATION]:
        return True
    return Kind.of(wish) not in _SHARED and not _covers(live, wish)


def must_be_made_anew(live: Object, wish: Object) -> bool:
    """Tell whether a child cannot become what is wished: the queue of what Kueue admits stays as it was."""
    queues = [one["metadata"].get("labels", {}).get(QUEUE_LABEL) for one in (live, wish)]
    return Kind.of(wish) == RAY_SERVICE and queues[0] != queues[1]


def surplus(observed: Iterable[Object], wished: Iterable[Object], owner: Owner) -> list[Object]:
    """Return the children of the owner that nothing wishes any more; a namespace is never among them."""
    keep = {Ref.of(wish) for wish in wished}
    return [
        one
        for one in observed
        if Ref.of(one) not in keep
        and Kind.of(one) not in _UNOWNED
        and one["metadata"].get("labels", {}).get(MANAGED_BY) == OWNER
        and _controllers(one["metadata"]) == [owner.uid]
    ]


def _controllers(metadata: Mapping[str, Any]) -> list[str]:
    return [one["uid"] for one in metadata.get("ownerReferences", ()) if one.get("controller")]


def _covers(live: Any, wish: Any) -> bool:
    """Tell whether ``live`` holds all that ``wish`` says.

    A list must be the same to the last field: the API server fills in none in those that we write, and what somebody
    adds there, as a borrowing limit to a queue, means something.
    """
    if not wish and live is None:
        return True  # the API server drops what is empty
    if isinstance(wish, dict):
        return isinstance(live, dict) and all(_covers(live.get(name), value) for name, value in wish.items())
    return bool(live == wish or _plain(live) == _plain(wish))  # the second is seldom needed, and slow


def _plain(value: Any) -> Any:
    """Return a value in which a quantity is the same as a number and as a string, as it is to the API server."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    found = _THOUSANDS.fullmatch(str(value))
    return f"{found[1]}000" if found else str(value)


def whose(ref: Ref, live: Object, owner: Owner) -> str:
    """Say whose an object is that stands in our way, and what to do about it."""
    by = live["metadata"].get("labels", {}).get(MANAGED_BY)
    managers = sorted({one.get("manager", "") for one in live["metadata"].get("managedFields", ())})
    made = f"managed by {by}" if by and by != OWNER else f"written by {', '.join(managers)}" if managers else "not ours"
    if by == OWNER:
        made = "of another owner"
    return (
        f"{ref} exists and is {made}; delete it, or give it to us with the annotation {ADOPT_ANNOTATION}={owner.adopts}"
    )
