"""Datasets, uploads, versions."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from windlass.domain.artifacts import Sha256
from windlass.domain.datasets import CleaningStep, Split, ValidationReport, VersionState
from windlass.domain.ids import Name
from windlass.domain.ingest import IngestOptions
from windlass.domain.specs import Task
from windlass.domain.text import Description
from windlass.wire.base import In, Out, Page, shown

_YEARS = range(1970, 9000)


def _storable(value: datetime) -> datetime:
    if value.year not in _YEARS:
        raise ValueError(f"the year must be between {_YEARS.start} and {_YEARS.stop - 1}")
    return value


ConsentUntil = Annotated[AwareDatetime, AfterValidator(_storable)]
Purposes = Annotated[list[Name], Field(max_length=50)]


class DatasetIn(In):
    """Create a named dataset."""

    model_config = shown({"name": "reviews", "task": "text-classification"})

    name: Name
    """Name, unique in the project."""
    task: Task
    """Task that its rows are for."""
    description: Description = ""
    """Free text."""
    purposes: Purposes = Field(default=[], description="what jobs may train on it for; empty: anything")
    consent_until: ConsentUntil | None = None
    """End of the consent: no job is accepted afterwards."""


class DatasetPatch(In):
    """Change a dataset."""

    model_config = shown({"description": "Product reviews, three labels"})

    description: Description = ""
    """Free text."""
    purposes: Purposes = Field(default=[], description="what jobs may train on it for; empty: anything")
    consent_until: ConsentUntil | None = None
    """End of the consent; null: none."""


class DatasetOut(Out):
    """A named dataset; ``latest`` is its newest ready version's number."""

    id: str
    """Id of the dataset."""
    name: str
    """Name, unique in the project."""
    task: Task
    """Task that its rows are for."""
    description: str
    """Free text."""
    latest: int | None
    """Number of the newest ready version; null: none."""
    purposes: list[str] = Field(default=[], description="what jobs may train on it for; empty: anything")
    consent_until: datetime | None = None
    """End of the consent; null: none."""
    created_at: datetime
    """Time of creation."""
    version: int
    """Version of this object, for If-Match."""


FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class UploadFileIn(In):
    """One file of a new upload."""

    name: FileName
    """Name of the file, unique in the upload."""
    bytes: int = Field(ge=0, le=1 << 40)
    """Length of the file."""
    sha256: Sha256
    """SHA-256 of the content, in hexadecimal."""
    split: Split | None = Field(default=None, description="null: rows without a split are in train until split")


class UploadIn(In):
    """Open an upload: declare all files, PUT the bytes of each to its ``url``, then commit."""

    model_config = shown(
        {
            "dataset": "reviews",
            "files": [
                {
                    "name": "reviews.csv",
                    "bytes": 11,
                    "sha256": "64ec88ca00b268e5ba1a35678a1b5316d212f4f366b2477232534a8aeca37f3c",
                }
            ],
            "options": {"columns": {"text": "sentence", "label": "rating"}},
        }
    )

    dataset: Name
    """Dataset that gets a new version."""
    files: list[UploadFileIn] = Field(min_length=1, max_length=100)
    """The files to send."""
    options: IngestOptions = IngestOptions()
    """How to read the files."""


class UploadFileOut(Out):
    """A file of an upload. PUT its bytes to ``url``; to resume, PUT the rest with ``Upload-Offset: <received>``."""

    name: str
    """Name of the file."""
    bytes: int
    """Declared length."""
    sha256: str
    """Declared SHA-256."""
    split: Split | None
    """Split that its rows are assigned to."""
    received: int
    """Bytes that have arrived."""
    url: str = Field(description="path on this server")
    parts_url: str | None = Field(
        default=None,
        description="path on this server; POST to get URLs of the object store that accept the next parts; null: send "
        "the bytes to `url`",
    )


class UploadPartOut(Out):
    """A part of a file: PUT its bytes to ``url`` with ``headers``, and without the credential of this server."""

    offset: int
    """Position of its first byte in the file."""
    bytes: int
    """Length."""
    url: str
    """URL of the object store, valid for some time; it accepts exactly this part, once."""
    headers: dict[str, str]
    """Headers that the request must have."""


class UploadPartsOut(Out):
    """The next parts of a file; empty when all of its bytes have arrived."""

    parts: list[UploadPartOut]
    """The parts, in order."""


class UploadOut(Out):
    """An upload."""

    id: str
    """Id of the upload."""
    dataset: str
    """Name of the dataset."""
    state: Literal["open", "committed", "aborted"]
    """Open: accepts bytes; committed: has become a dataset version."""
    files: list[UploadFileOut]
    """The declared files."""
    dataset_version: str | None
    """Id of the dataset version created by the commit."""
    number: int | None = Field(default=None, description="number of the dataset version created by the commit")
    created_at: datetime
    """Time of creation."""


class CleanIn(In):
    """Create a new version by recorded cleaning steps, applied in order."""

    model_config = shown({"steps": [{"op": "deduplicate"}, {"op": "split", "train": 0.8, "validation": 0.2}]})

    steps: list[CleaningStep] = Field(min_length=1, max_length=20)
    """Cleaning steps, applied in order."""
    allow_overlap: bool = False
    """Accept rows that are in both train and a held-out split."""


class DatasetVersionOut(Out):
    """An immutable version. Jobs refer to it by ``ref`` (``name@number``)."""

    id: str
    """Id of the version."""
    ref: str
    """Reference for job specs, name@number."""
    dataset: str
    """Name of the dataset."""
    number: int
    """Number within the dataset, from 1."""
    state: VersionState
    """State of the processing."""
    task: Task
    """Task that its rows are for."""
    origin: Literal["upload", "clean"]
    """Made by an upload or by cleaning another version."""
    parent: str | None
    """Id of the version that was cleaned."""
    options: IngestOptions = IngestOptions()
    """Options given with the upload; the report states how each file was read."""
    steps: list[dict[str, Any]]
    """Cleaning steps applied to the parent, or by an upload to its rows (automatic split)."""
    converter_version: int
    """Version of the conversion to the internal format."""
    digest: str | None
    """SHA-256 over all files."""
    rows: dict[Split, int]
    """Number of rows by split."""
    labels: list[str]
    """The labels, sorted."""
    errors: int = Field(description="findings that reject the version")
    warnings: int
    """Findings that do not reject the version."""
    problem: str
    """Why the processing failed; empty: it did not."""
    created_at: datetime
    """Time of creation."""


class TruncatedCellOut(Out):
    """A text of a row that was too long for the page."""

    item: int = Field(description="index in ``items``")
    pointer: str = Field(description="JSON pointer into the row; empty if the whole row was too long and is omitted")
    characters: int = Field(description="length of the whole text, or of the row's line")


class DatasetRowsPage(Page[dict[str, Any]]):
    """Rows of a split. A page ends early when its rows are large."""

    truncated: list[TruncatedCellOut] = Field(default_factory=list, description="texts that are not complete")


class DatasetReportOut(Out):
    """The validation report of a version: ``GET .../versions/{n}/report`` (HTML with ``Accept: text/html``)."""

    ref: str
    """Reference of the version, name@number."""
    state: VersionState
    """State of the version."""
    report: ValidationReport
    """The validation report."""
