"""Kubernetes objects as JSON, their kinds and references."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

Object = dict[str, Any]
"""A Kubernetes object as JSON."""


class Kind(NamedTuple):
    """An apiVersion and kind, as ``Kind("batch/v1", "Job")``."""

    api_version: str
    kind: str

    def __str__(self) -> str:
        """Return ``KIND.GROUP``, as ``Job.batch``."""
        group, _, version = self.api_version.rpartition("/")
        return f"{self.kind}.{group}" if group and version else self.kind

    @classmethod
    def of(cls, subject: Mapping[str, Any]) -> Self:
        """Return the kind of an object."""
        return cls(subject["apiVersion"], subject["kind"])


class Ref(NamedTuple):
    """A reference to one object."""

    kind: Kind
    name: str
    namespace: str | None = None

    def __str__(self) -> str:
        """Return it for messages: ``ClusterQueue.kueue.x-k8s.io search.a100``."""
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"

    @classmethod
    def of(cls, subject: Mapping[str, Any]) -> Self:
        """Return the reference of an object."""
        metadata = subject["metadata"]
        return cls(Kind.of(subject), metadata["name"], metadata.get("namespace"))


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


class ObjectList(NamedTuple):
    """The objects of a list, and the resourceVersion from which to watch."""

    items: list[Object]
    resource_version: str


def condition_status(subject: Mapping[str, Any], kind: str) -> str:
    """Return the status of a condition of an object, ``Unknown`` if it is missing."""
    conditions = subject.get("status", {}).get("conditions", ())
    return str(next((item["status"] for item in conditions if item["type"] == kind), "Unknown"))
