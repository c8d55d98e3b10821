"""Base classes of the Kubernetes models that are only read, and the parser of quantities."""

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
# Bounded, so that parsing is fast: Kubernetes' quantities reach 2**63.
_MAX_QUANTITY = 2**63 - 1
_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30}))([KMGTPE]i|[numkMGTPE]?|[eE][+-]?[0-9]{1,2})\Z"
)


class KubeModel(BaseModel):
    """The fields of an object that Windlass reads. Unknown fields are ignored; ``null`` counts as missing."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: item for name, item in value.items() if item is not None}
        return value


class OwnerReference(KubeModel):
    """An owner of an object."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(KubeModel):
    """The fields of metav1.ObjectMeta that are used."""

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
        """The controller, else the first owner."""
        controllers = (owner for owner in self.owner_references if owner.controller)
        return next(controllers, next(iter(self.owner_references), None))


class KubeCondition(KubeModel):
    """A condition. Pods omit fields that metav1.Condition requires, so only the type is required."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None

    @property
    def true(self) -> bool:
        """Whether the status is True."""
        return self.status == "True"


class KubeObject(KubeModel):
    """An object with metadata."""

    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> str:
        """``namespace/name``, or the name of a cluster-scoped object."""
        namespace, name = self.metadata.namespace, self.metadata.name
        return f"{namespace}/{name}" if namespace else name

    @classmethod
    def parse(cls, value: Json) -> Self:
        """Parse an object.

        Raises:
            pydantic.ValidationError: a field has the wrong type.
        """
        return cls.model_validate(value)

    @classmethod
    def parse_all(cls, values: Iterable[Json]) -> tuple[Self, ...]:
        """Parse the items of a list."""
        return tuple(cls.parse(value) for value in values)


def find_condition(conditions: Iterable[KubeCondition], kind: str) -> KubeCondition | None:
    """Return the condition of a type, or None."""
    return next((condition for condition in conditions if condition.type == kind), None)


def parse_quantity(quantity: object) -> int:
    """Return a Kubernetes quantity (``8``, ``"8"``, ``"1k"``, ``"2Ki"``) as an integer, rounded up like Kubernetes.

    The format is ``k8s.io/apimachinery/pkg/api/resource.Quantity``, which also has this maximum.

    Raises:
        InvalidError: it is not a quantity.
    """
    match = _QUANTITY.match(str(quantity))
    if match is None:
        raise InvalidError(f"{str(quantity)[:50]!r} is not a Kubernetes quantity")
    number, suffix = Decimal(match[1]), match[2]
    if suffix in _BINARY:
        amount = math.ceil(number * (1 << _BINARY[suffix]))
    else:
        amount = math.ceil(number.scaleb(_DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])))
    return max(-_MAX_QUANTITY, min(amount, _MAX_QUANTITY))
