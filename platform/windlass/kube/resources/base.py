"""What all kinds share: metadata, conditions, and the facts about a kind that its CRD needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel as plain_camel

from windlass.domain.ids import NAME_PATTERN

GROUP = "windlass.dev"
VERSION = "v1alpha1"

LABEL_PATTERN = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=316, pattern=LABEL_PATTERN)]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
ResourceName = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=NAME_PATTERN)]
"""A name that a user of Windlass chooses: the same rule as in the REST API."""


def to_camel(name: str) -> str:
    """Return a field's name on the wire: ``max_gpus_per_job`` is ``maxGPUsPerJob``, as Kubernetes writes acronyms."""
    return plain_camel(name).replace("Gpu", "GPU")


class Part(BaseModel):
    """A part of a resource: camelCase on the wire, immutable here. The API server prunes what it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )

    def wire(self) -> dict[str, Any]:
        """Return it as JSON values, without what is not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Wish(Part):
    """A spec, or a part of one: an unknown field is an error, which the API server's strict validation tells first."""

    model_config = ConfigDict(extra="forbid")


def keyed(*keys: str) -> dict[str, Any]:
    """Make a list a map in the API server's eyes: one entry for each value of ``keys``, merged by them on apply."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


class Condition(Part):
    """One aspect of an object's state, as metav1.Condition."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[
        str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ]
    message: Annotated[str, StringConstraints(max_length=32768)]
    last_transition_time: datetime
    observed_generation: int | None = Field(default=None, ge=0)


def condition(
    before: Sequence[Condition],
    kind: str,
    *,
    status: bool | None,
    reason: str,
    message: str,
    generation: int,
    now: datetime,
) -> Condition:
    """Return a condition; its transition time moves only when its status does."""
    said: Literal["True", "False", "Unknown"] = "Unknown" if status is None else "True" if status else "False"
    old = next((one for one in before if one.type == kind), None)
    return Condition(
        type=kind,
        status=said,
        reason=reason,
        message=message[:1000],
        last_transition_time=old.last_transition_time if old and old.status == said else now,
        observed_generation=generation,
    )


class Metadata(Part):
    """What Windlass reads of an object's metadata."""

    name: str
    namespace: str | None = None
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``; ``wide`` ones show with ``-o wide``."""

    name: str
    path: str
    type: Literal["string", "integer", "date"] = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule that the API server holds, with what a person reads when it is broken."""

    rule: str
    message: str
    field: str = ""
    """Path of the field that the error names, as ``.spec.quotas``; empty: the object that carries the rule."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale subresource."""

    wished: str
    observed: str


class Resource(Part):
    """A custom resource; the class variables are what its CRD says of the kind."""

    plural: ClassVar[str]
    singular: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]] = ()
    namespaced: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = ()
    rules: ClassVar[tuple[Rule, ...]] = ()
    """Rules over the whole object, which may also speak of ``self.metadata.name``."""
    scale: ClassVar[Scale | None] = None

    metadata: Metadata

    @classmethod
    def kind(cls) -> str:
        """Return the kind's name."""
        return cls.__name__
