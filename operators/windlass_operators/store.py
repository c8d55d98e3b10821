"""What the watches have told, kept in memory: a reconciliation reads it instead of asking the API server.

A watch can lose a deletion when it is broken and begun again: lists, made from time to time, replace what is kept of a
kind. The end of a project or pool is not decided from here, but asked of the API server; what is deleted by this
knowledge, as surplus children and empty cohorts, can be made again.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from windlass.kube.objects import Kind, Listing, Object, Ref
from windlass_operators.kinds import NODE, WORKLOAD
from windlass_operators.shelf import NAMESPACE_MARK, Shelf

_REMEMBERED = 10_000
"""Deletions that are kept in mind, so that a list begun before one does not bring its object back."""


class Store:
    """Objects by kind and address. Threads may share it; what it hands out is nobody's to change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[Kind, Shelf] = {}
        self._gone: OrderedDict[str, int] = OrderedDict()

    def put(self, subject: Object) -> None:
        """Take an object over, unless a newer version of it is known or it is known to be gone."""
        ref, small = Ref.of(subject), slim(subject)
        with self._lock:
            kept = self._objects.setdefault(ref.kind, Shelf())
            if not self._is_gone(small) and _version(kept.get(ref) or small) <= _version(small):
                kept.set(ref, small)

    def remove(self, subject: Object) -> None:
        """Forget an object; one of the same name that was made since stays.

        Watches by label say DELETED, too, of what has lost its label; when it gets it back, its version is a newer one.
        """
        ref = Ref.of(subject)
        with self._lock:
            self._forget(_uid(subject), _version(subject))
            kept = self._objects.get(ref.kind, Shelf())
            known = kept.get(ref)
            if known and _uid(known) == _uid(subject) and self._is_gone(known):
                kept.drop(ref)

    def replace(self, kind: Kind, listing: Listing) -> list[Ref]:
        """Take over what a list says of a kind, and return what had changed without an event's saying so.

        A list without a version is that of a kind which is not served: nothing of it is left.
        """
        with self._lock:
            before = {Ref.of(one): one for one in self._objects.get(kind, Shelf()).all()}
            listed = {Ref.of(one): slim(one) for one in listing.items if not self._is_gone(one)}
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


def _uid(subject: Mapping[str, Any]) -> str:
    return str(subject["metadata"].get("uid", ""))


def _number(version: str) -> int:
    # Kubernetes 1.35 made it part of the API that versions are numbers that grow
    return int(version) if version.isdecimal() else 0


def _version(subject: Mapping[str, Any]) -> int:
    return _number(str(subject["metadata"].get("resourceVersion", "")))


def _node(subject: Object) -> Object:
    status, spec = subject.get("status", {}), subject.get("spec", {})
    ready = [one for one in status.get("conditions", ()) if one["type"] == "Ready"]
    return {
        "spec": {"unschedulable": spec.get("unschedulable", False)},
        "status": {"capacity": status.get("capacity", {}), "allocatable": status.get("allocatable", {})}
        | {"conditions": ready},
    }


def _workload(subject: Object) -> Object:
    spec, status = subject.get("spec", {}), subject.get("status", {})
    spec = {name: spec[name] for name in ("queueName", "priority", "active") if name in spec}
    kept = ("admission", "conditions", "resourceRequests")
    return {"spec": spec, "status": {name: status[name] for name in kept if name in status}}


_SLIM: Mapping[Kind, Callable[[Object], Object]] = {NODE: _node, WORKLOAD: _workload}


def slim(subject: Object) -> Object:
    """Return what the operators need of an object: nodes and workloads are many, and mostly of no interest."""
    metadata = {name: value for name, value in subject["metadata"].items() if name != "managedFields"}
    whole: Object = {"apiVersion": subject["apiVersion"], "kind": subject["kind"], "metadata": metadata}
    if reduce := _SLIM.get(Kind.of(subject)):
        metadata.pop("annotations", None)
        return whole | reduce(subject)
    return {name: value for name, value in subject.items() if name != "metadata"} | whole
