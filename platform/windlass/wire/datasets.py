"""Datasets, uploads, versions."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from windlass.domain.artifacts import Sha256
from windlass.domain.datasets import CleaningStep, IngestOptions, Split, ValidationReport, VersionState
from windlass.domain.ids import Name
from windlass.domain.specs import Task
from windlass.wire.base import In, Out, shown


class DatasetIn(In):
    """Create a named dataset."""

    model_config = shown({"name": "reviews", "task": "text-classification"})

    name: Name
    task: Task
    description: str = Field(default="", max_length=2000)


class DatasetPatch(In):
    """Change a dataset."""

    model_config = shown({"description": "Product reviews, three labels"})

    description: str = Field(max_length=2000)


class DatasetOut(Out):
    """A named dataset; ``latest`` is its newest ready version's number."""

    id: str
    name: str
    task: Task
    description: str
    latest: int | None
    created_at: datetime
    version: int


FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class UploadFileIn(In):
    """One file to come."""

    name: FileName
    bytes: int = Field(ge=0, le=1 << 40)
    sha256: Sha256
    split: Split | None = Field(default=None, description="null: rows without a split stand in train until split")


class UploadIn(In):
    """Open an upload: announce every file, then PUT its bytes to ``url``, then commit."""

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
    files: list[UploadFileIn] = Field(min_length=1, max_length=100)
    options: IngestOptions = IngestOptions()


class UploadFileOut(Out):
    """A file of an upload. PUT its bytes to ``url``; to resume, the rest with ``Upload-Offset: <received>``."""

    name: str
    bytes: int
    sha256: str
    split: Split | None
    received: int
    url: str = Field(description="path on this server")


class UploadOut(Out):
    """An upload."""

    id: str
    dataset: str
    state: Literal["open", "committed", "aborted"]
    files: list[UploadFileOut]
    dataset_version: str | None
    number: int | None = Field(default=None, description="number of the dataset version that the commit made")
    created_at: datetime


class CleanIn(In):
    """Make a new version by recorded cleaning steps, carried out in order."""

    model_config = shown({"steps": [{"op": "deduplicate"}, {"op": "split", "train": 0.8, "validation": 0.2}]})

    steps: list[CleaningStep] = Field(min_length=1, max_length=20)
    allow_overlap: bool = False


class DatasetVersionOut(Out):
    """An immutable version. ``ref`` (``name@number``) is what a job names."""

    id: str
    ref: str
    dataset: str
    number: int
    state: VersionState
    task: Task
    origin: Literal["upload", "clean"]
    parent: str | None
    steps: list[dict[str, Any]]
    converter_version: int
    digest: str | None
    rows: dict[Split, int]
    labels: list[str]
    errors: int = Field(description="findings that reject the version")
    warnings: int
    problem: str
    created_at: datetime


class DatasetReportOut(Out):
    """The validation report of a version: ``GET .../versions/{n}/report`` (HTML with ``Accept: text/html``)."""

    ref: str
    state: VersionState
    report: ValidationReport
