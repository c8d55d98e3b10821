"""Erasures of data subjects."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from windlass.domain.erasures import ErasureColumn, ErasureState, SearchText
from windlass.wire.base import In, Out, shown


class ErasureIn(In):
    """Search a dataset for the rows of a data subject: rows that match any of the entries."""

    model_config = shown({"contains": ["ada@example.com"], "rows": [{"group": "customer-17"}]})

    contains: list[SearchText] = Field(
        default=[], max_length=1000, description="texts; case and white space are ignored"
    )
    rows: list[Annotated[dict[ErasureColumn, SearchText], Field(min_length=1)]] = Field(
        default=[], max_length=1000, description="values by column, which must all be equal"
    )


class SearchedVersionOut(Out):
    """A dataset version that was searched."""

    number: int
    """Number of the version."""
    rows: int
    """Rows of the version."""
    matches: int | None
    """Rows of the data subject; null: not searched yet."""
    files_deleted: bool
    """Whether its files are gone from the object store."""


class ErasureDescendantOut(Out):
    """A model version that was trained on erased rows, or an endpoint that serves one."""

    kind: Literal["model version", "endpoint"]
    """Kind of the object."""
    id: str
    """Id of the object."""
    name: str
    """Name of the object."""
    dataset_version: str
    """What a model version was trained on; empty for an endpoint."""
    outcome: Literal["pending", "retrained", "deleted", "updated"]
    """What became of it."""
    replaced_by: str
    """The newer version of a model that was retrained."""
    resolved_at: datetime | None
    """Time of the outcome."""


class ErasureOut(Out):
    """An erasure. It never has the search keys."""

    id: str
    """Id of the erasure."""
    dataset: str
    """Name of the dataset."""
    state: ErasureState
    """State of the erasure."""
    problem: str
    """Why it does not go on, or has failed."""
    rows: int
    """Rows of the data subject in all versions."""
    versions: list[SearchedVersionOut]
    """The versions that were searched; those with matches are deleted."""
    new_version: int | None
    """Number of the version without the rows; null: none was needed, or not yet."""
    descendants: list[ErasureDescendantOut]
    """Models and endpoints that were trained on the rows."""
    created_by: str
    """Who searched."""
    created_at: datetime
    """Time of the search."""
    confirmed_by: str | None
    """Who confirmed."""
    confirmed_at: datetime | None
    """Time of the confirmation."""
    erased_at: datetime | None
    """When the rows were deleted."""
    completed_at: datetime | None
    """When the last descendant and the last file were gone."""
    version: int
    """Version of this object, for If-Match."""


class ErasureCertificateOut(Out):
    """The certificate of an erasure."""

    certificate: dict[str, Any]
    """What was erased; ``digest`` is the SHA-256 of its other fields as canonical JSON."""
