"""Common parts of all kinds: metadata, conditions, and the settings from which CRDs are generated."""

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
"""A name chosen by a user: the same rule as in the REST API."""


def to_camel(name: str) -> str:
    """Return a field's JSON name: ``maxGPUsPerJob`` for ``max_gpus_per_job``, with acronyms as in Kubernetes."""
    return plain_camel(name).replace("Gpu", "GPU")


class CrdModel(BaseModel):
    """A part of a custom resource: camelCase in JSON, immutable. The API server prunes unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )

    def wire(self) -> dict[str, Any]:
        """Return it as JSON values, without unset fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class SpecModel(CrdModel):
    """A spec, or a part of one: unknown fields are an error; strict validation of the API server reports them first."""

    model_config = ConfigDict(extra="forbid")


def map_list(*keys: str) -> dict[str, Any]:
    """Declare a list as a map (``x-kubernetes-list-type``): entries are unique by ``keys`` and merged by them."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


class Condition(CrdModel):
    """A condition (metav1.Condition)."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)]
    """What the condition is about, as Ready."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    reason: Annotated[
        str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ]
    """Cause of the status in one word, for programs."""
    message: Annotated[str, StringConstraints(max_length=32768)]
    """Explanation for people."""
    last_transition_time: datetime
    """When the status last changed."""
    observed_generation: int | None = Field(default=None, ge=0)
    """Generation of the spec that the condition describes."""


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
    """Return a condition; its transition time changes only with its status."""
    text: Literal["True", "False", "Unknown"] = "Unknown" if status is None else "True" if status else "False"
    old = next((condition for condition in before if condition.type == kind), None)
    return Condition(
        type=kind,
        status=text,
        reason=reason,
        message=message[:1000],
        last_transition_time=old.last_transition_time if old and old.status == text else now,
        observed_generation=generation,
    )


class Metadata(CrdModel):
    """The fields of an object's metadata that are used."""

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
class PrinterColumn:
    """A column of ``kubectl get``; ``wide``: only with ``-o wide``."""

    name: str
    path: str
    type: Literal["string", "integer", "date"] = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class CelRule:
    """A CEL validation rule with its error message."""

    rule: str
    message: str
    field: str = ""
    """Path of the field in the error, as ``.spec.quotas``; empty: the object of the rule."""


@dataclass(frozen=True, slots=True)
class ScaleSubresource:
    """The scale subresource."""

    spec_replicas: str
    status_replicas: str


class CustomResource(CrdModel):
    """A custom resource; the class variables configure its CRD."""

    plural: ClassVar[str]
    singular: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]] = ()
    namespaced: ClassVar[bool] = False
    columns: ClassVar[tuple[PrinterColumn, ...]] = ()
    rules: ClassVar[tuple[CelRule, ...]] = ()
    """Rules of the whole object, which may use ``self.metadata.name``."""
    scale: ClassVar[ScaleSubresource | None] = None

    metadata: Metadata

    @classmethod
    def kind(cls) -> str:
        """Return the name of the kind."""
        return cls.__name__
