"""The objects of one kind, indexed by reference, namespace, label and cohort."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from windlass.kube.names import BATCH_JOB_LABEL, ENDPOINT_LABEL, POOL_LABEL, PROJECT_LABEL
from windlass.kube.objects import Object, Ref

NAMESPACE_INDEX, COHORT_INDEX = "metadata.namespace", "spec.cohort"
_INDEXES = frozenset({PROJECT_LABEL, POOL_LABEL, ENDPOINT_LABEL, BATCH_JOB_LABEL, NAMESPACE_INDEX, COHORT_INDEX})


class Indexer:
    """Objects by reference. Modified only through its methods, by one thread at a time."""

    def __init__(self) -> None:
        self._objects: dict[Ref, Object] = {}
        self._refs: dict[tuple[str, str], dict[Ref, None]] = {}
        self._revisions: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.revision = 0
        """How often any object of the kind changed."""

    def __iter__(self) -> Iterator[Ref]:
        return iter(self._objects)

    def __contains__(self, ref: Ref) -> bool:
        return ref in self._objects

    def get(self, ref: Ref) -> Object | None:
        """Return an object, None if it is not stored."""
        return self._objects.get(ref)

    def by_ref(self) -> dict[Ref, Object]:
        """Return all objects by reference."""
        return dict(self._objects)

    def all(self) -> list[Object]:
        """Return all objects."""
        return list(self._objects.values())

    def by_index(self, index: str, value: str) -> list[Object]:
        """Return the objects with this value of a label, ``NAMESPACE_INDEX`` or ``COHORT_INDEX``."""
        if index not in _INDEXES:
            return [
                subject
                for subject in self._objects.values()
                if subject["metadata"].get("labels", {}).get(index) == value
            ]
        return [self._objects[ref] for ref in self._refs.get((index, value), ())]

    def put(self, ref: Ref, subject: Object) -> None:
        """Add or replace an object."""
        self.delete(ref)
        self._objects[ref] = subject
        self.revision += 1
        for index, value in _index_keys(subject):
            self._refs.setdefault((index, value), {})[ref] = None
            self._revisions[index][value] += 1

    def replace_equal(self, ref: Ref, subject: Object) -> None:
        """Replace an object by a version with the same content, which is no change."""
        self._objects[ref] = subject

    def revisions(self, index: str) -> Counter[str]:
        """Return, by value of an index, how often an object with this value changed."""
        return self._revisions[index].copy()

    def delete(self, ref: Ref) -> None:
        """Remove an object, if it is stored."""
        if (before := self._objects.pop(ref, None)) is None:
            return
        self.revision += 1
        for key in _index_keys(before):
            self._revisions[key[0]][key[1]] += 1
            self._refs[key].pop(ref)
            if not self._refs[key]:
                del self._refs[key]


def _index_keys(subject: Object) -> Iterator[tuple[str, str]]:
    metadata, spec = subject["metadata"], subject.get("spec")
    for label, value in (metadata.get("labels") or {}).items():
        if label in _INDEXES:
            yield label, value
    if namespace := metadata.get("namespace"):
        yield NAMESPACE_INDEX, namespace
    cohort = spec.get("cohort") if isinstance(spec, dict) else None
    if isinstance(cohort, str):
        yield COHORT_INDEX, cohort
