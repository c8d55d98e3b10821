"""What the watches have told, kept in memory: readers look here instead of asking the API server.

A watch can lose a deletion when it is broken and begun again: lists, made from time to time, replace what is kept of a
kind. What must be certain is asked of the API server all the same.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from windlass.kube.objects import Kind, Listing, Object, Ref
from windlass.kube.shelf import NAMESPACE_MARK, Shelf

_REMEMBERED = 10_000
"""Deletions that are kept in mind, so that a list begun before one does not bring its object back."""


class Store:
    """Objects by kind and address. Threads may share it; what it hands out is nobody's to change.

    ``slim`` returns what is kept of an object, with its metadata's name, namespace, uid and resourceVersion; None of
    one that is of no interest.
    """

    def __init__(self, slim: Callable[[Object], Object | None]) -> None:
        self._slim = slim
        self._lock = threading.Lock()
        self._objects: dict[Kind, Shelf] = {}
        self._gone: OrderedDict[str, int] = OrderedDict()

    def put(self, subject: Object) -> bool:
        """Take an object over, unless a newer version of it is known or it is known to be gone.

        Return whether that is news: whether more than its version differs from what was known.
        """
        ref, small = Ref.of(subject), self._slim(subject)
        if small is None:
            return False
        with self._lock:
            kept = self._objects.setdefault(ref.kind, Shelf())
            before = kept.get(ref)
            if self._is_gone(small) or (before is not None and _version(before) > _version(small)):
                return False
            kept.set(ref, small)
        return before is None or not same(before, small)

    def remove(self, subject: Object) -> bool:
        """Forget an object, and return whether it was known; one of the same name that was made since stays.

        Watches by label say DELETED, too, of what has lost its label; when it gets it back, its version is a newer one.
        """
        ref = Ref.of(subject)
        with self._lock:
            self._forget(_uid(subject), _version(subject))
            kept = self._objects.get(ref.kind, Shelf())
            before = kept.get(ref)
            known = before is not None and _uid(before) == _uid(subject) and self._is_gone(before)
            if known:
                kept.drop(ref)
        return known

    def replace(self, kind: Kind, listing: Listing) -> list[Ref]:
        """Take over what a list says of a kind, and return what had changed without an event's saying so.

        A list without a version is that of a kind which is not served: nothing of it is left.
        """
        small = {Ref.of(one): self._slim(one) for one in listing.items}
        with self._lock:
            before = self._objects.get(kind, Shelf()).by_address()
            listed = {ref: one for ref, one in small.items() if one is not None and not self._is_gone(one)}
            read = _number(listing.resource_version)
            now = listed | {ref: kept for ref, kept in before.items() if read and _version(kept) > read}
            self._objects[kind] = Shelf(now)
            changed = [ref for ref in now if ref not in before or _version(before[ref]) < _version(now[ref])]
            return changed + [ref for ref in before if ref not in now]

    def get(self, ref: Ref) -> Object | None:
        """Return an object as it was last seen."""
        with self._lock:
            return self._objects.get(ref.kind, Shelf()).get(ref)

    def all(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        """Return the objects of a kind, of one namespace or of all."""
        if namespace is not None:
            return self.marked(kind, NAMESPACE_MARK, namespace)
        with self._lock:
            return self._objects.get(kind, Shelf()).all()

    def marked(self, kind: Kind, mark: str, value: str) -> list[Object]:
        """Return the objects of a kind that carry a label, or are of a namespace or a cohort."""
        with self._lock:
            return self._objects.get(kind, Shelf()).marked(mark, value)

    def labelled(self, kind: Kind, label: str, value: str) -> list[Object]:
        """Return the objects of a kind that carry a label."""
        return self.marked(kind, label, value)

    def _is_gone(self, subject: Object) -> bool:
        return _version(subject) <= self._gone.get(_uid(subject), -1)

    def _forget(self, uid: str, version: int) -> None:
        self._gone[uid] = max(version, self._gone.get(uid, -1))
        while len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)


def same(before: Object, after: Object) -> bool:
    """Tell whether two versions of an object differ in nothing but the version."""
    return _without_version(before) == _without_version(after)


def without_managed_fields(subject: Object) -> Object:
    """Return an object without the account of who owns its fields, which is often longer than the fields."""
    metadata = {name: value for name, value in subject["metadata"].items() if name != "managedFields"}
    return subject | {"metadata": metadata}


def _without_version(subject: Object) -> Object:
    metadata = {name: value for name, value in subject["metadata"].items() if name != "resourceVersion"}
    return subject | {"metadata": metadata}


def _uid(subject: Mapping[str, Any]) -> str:
    return str(subject["metadata"].get("uid", ""))


def _number(version: str) -> int:
    # Kubernetes 1.35 made it part of the API that versions are numbers that grow
    return int(version) if version.isdecimal() else 0


def _version(subject: Mapping[str, Any]) -> int:
    return _number(str(subject["metadata"].get("resourceVersion", "")))
