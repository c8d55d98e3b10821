"""Parses objects, each once per resourceVersion."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from pydantic import ValidationError

from windlass.domain.errors import WindlassError
from windlass.kube.objects import Object, Ref

T = TypeVar("T")
_Key = tuple[str | None, str]
"""Namespace and name."""


class ParseCache(Generic[T]):
    """The parsed objects of one kind. Threads that parse the same version at the same time parse it twice.

    ``parse_object`` raises ValueError or WindlassError for an invalid object, which is omitted and reported.
    """

    def __init__(self, parse_object: Callable[[Object], T]) -> None:
        self._parse_object = parse_object
        self._cache: dict[_Key, tuple[str, T | None, str]] = {}

    def get(self, subject: Object) -> T | None:
        """Return a parsed object, None if it is invalid."""
        return self._entry(subject)[1]

    def parse(self, objects: Iterable[Object]) -> tuple[tuple[T, ...], tuple[str, ...]]:
        """Return the parsed objects, and a message for each invalid one; drop all other objects from the cache."""
        current = {_key(subject): self._entry(subject) for subject in objects}
        self._cache = current
        parsed = tuple(value for _, value, _ in current.values() if value is not None)
        return parsed, tuple(problem for _, _, problem in current.values() if problem)

    def __len__(self) -> int:
        return len(self._cache)

    def _entry(self, subject: Object) -> tuple[str, T | None, str]:
        key, version = _key(subject), subject["metadata"].get("resourceVersion", "")
        entry = self._cache.get(key)
        if entry is None or entry[0] != version:
            entry = self._cache[key] = (version, *self._parse(subject))
        return entry

    def _parse(self, subject: Object) -> tuple[T | None, str]:
        try:
            return self._parse_object(subject), ""
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except (ValueError, WindlassError) as error:
            problem = str(error)
        return None, f"{Ref.of(subject)} is invalid and is ignored: {problem}"


def _key(subject: Object) -> _Key:
    metadata = subject["metadata"]
    return metadata.get("namespace"), metadata["name"]
