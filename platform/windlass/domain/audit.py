"""The audit log: a row for each accepted or denied change, sealed into a chain of hashes. No I/O.

A row is written in the transaction of its change and sealed soon afterwards. A sealed row has a position in the chain,
the hash of the row before it, and a hash over all of its fields.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Self

from pydantic import Field

from windlass.domain.errors import InvalidError
from windlass.domain.jobs import DomainModel

LINK_PATTERN = r"^(0|[1-9][0-9]{0,17}):[0-9a-f]{64}$"
"""A position of the chain and the hash of the row there, as ``1234:ab12...``."""


class AuditOutcome(StrEnum):
    """Whether a change was made, or its request was denied."""

    ACCEPTED = "accepted"
    DENIED = "denied"


class FieldChange(DomainModel):
    """The value of a field before and after a change; null: it had none. Secrets are redacted, long values are cut."""

    before: Any = None
    after: Any = None


class AuditEntry(DomainModel):
    """One accepted change (invariant I8), or denied requests; the last three fields are set when it is sealed."""

    id: str
    time: datetime
    actor: str
    """A user, the id of a job, ``system``, or ``anonymous`` for a request without a valid credential."""
    key: str | None = None
    """Id of the API key or session; that an anonymous request named is only a claim."""
    address: str = ""
    """Address of the client."""
    request_id: str = ""
    project: str | None = None
    action: str
    """Noun and verb, such as ``dataset.delete``."""
    subject: str = ""
    name: str = ""
    """Name of the object when it was changed; of a denied request its method and path."""
    outcome: AuditOutcome = AuditOutcome.ACCEPTED
    code: str = ""
    """Code of the error of a denied request."""
    count: int = 1
    """Number of denied requests that the entry stands for."""
    changes: dict[str, FieldChange] = Field(default_factory=dict)
    position: int | None = None
    previous_hash: str | None = None
    hash: str | None = None


def fields_hash(fields: dict[str, Any]) -> str:
    """Return the SHA-256 of the fields in JSON: keys sorted, no spaces, ASCII. ``hash`` itself is left out."""
    content = {name: value for name, value in fields.items() if name != "hash"}
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def entry_hash(entry: AuditEntry) -> str:
    """Return the hash of a sealed entry."""
    return fields_hash(entry.model_dump(mode="json", exclude={"hash"}))


class ChainLink(DomainModel):
    """A position of the chain with the hash of the entry there; position 0 is before the first entry."""

    position: int = 0
    hash: str = "0" * 64

    def __str__(self) -> str:
        return f"{self.position}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a link as ``str`` writes it.

        Raises:
            InvalidError: it has another form.
        """
        if not re.fullmatch(LINK_PATTERN, text):
            raise InvalidError(
                f"{text[:100]!r} is not a position and a hash of the audit log",
                hint="its form is 1234:HASH, as `windlass audit verify` prints it",
            )
        position, _, value = text.partition(":")
        return cls(position=int(position), hash=value)


class ChainState(DomainModel):
    """The stored ends of the chain."""

    anchor: ChainLink = ChainLink()
    """The last entry that the retention has removed, where a verification starts."""
    head: ChainLink = ChainLink()
    """The last sealed entry."""


class ChainProblemKind(StrEnum):
    """What is wrong at a position of the chain."""

    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    TRUNCATED = "truncated"


class ChainProblem(DomainModel):
    """The first position of the chain that is broken."""

    position: int
    kind: ChainProblemKind
    message: str


@dataclass(frozen=True)
class StoredEntry:
    """An entry as it is stored; ``entry`` is None if its row cannot be read."""

    position: int
    entry: AuditEntry | None


def seal(entries: Iterable[AuditEntry], head: ChainLink) -> Iterator[AuditEntry]:
    """Yield the entries with their places in the chain behind ``head``."""
    for entry in entries:
        position = head.position + 1
        placed = entry.model_copy(update={"position": position, "previous_hash": head.hash, "hash": None})
        sealed = placed.model_copy(update={"hash": entry_hash(placed)})
        head = ChainLink(position=position, hash=entry_hash(placed))
        yield sealed


def verify_entries(entries: Iterable[StoredEntry], last: ChainLink) -> tuple[ChainLink, ChainProblem | None]:
    """Verify the entries that follow ``last``, in the order of their positions.

    Returns the last entry that is intact, and the problem of the one behind it.
    """
    for stored in entries:
        if problem := _problem(stored, last):
            return last, problem
        assert stored.entry is not None  # noqa: S101 - else there is a problem
        assert stored.entry.hash is not None  # noqa: S101 - as above
        last = ChainLink(position=stored.position, hash=stored.entry.hash)
    return last, None


def _problem(stored: StoredEntry, last: ChainLink) -> ChainProblem | None:
    expected, entry = last.position + 1, stored.entry
    if stored.position != expected:
        missing = stored.position - expected
        rows = f"row {expected} is" if missing == 1 else f"rows {expected} to {stored.position - 1} are"
        return ChainProblem(position=expected, kind=ChainProblemKind.MISSING, message=f"{rows} missing")
    if entry is None:
        return _changed(expected, "its row cannot be read")
    if entry.previous_hash != last.hash:
        # A row that was moved is intact but for its position, which follows from the row it names as its predecessor.
        return ChainProblem(
            position=expected,
            kind=ChainProblemKind.REORDERED,
            message=f"row {expected} ({entry.id}) does not follow row {last.position}: "
            "it was moved, inserted or replaced, or the row before it was replaced",
        )
    if entry.hash != entry_hash(entry):
        return _changed(expected, f"entry {entry.id} does not match its hash")
    return None


def _changed(position: int, why: str) -> ChainProblem:
    return ChainProblem(position=position, kind=ChainProblemKind.CHANGED, message=f"row {position} was changed: {why}")


def verify_end(last: ChainLink, head: ChainLink) -> ChainProblem | None:
    """Verify that the chain, whose last intact entry is ``last``, ends with the stored ``head``."""
    if last.position < head.position:
        rows = f"{last.position + 1} to {head.position}"
        return ChainProblem(
            position=last.position + 1,
            kind=ChainProblemKind.TRUNCATED,
            message=f"the chain ends at row {last.position}: rows {rows} are missing",
        )
    if last != head:
        return ChainProblem(
            position=head.position,
            kind=ChainProblemKind.CHANGED,
            message=f"the stored head {head.position} does not match row {last.position}",
        )
    return None


def verify_saved(saved: ChainLink, stored: StoredEntry | None, state: ChainState) -> ChainProblem | None:
    """Verify that the chain contains a link that was saved earlier, outside of the database.

    ``stored`` is the entry at this position, None if there is none.
    """
    if saved.position > state.head.position:
        return ChainProblem(
            position=state.head.position + 1,
            kind=ChainProblemKind.TRUNCATED,
            message=f"the chain ends at row {state.head.position}, the saved head is row {saved.position}",
        )
    if saved.position < state.anchor.position:
        return None  # the retention has removed it
    if saved.position in (0, state.anchor.position):
        actual = state.anchor.hash if saved.position else ChainLink().hash
    else:
        actual = (stored.entry.hash if stored is not None and stored.entry is not None else None) or ""
    if actual == saved.hash:
        return None
    return ChainProblem(
        position=saved.position,
        kind=ChainProblemKind.CHANGED,
        message=f"row {saved.position} has another hash than the saved head: the chain was written anew",
    )
