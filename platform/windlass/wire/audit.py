"""The audit log: entries, and the result of a verification."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from windlass.domain.audit import AuditOutcome, ChainProblemKind
from windlass.wire.base import Out


class ExportFormat(StrEnum):
    """The format of an export of the audit log."""

    JSONL = "jsonl"
    CSV = "csv"


class FieldChangeOut(Out):
    """The value of a field before and after a change; secrets are redacted, long values are cut."""

    before: Any
    """Null: it had none."""
    after: Any
    """Null: it has none."""


class AuditOut(Out):
    """One accepted change, or denied requests. ``hash`` is the SHA-256 of the other fields in JSON."""

    id: str
    """Id of the entry."""
    time: datetime
    """When the change was accepted, or the request denied."""
    actor: str
    """User, job, system, or anonymous."""
    key: str | None
    """Id of the API key or session; of an anonymous request the id of the key that it named."""
    address: str
    """Address of the client; empty for a change that no request made."""
    request_id: str
    """Id of the request."""
    project: str | None
    """Uid of the project; null for global objects."""
    action: str
    """Noun and verb, such as job.create."""
    subject: str
    """Id of the changed object; empty for a denied request."""
    name: str
    """Its name at that time; method and path of a denied request."""
    outcome: AuditOutcome = Field(description="accepted change or denied request")
    code: str
    """Code of the error of a denied request."""
    count: int
    """Number of denied requests that the entry stands for."""
    changes: dict[str, FieldChangeOut]
    """What changed, by field."""
    position: int | None
    """Position in the chain; null: not sealed yet."""
    previous_hash: str | None
    """Hash of the entry before it in the chain."""
    hash: str | None
    """Hash of this entry."""


class ChainLinkOut(Out):
    """A position of the chain and the hash of the entry there; position 0 is before the first entry."""

    position: int
    """Position."""
    hash: str
    """Hash of the entry."""

    @property
    def text(self) -> str:
        """The form in which a head is printed and passed to a verification."""
        return f"{self.position}:{self.hash}"


class ChainProblemOut(Out):
    """The first position of the chain that is broken."""

    position: int
    """Position."""
    kind: ChainProblemKind
    """What is wrong."""
    message: str
    """What is wrong, as a sentence."""


class AuditVerificationOut(Out):
    """What the verification of a part of the chain has found."""

    checked: ChainLinkOut
    """The last entry that is intact; the next part begins after it."""
    head: ChainLinkOut
    """The last sealed entry. Keep it outside of the database: a later verification needs it to find a chain that was
    cut or written anew."""
    anchor: ChainLinkOut
    """The last entry that the retention has removed, where the verification starts."""
    rows: int
    """Number of entries that were verified."""
    complete: bool
    """Whether nothing is left to verify."""
    problem: ChainProblemOut | None = Field(description="null: what was verified is intact")
    unsealed: int
    """Number of entries that are not sealed yet; the chain says nothing about them."""
    oldest_unsealed: datetime | None
    """Time of the oldest of them."""
