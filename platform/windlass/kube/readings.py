"""From objects to what they mean, each read once for each of its versions."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from pydantic import ValidationError

from windlass.domain.errors import WindlassError
from windlass.kube.objects import Object, Ref

R = TypeVar("R")


class Readings(Generic[R]):
    """What the objects of one kind mean. Not for more than one thread at a time.

    ``read`` raises ValueError or WindlassError for an object that cannot be read: it is left out and named.
    """

    def __init__(self, read: Callable[[Object], R]) -> None:
        self._read = read
        self._known: dict[Ref, tuple[str, R | None, str]] = {}

    def take(self, objects: Iterable[Object]) -> tuple[tuple[R, ...], tuple[str, ...]]:
        """Return what these objects mean, and a sentence on each that cannot be read; forget all others."""
        now: dict[Ref, tuple[str, R | None, str]] = {}
        for one in objects:
            ref, version = Ref.of(one), one["metadata"].get("resourceVersion", "")
            known = self._known.get(ref)
            now[ref] = known if known is not None and known[0] == version else (version, *self._parsed(ref, one))
        self._known = now
        readings = tuple(reading for _, reading, _ in now.values() if reading is not None)
        return readings, tuple(problem for _, _, problem in now.values() if problem)

    def _parsed(self, ref: Ref, subject: Object) -> tuple[R | None, str]:
        try:
            return self._read(subject), ""
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except (ValueError, WindlassError) as error:
            why = str(error)
        return None, f"{ref} cannot be read and is left out: {why}"
