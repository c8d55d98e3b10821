"""What every noun shares: base models, pages, problems, facts about the server."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class In(BaseModel):
    """A request body; an unknown key is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def shown(example: dict[str, Any]) -> ConfigDict:
    """Return the configuration of a request body with an example for the API's description."""
    return ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [example]})


class Out(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Page(Out, Generic[T]):
    """One page of a list. ``next_cursor`` is opaque; null on the last page."""

    items: list[T]
    next_cursor: str | None = None


class FieldProblemOut(Out):
    """One wrong field: a JSON pointer into the body (or ``/query/...``, ``/path/...``, ``/header/...``)."""

    pointer: str
    detail: str


class Problem(Out):
    """RFC 9457 problem details. ``code`` is stable; ``hint`` says the way out."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str = ""
    errors: list[FieldProblemOut] = Field(default_factory=list)
    facts: dict[str, Any] = Field(default_factory=dict)
    retryable: bool = False
    request_id: str = ""


class ReasonOut(Out):
    """Why something waits or failed."""

    code: str
    message: str
    owner: Literal["you", "admin", "nobody"]
    action: str
    facts: dict[str, Any] = Field(default_factory=dict)


class ServerOut(Out):
    """What answers here: ``GET /v1``."""

    name: Literal["windlass"]
    version: str
    mode: Literal["embedded", "cluster"]


class WhoamiOut(Out):
    """Who the credential is: ``GET /v1/whoami``."""

    user: str
    admin: bool
    key: str
    projects: dict[str, str] = Field(description="project name -> role; an admin may enter any project")


class MirrorOut(Out):
    """How well this server knows its cluster: ``GET /v1/mirror``."""

    holder: str = Field(description="the worker that keeps the mirror; empty: none does yet")
    read_at: datetime | None = Field(description="when the mirror was last known to be right")
    notes: list[str] = Field(description="what makes predictions unsure, and what could not be read")
    pending_changes: int = Field(description="changes of quotas that the cluster does not have yet")


class UsageOut(Out):
    """What one job has used: seconds of admitted GPUs (or CPU slots)."""

    job: str
    pool: str
    gpu_seconds: float
    cost: float = Field(description="gpu_seconds x the pool's price, in the pool's currency unit")
    outcome: str


class AuditOut(Out):
    """One accepted mutation."""

    id: str
    time: datetime
    actor: str
    project: str | None
    action: str
    subject: str
    request_id: str
