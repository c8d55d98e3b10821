"""Shared models: base classes, pages, problems, reasons, server information."""

from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from itertools import islice
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from windlass.domain.capabilities import Capability

T = TypeVar("T")

_REPR_VALUES = 6
_REPR_CHARACTERS = 60


class In(BaseModel):
    """A request body; unknown keys, infinity and NaN are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def shown(example: dict[str, Any]) -> ConfigDict:
    """Return the configuration of a request body with an example for the OpenAPI document; the rest is inherited."""
    return ConfigDict(json_schema_extra={"examples": [example]})


class Out(BaseModel):
    """A response body; its ``repr`` has only the first plain values."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        plain = ((name, value) for name, value in super().__repr_args__() if isinstance(value, str | int | float))
        for name, value in islice(plain, _REPR_VALUES):
            plain_value: object = value.value if isinstance(value, Enum) else value
            if isinstance(plain_value, str) and len(plain_value) > _REPR_CHARACTERS:
                plain_value = f"{plain_value[:_REPR_CHARACTERS]}..."
            yield name, plain_value

    def __str__(self) -> str:
        return repr(self)


class Page(Out, Generic[T]):
    """One page of a list. ``next_cursor`` is opaque; null on the last page."""

    model_config = ConfigDict(json_schema_extra={"description": "One page of a list."})

    items: list[T]
    """The items of this page."""
    next_cursor: str | None = None
    """Cursor of the next page; null on the last page."""


class FieldProblemOut(Out):
    """One invalid field: a JSON pointer into the body (or ``/query/...``, ``/path/...``, ``/header/...``)."""

    pointer: str
    """JSON pointer of the field."""
    detail: str
    """What is wrong with it."""


class Problem(Out):
    """RFC 9457 problem details. ``code`` is stable; ``hint`` says how to fix it."""

    type: str
    """URN of the code."""
    title: str
    """Phrase of the HTTP status."""
    status: int
    """HTTP status."""
    code: str
    """Stable code of the error."""
    detail: str
    """What is wrong, as a sentence."""
    hint: str = ""
    """How to solve it; may be empty."""
    errors: list[FieldProblemOut] = Field(default_factory=list)
    """The invalid fields."""
    context: dict[str, Any] = Field(default_factory=dict)
    """Values of the error for programs."""
    retryable: bool = False
    """Whether the same request may succeed later."""
    request_id: str = ""
    """Id of the request, as in the server's log."""


class ReasonOut(Out):
    """Why an object waits or failed."""

    code: str
    """Stable code of the reason."""
    message: str
    """Why, as a sentence."""
    action_by: Literal["user", "admin", "none"]
    """Who can act."""
    action: str
    """What to do; may be empty."""
    context: dict[str, Any] = Field(default_factory=dict)
    """Values of the reason for programs."""


class JobWarningOut(Out):
    """Something about the data, the training or the result of a job that its user should know."""

    code: str
    """Stable code of the warning."""
    message: str
    """What it is about, as a sentence."""
    context: dict[str, Any] = Field(default_factory=dict)
    """Values of the warning for programs."""


class ServerOut(Out):
    """Server information: ``GET /v1``."""

    name: Literal["windlass"]
    """Name of the product."""
    version: str
    """Version of the server."""
    mode: Literal["embedded", "cluster"]
    """Embedded: one machine; cluster: Kubernetes."""
    capabilities: list[Capability]
    """What the server can do; a request that needs another capability fails with `capability_missing`."""
    worker_problem: str = Field(default="", description="why the worker does not make progress; empty if it does")


class WhoamiOut(Out):
    """The authenticated user: ``GET /v1/whoami``."""

    user: str
    """Name of the user."""
    platform_role: str | None
    """Role on the whole platform: `platform-viewer` or `platform-admin`; null: none."""
    key: str
    """Id of the key."""
    projects: dict[str, str] = Field(description="project name -> role; platform roles apply in every project")
    permissions: list[str] = Field(
        default=[], description="permissions outside of projects; with a platform role, in every project too"
    )
    project_permissions: dict[str, list[str]] = Field(default={}, description="project name -> permissions in it")


class ClusterSyncOut(Out):
    """Status of the cluster sync: ``GET /v1/cluster-sync``."""

    holder: str = Field(description="the worker that syncs the cluster; empty before the first sync")
    synced_at: datetime | None = Field(description="when the database last matched the cluster")
    notes: list[str] = Field(description="why predictions may be wrong, and resources that could not be read")
    pending_changes: int = Field(description="accepted quota changes that are not applied yet")


class DescendantOut(Out):
    """An object that descends from a deleted one, or stays beside it."""

    kind: str
    """Kind of the object, such as model version."""
    id: str
    """Id of the object."""
    name: str
    """Name of the object, such as classifier@2."""
    effect: Literal["deleted", "blocks", "stays"]
    """What a cascading deletion does with it; one that blocks must be removed first."""
    why: str
    """Why it blocks the deletion, or stays."""


class DeletionOut(Out):
    """What a deletion removes, or with ``dry_run`` would remove."""

    kind: str
    """Kind of the object, such as dataset version."""
    id: str
    """Id of the object."""
    name: str
    """Name of the object, such as reviews@2."""
    contains: dict[str, int]
    """Number of the objects that are deleted with it, by kind."""
    stored_bytes: int
    """Bytes of the files that are deleted."""
    consequences: list[str]
    """What else changes."""
    descendants: list[DescendantOut] = Field(default=[], description="what descends from it; only with cascade")
