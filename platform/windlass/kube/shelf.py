"""The objects of one kind, found by address, namespace, label or cohort without looking at all of them."""

from collections.abc import Iterator, Mapping

from windlass.kube.names import ENDPOINT_LABEL, POOL_LABEL, PROJECT_LABEL
from windlass.kube.objects import Object, Ref

NAMESPACE_MARK, COHORT_MARK = "metadata.namespace", "spec.cohort"
_MARKS = frozenset({PROJECT_LABEL, POOL_LABEL, ENDPOINT_LABEL, NAMESPACE_MARK, COHORT_MARK})


class Shelf:
    """Objects by address. It is changed through ``set`` and ``drop`` alone, by one thread at a time."""

    def __init__(self, objects: Mapping[Ref, Object] | None = None) -> None:
        self._objects: dict[Ref, Object] = {}
        self._marked: dict[tuple[str, str], dict[Ref, None]] = {}
        for ref, one in (objects or {}).items():
            self.set(ref, one)

    def __iter__(self) -> Iterator[Ref]:
        return iter(self._objects)

    def __contains__(self, ref: Ref) -> bool:
        return ref in self._objects

    def get(self, ref: Ref) -> Object | None:
        """Return an object, None when it is not there."""
        return self._objects.get(ref)

    def by_address(self) -> dict[Ref, Object]:
        """Return every object by its address."""
        return dict(self._objects)

    def all(self) -> list[Object]:
        """Return every object."""
        return list(self._objects.values())

    def marked(self, mark: str, value: str) -> list[Object]:
        """Return the objects with a label, of a namespace, or of a cohort."""
        if mark not in _MARKS:
            return [one for one in self._objects.values() if one["metadata"].get("labels", {}).get(mark) == value]
        return [self._objects[ref] for ref in self._marked.get((mark, value), ())]

    def set(self, ref: Ref, subject: Object) -> None:
        """Take an object over in place of what was known of it."""
        self.drop(ref)
        self._objects[ref] = subject
        for mark in _marks(subject):
            self._marked.setdefault(mark, {})[ref] = None

    def drop(self, ref: Ref) -> None:
        """Forget an object, if it is known."""
        if (before := self._objects.pop(ref, None)) is None:
            return
        for mark in _marks(before):
            self._marked[mark].pop(ref)
            if not self._marked[mark]:
                del self._marked[mark]


def _marks(subject: Object) -> Iterator[tuple[str, str]]:
    metadata, spec = subject["metadata"], subject.get("spec")
    for label, value in (metadata.get("labels") or {}).items():
        if label in _MARKS:
            yield label, value
    if namespace := metadata.get("namespace"):
        yield NAMESPACE_MARK, namespace
    cohort = spec.get("cohort") if isinstance(spec, dict) else None
    if isinstance(cohort, str):
        yield COHORT_MARK, cohort
