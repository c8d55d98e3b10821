"""Objects of Kubernetes as JSON, and how they are named."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

Object = dict[str, Any]
"""A Kubernetes object as JSON."""


class Kind(NamedTuple):
    """A kind of object, as ``Kind("batch/v1", "Job")``."""

    api_version: str
    kind: str

    def __str__(self) -> str:
        """Return it as people write it: ``Job.batch``."""
        group, _, version = self.api_version.rpartition("/")
        return f"{self.kind}.{group}" if group and version else self.kind

    @classmethod
    def of(cls, subject: Mapping[str, Any]) -> Self:
        """Return the kind of an object."""
        return cls(subject["apiVersion"], subject["kind"])


class Ref(NamedTuple):
    """One object's address."""

    kind: Kind
    name: str
    namespace: str | None = None

    def __str__(self) -> str:
        """Return it for messages: ``ClusterQueue.kueue.x-k8s.io search.a100``."""
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"

    @classmethod
    def of(cls, subject: Mapping[str, Any]) -> Self:
        """Return the address of an object."""
        metadata = subject["metadata"]
        return cls(Kind.of(subject), metadata["name"], metadata.get("namespace"))


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


class Listing(NamedTuple):
    """The objects of a list, and the version from which a watch goes on."""

    items: list[Object]
    resource_version: str
