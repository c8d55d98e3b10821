"""What is said and done about a custom resource: pure functions from what is wished and what was observed.

Nothing here reads a clock, asks a server or remembers: a reconciliation can be begun anywhere, any number of times.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from windlass.kube.resources import Condition
from windlass_operators.children import Refusal

READY = "Ready"
_LISTED = 5


@dataclass(frozen=True, slots=True)
class Said:
    """An Event to post about a resource."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a condition shall say."""

    status: bool | None
    reason: str
    message: str


def events(before: Sequence[Condition], after: Sequence[Condition]) -> list[Said]:
    """Return what is worth telling: a condition that is new or has another status or reason."""
    known = {(one.type, one.status, one.reason) for one in before}
    return [
        Said("Normal" if _good(one) else "Warning", one.reason, one.message)
        for one in after
        if (one.type, one.status, one.reason) not in known and not (_good(one) and one.type != READY)
    ]


def _good(condition: Condition) -> bool:
    return (condition.status == "True") == (condition.type == READY)


def refused(refusals: Sequence[Refusal]) -> Verdict | None:
    """Return what to say of children that could not be brought about; the first one's reason stands for all."""
    if not refusals:
        return None
    return Verdict(False, refusals[0].reason, some((one.message for one in refusals), "; "))  # noqa: FBT003 - a status


def malformed(error: ValidationError) -> Verdict:
    """Return what to say of an object that our models do not take, though the API server did."""
    wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False)]
    return Verdict(False, "Malformed", some(wrong, "; "))  # noqa: FBT003 - a status


def some(words: Iterable[str], between: str = ", ") -> str:
    """Join a few of the words, and say how many more there are."""
    all_of_them = list(words)
    more = len(all_of_them) - _LISTED
    return between.join(all_of_them[:_LISTED]) + (f" and {more} more" if more > 0 else "")
