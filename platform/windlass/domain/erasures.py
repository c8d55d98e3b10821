"""Erasures: the rows of a data subject are removed from a dataset, and the models trained on them are tracked."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from windlass.domain.jobs import DomainModel
from windlass.domain.specs import Spec
from windlass.domain.text import TextConstraints

MIN_TEXT = 3
"""Characters of a searched text; a shorter one is in nearly every row."""
_MAX_KEYS = 1000

ErasureColumn = Literal["text", "label", "group"]
SearchText = Annotated[str, TextConstraints(min_length=1, max_length=10_000, multiline=True)]


def normalize_search_text(text: str) -> str:
    """Return the text in lower case and NFC, without control characters, with single spaces, stripped."""
    shown = "".join(char for char in text.lower() if char.isspace() or unicodedata.category(char) != "Cc")
    return unicodedata.normalize("NFC", " ".join(shown.split()))


class ErasureQuery(Spec):
    """Which rows belong to the data subject: a row that matches any of the entries.

    Texts are compared in lower case, in NFC and with single spaces. In a conversation ``text`` is any message.
    """

    contains: tuple[SearchText, ...] = Field(default=(), max_length=_MAX_KEYS)
    """Texts; a row matches that has one of them in a text, the label or the group."""
    rows: tuple[Annotated[dict[ErasureColumn, SearchText], Field(min_length=1)], ...] = Field(
        default=(), max_length=_MAX_KEYS
    )
    """Values by column; a row matches when all columns of an entry are equal."""

    @model_validator(mode="after")
    def _finds_something(self) -> Self:
        if not self.contains and not self.rows:
            raise ValueError("give at least one text or one row")
        short = [text for text in self.contains if len(normalize_search_text(text)) < MIN_TEXT]
        if short:
            raise ValueError(f"a searched text needs at least {MIN_TEXT} visible characters")
        if any(not normalize_search_text(value) for row in self.rows for value in row.values()):
            raise ValueError("a value of a row is blank")
        return self

    def search_keys(self) -> list[str]:
        """Return each entry in a canonical form, to be hashed: case, white space and the order of columns are lost."""
        texts = [f"contains:{normalize_search_text(text)}" for text in self.contains]
        rows = (sorted((column, normalize_search_text(value)) for column, value in row.items()) for row in self.rows)
        return texts + [f"row:{json.dumps(row, ensure_ascii=False)}" for row in rows]


class ErasureState(StrEnum):
    """The state of an erasure."""

    SEARCHING = "searching"
    """The versions of the dataset are searched."""
    FOUND = "found"
    """The matching rows are counted; nothing is changed until it is confirmed."""
    ERASING = "erasing"
    """The new version is created, then the old ones are deleted."""
    PENDING = "pending"
    """The rows are erased; a model that was trained on them, or an endpoint, still exists."""
    COMPLETE = "complete"
    CANCELLED = "cancelled"
    FAILED = "failed"


SEARCHED_STATES = frozenset({ErasureState.SEARCHING, ErasureState.FOUND, ErasureState.ERASING})
"""States in which the query is stored."""


class SearchedVersion(DomainModel):
    """A dataset version that was searched; one with matches is deleted."""

    id: str
    number: int
    rows: int
    matches: int | None = None
    """Matching rows; None: not searched yet."""
    created_at: datetime
    created_by: str
    files_deleted: bool = False


class CleanVersion(DomainModel):
    """The dataset version without the rows."""

    id: str
    number: int


class ErasureDescendant(DomainModel):
    """A model version that was trained on erased rows, or an endpoint that serves one."""

    kind: Literal["model version", "endpoint"]
    id: str
    name: str
    dataset_version: str = ""
    """Of a model version: what it was trained on, name@number, or an id when the version had been deleted before."""
    outcome: Literal["pending", "retrained", "deleted", "updated"] = "pending"
    """``retrained``: deleted, and its model has a newer version on clean data; ``updated``: it serves another one."""
    replaced_by: str = ""
    """The newer version of a model that was retrained."""
    resolved_at: datetime | None = None


class Erasure(DomainModel):
    """The erasure of a data subject from all versions of a dataset. The query is deleted with the rows."""

    id: str
    project: str
    dataset: str
    dataset_name: str
    state: ErasureState
    query: ErasureQuery | None
    key_hashes: tuple[str, ...]
    """HMAC of each search key under the pepper."""
    versions: tuple[SearchedVersion, ...]
    new_version: CleanVersion | None = None
    descendants: tuple[ErasureDescendant, ...] = ()
    checkpoints_deleted: int = 0
    problem: str = ""
    process_deaths: int = 0
    created_by: str
    created_at: datetime
    confirmed_by: str | None = None
    confirmed_at: datetime | None = None
    erased_at: datetime | None = None
    completed_at: datetime | None = None
    version: int = 1

    @property
    def affected(self) -> tuple[SearchedVersion, ...]:
        """The versions with matching rows."""
        return tuple(version for version in self.versions if version.matches)

    @property
    def pending_ids(self) -> frozenset[str]:
        """The ids of the descendants that still exist."""
        return frozenset(each.id for each in self.descendants if each.outcome == "pending")


def certificate_of(erasure: Erasure) -> dict[str, Any]:
    """Return the certificate: what was erased, by whom and when, and what became of each descendant.

    ``digest`` is the SHA-256 of the other fields as canonical JSON, so it changes only with the erasure.
    """
    content: dict[str, Any] = {
        "format": 1,
        "erasure": erasure.id,
        "project": erasure.project,
        "dataset": erasure.dataset_name,
        "state": erasure.state.value,
        "requested_by": erasure.created_by,
        "requested_at": _iso(erasure.created_at),
        "confirmed_by": erasure.confirmed_by,
        "confirmed_at": _iso(erasure.confirmed_at),
        "erased_at": _iso(erasure.erased_at),
        "completed_at": _iso(erasure.completed_at),
        "search_key_hashes": list(erasure.key_hashes),
        "rows_erased": sum(version.matches or 0 for version in erasure.affected),
        "versions_deleted": [
            {
                "id": version.id,
                "version": f"{erasure.dataset_name}@{version.number}",
                "rows": version.rows,
                "rows_of_the_subject": version.matches,
                "files_deleted": version.files_deleted,
            }
            for version in erasure.affected
        ],
        "versions_without_the_subject": [
            f"{erasure.dataset_name}@{version.number}" for version in erasure.versions if version.matches == 0
        ],
        "new_version": None if erasure.new_version is None else f"{erasure.dataset_name}@{erasure.new_version.number}",
        "checkpoints_deleted": erasure.checkpoints_deleted,
        "descendants": [each.model_dump(mode="json") for each in erasure.descendants],
    }
    return {**content, "digest": certificate_digest(content)}


def certificate_digest(certificate: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a certificate without its digest, as JSON with sorted keys and without spaces."""
    content = {name: value for name, value in certificate.items() if name != "digest"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
