"""Checks of arguments that Python accepts and that would do the wrong thing."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from windlass.domain.errors import InvalidError
from windlass.sdk._protocol import validate_body

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_SINGLE: Mapping[type, str] = {str: "a string", bytes: "bytes", Path: "a path", Mapping: "a mapping"}


def as_list(name: str, values: Iterable[T]) -> list[T]:
    """Return the items of the argument ``name``.

    Raises:
        InvalidError: it is one string, path or mapping, whose characters or keys would be taken for the items.
    """
    for kind, description in _SINGLE.items():
        if isinstance(values, kind):
            raise InvalidError(f"{name} must be a list, not {description}", hint=f"pass a list: {name}=[...]")
    return list(values)


def to_dict(value: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """Return a model or a mapping as a dictionary."""
    return value.model_dump() if isinstance(value, BaseModel) else dict(value)


def as_body(model: type[M], value: M | Mapping[str, Any]) -> M:
    """Return the request body ``value``, which may be a mapping of its fields.

    Raises:
        InvalidError: the mapping has invalid fields.
    """
    return value if isinstance(value, model) else validate_body(model, **dict(value))
