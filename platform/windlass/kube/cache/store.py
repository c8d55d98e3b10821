"""In-memory cache of watched objects: readers use it instead of the API server.

A restarted watch can miss a deletion; the periodic list replaces the stored objects of a kind. Decisions that need the
current state read from the API server.
"""

import sys
import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from windlass.kube.cache.indexer import NAMESPACE_INDEX, Indexer
from windlass.kube.objects import Kind, Object, ObjectList, Ref

_MAX_TOMBSTONES = 10_000
"""Deletions that are stored, so that a list started before a deletion does not bring the object back."""


class Change(NamedTuple):
    """A change of one stored object: ``before`` is None for a new one, ``after`` for a deleted one."""

    ref: Ref
    before: Object | None
    after: Object | None


class Store:
    """Objects by kind and reference. Thread-safe; returned objects must not be modified.

    ``transform`` returns the part of an object to store, including the metadata's name, namespace, uid and
    resourceVersion; None to ignore the object.
    """

    def __init__(self, transform: Callable[[Object], Object | None]) -> None:
        self._transform = transform
        self._lock = threading.Lock()
        self._indexers: defaultdict[Kind, Indexer] = defaultdict(Indexer)
        self._tombstones: OrderedDict[str, int] = OrderedDict()

    def put(self, subject: Object) -> Change | None:
        """Store an object, unless a newer version is stored or it is known to be deleted.

        Return the change; None if nothing but the resourceVersion changed.
        """
        ref, after = Ref.of(subject), self._transform(subject)
        if after is None:
            return None
        with self._lock:
            indexer = self._indexers[ref.kind]
            before = indexer.get(ref)
            if self._is_deleted(after) or (before is not None and _version(before) > _version(after)):
                return None
            if before is not None and equal_except_version(before, after):
                indexer.replace_equal(ref, after)
                return None
            indexer.put(ref, after)
        return Change(ref, before, after)

    def delete(self, subject: Object) -> Change | None:
        """Remove an object; return None if it was not stored. A newer object of the same name stays.

        A watch with a label selector also sends DELETED for an object that loses the label; if it gets the label back,
        its resourceVersion is newer.
        """
        ref = Ref.of(subject)
        with self._lock:
            self._add_tombstone(_uid(subject), _version(subject))
            indexer = self._indexers[ref.kind]
            before = indexer.get(ref)
            if before is None or _uid(before) != _uid(subject) or not self._is_deleted(before):
                return None
            indexer.delete(ref)
        return Change(ref, before, None)

    def delete_finally(self, subject: Object) -> None:
        """Remove an object that this process has deleted from the API server.

        Events of changes before the deletion may still arrive, with a newer resourceVersion than ``subject``; no event
        stores this uid again.
        """
        ref = Ref.of(subject)
        with self._lock:
            self._add_tombstone(_uid(subject), sys.maxsize)
            indexer = self._indexers[ref.kind]
            before = indexer.get(ref)
            if before is not None and _uid(before) == _uid(subject):
                indexer.delete(ref)

    def replace(self, kind: Kind, listing: ObjectList) -> list[Change]:
        """Replace the objects of a kind with a list, and return the changes that no event had reported.

        A list without a resourceVersion belongs to a kind that is not served: all its objects are removed.
        """
        listed = {Ref.of(subject): self._transform(subject) for subject in listing.items}
        listed_at = _number(listing.resource_version)
        changes: list[Change] = []
        with self._lock:
            indexer = self._indexers[kind]
            for ref, after in listed.items():
                if after is None or self._is_deleted(after):
                    continue
                before = indexer.get(ref)
                if before is not None and _version(before) >= _version(after):
                    continue
                if before is not None and equal_except_version(before, after):
                    indexer.replace_equal(ref, after)
                    continue
                indexer.put(ref, after)
                changes.append(Change(ref, before, after))
            for ref, before in indexer.by_ref().items():
                is_newer = bool(listed_at) and _version(before) > listed_at
                after = listed.get(ref)
                if not is_newer and (after is None or self._is_deleted(after)):
                    indexer.delete(ref)
                    changes.append(Change(ref, before, None))
        return changes

    def revision(self, kind: Kind) -> int:
        """Return a number that grows with every change of an object of the kind."""
        with self._lock:
            return self._indexers[kind].revision

    def revisions(self, kind: Kind, index: str) -> Counter[str]:
        """Return, by value of an index, a number that grows with every change of an object with this value."""
        with self._lock:
            return self._indexers[kind].revisions(index)

    def get(self, ref: Ref) -> Object | None:
        """Return an object as last observed."""
        with self._lock:
            return self._indexers[ref.kind].get(ref)

    def all(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        """Return the objects of a kind, of one namespace or of all."""
        if namespace is not None:
            return self.by_index(kind, NAMESPACE_INDEX, namespace)
        with self._lock:
            return self._indexers[kind].all()

    def by_index(self, kind: Kind, index: str, value: str) -> list[Object]:
        """Return the objects of a kind with this value of a label, a namespace or a cohort."""
        with self._lock:
            return self._indexers[kind].by_index(index, value)

    def by_label(self, kind: Kind, label: str, value: str) -> list[Object]:
        """Return the objects of a kind with this value of a label."""
        return self.by_index(kind, label, value)

    def _is_deleted(self, subject: Object) -> bool:
        return _version(subject) <= self._tombstones.get(_uid(subject), -1)

    def _add_tombstone(self, uid: str, version: int) -> None:
        self._tombstones[uid] = max(version, self._tombstones.get(uid, -1))
        while len(self._tombstones) > _MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)


def equal_except_version(before: Object, after: Object) -> bool:
    """Return whether two versions of an object differ only in their resourceVersion."""
    return _without_version(before) == _without_version(after)


def _without_version(subject: Object) -> Object:
    metadata = {name: value for name, value in subject["metadata"].items() if name != "resourceVersion"}
    return subject | {"metadata": metadata}


def _uid(subject: Mapping[str, Any]) -> str:
    return str(subject["metadata"].get("uid", ""))


def _number(version: str) -> int:
    # Kubernetes 1.35 guarantees that resourceVersions are increasing numbers
    return int(version) if version.isdecimal() else 0


def _version(subject: Mapping[str, Any]) -> int:
    return _number(str(subject["metadata"].get("resourceVersion", "")))
