"""The ground of all readings: tolerant models of what an API server answers, and its way to write numbers."""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

from windlass.domain.errors import InvalidError

Json = Mapping[str, Any]
"""An object as the API server sends it."""

_DECIMAL = {"": 0, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
# Bounded, so that no number takes long to read: Kubernetes' own reach to 2**63.
_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30}))([KMGTPE]i|[numkMGTPE]?|[eE][+-]?[0-9]{1,2})\Z"
)


class Reading(BaseModel):
    """What Windlass reads of an object. Fields that it does not know are ignored; ``null`` is read as not there."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: one for name, one in value.items() if one is not None}
        return value


class OwnerReference(Reading):
    """Who made an object."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(Reading):
    """Of metav1.ObjectMeta what readings need."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def owner(self) -> OwnerReference | None:
        """The controller that made the object, else the first owner."""
        controllers = (one for one in self.owner_references if one.controller)
        return next(controllers, next(iter(self.owner_references), None))


class Condition(Reading):
    """One aspect of an object's state. Pods leave out what metav1.Condition demands, so that only the type is sure."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None

    @property
    def true(self) -> bool:
        """Whether the status is True; False and Unknown are not."""
        return self.status == "True"


class Observed(Reading):
    """An object with metadata; ``parse`` reads one, ``parse_all`` a list."""

    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> str:
        """``namespace/name``, or the name alone of what stands in no namespace."""
        space, name = self.metadata.namespace, self.metadata.name
        return f"{space}/{name}" if space else name

    @classmethod
    def parse(cls, value: Json) -> Self:
        """Read an object.

        Raises:
            pydantic.ValidationError: a field that is read has another shape than its API says.
        """
        return cls.model_validate(value)

    @classmethod
    def parse_all(cls, values: Iterable[Json]) -> tuple[Self, ...]:
        """Read the items of a list."""
        return tuple(cls.parse(value) for value in values)


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """Return the condition of a type, or None."""
    return next((one for one in conditions if one.type == kind), None)


def whole(quantity: object) -> int:
    """Return a Kubernetes quantity (``8``, ``"8"``, ``"1k"``, ``"2Ki"``) as an integer, rounded up as Kubernetes does.

    The notation is that of ``k8s.io/apimachinery/pkg/api/resource.Quantity``.

    Raises:
        InvalidError: it is none.
    """
    found = _QUANTITY.match(str(quantity))
    if found is None:
        raise InvalidError(f"{str(quantity)[:50]!r} is no quantity of Kubernetes")
    number, suffix = Decimal(found[1]), found[2]
    if suffix in _BINARY:
        return math.ceil(number * (1 << _BINARY[suffix]))
    return math.ceil(number.scaleb(_DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])))
