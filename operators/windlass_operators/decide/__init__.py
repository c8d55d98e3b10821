"""Computes conditions and Events of custom resources: pure functions of the spec and of what was observed.

They read no clock, call no server and keep no state, so that a reconciliation can be repeated at any time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from windlass.kube.resources import Condition, condition
from windlass_operators.children import ApplyFailure

READY = "Ready"
_MAX_LISTED = 5


@dataclass(frozen=True, slots=True)
class EventMessage:
    """Type, reason and message of an Event."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """Status, reason and message of a condition; status None: Unknown."""

    status: bool | None
    reason: str
    message: str


def events(before: Sequence[Condition], after: Sequence[Condition]) -> list[EventMessage]:
    """Return an Event for each condition that is new or whose status or reason changed."""
    known = {(each.type, each.status, each.reason) for each in before}
    return [
        EventMessage("Normal" if _is_good(each) else "Warning", each.reason, each.message)
        for each in after
        if (each.type, each.status, each.reason) not in known and not (_is_good(each) and each.type != READY)
    ]


def _is_good(observed: Condition) -> bool:
    return (observed.status == "True") == (observed.type == READY)


def conditions(
    before: Sequence[Condition], results: Mapping[str, ConditionResult], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Return the conditions of results by type; ``before``: those of the object until now."""
    return tuple(
        condition(
            before,
            kind,
            status=result.status,
            reason=result.reason,
            message=result.message,
            generation=generation,
            now=now,
        )
        for kind, result in results.items()
    )


def apply_failed(failures: Sequence[ApplyFailure]) -> ConditionResult | None:
    """Return the result for children that could not be applied, with the first one's reason; None without failures."""
    if not failures:
        return None
    message = join_limited((failure.message for failure in failures), "; ")
    return ConditionResult(status=False, reason=failures[0].reason, message=message)


def malformed(error: ValidationError) -> ConditionResult:
    """Return the result for an object that the API server accepted and our models reject."""
    problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False)]
    return ConditionResult(status=False, reason="Malformed", message=join_limited(problems, "; "))


def join_limited(texts: Iterable[str], separator: str = ", ") -> str:
    """Join the first five texts, and append how many more there are."""
    items = list(texts)
    more = len(items) - _MAX_LISTED
    return separator.join(items[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
