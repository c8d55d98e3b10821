"""Datasets and their immutable versions: formats, recorded operations, validation reports.

The internal form is one UTF-8 JSONL file per split (``train.jsonl``, ``validation.jsonl``, ``test.jsonl``):
rows are ``{"text", "label", "group"?}`` for text classification, ``{"messages": [{"role", "content", "weight"?}],
"group"?}`` for chat. ``weight`` is 0 on an answer that is context only, and absent otherwise.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from windlass.domain.artifacts import FileEntry
from windlass.domain.erasures import ErasureQuery
from windlass.domain.ingest import MAX_LINE_BYTES, FileReport, IngestOptions
from windlass.domain.jobs import DomainModel
from windlass.domain.reports import JobWarning
from windlass.domain.specs import Spec, Task
from windlass.domain.text import TextConstraints
from windlass.kit.numbers import count

COLUMNS_IGNORED = "columns-ignored"
"""Code of the finding about columns of the upload that no field of a row is read from."""
CONVERTER_VERSION = 2
"""Incremented when the conversion to the internal form changes; recorded in every version."""


class Split(StrEnum):
    """The splits of a dataset version."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


Label = Annotated[str, TextConstraints(min_length=1, max_length=200)]


class DropMissing(Spec):
    """Drop rows whose text, label or any message is missing or blank."""

    op: Literal["drop-missing"] = "drop-missing"
    """Drop rows with a missing field."""


class FillMissing(Spec):
    """Replace a missing or blank field by a constant."""

    op: Literal["fill-missing"] = "fill-missing"
    """Replace missing values."""
    field: Literal["text", "label"]
    """Field to fill."""
    value: Annotated[str, TextConstraints(min_length=1, max_length=1000, multiline=True)]
    """The constant."""


class Deduplicate(Spec):
    """Keep the first of equal rows; with ``near``, also of rows with an estimated Jaccard of ``threshold``."""

    op: Literal["deduplicate"] = "deduplicate"
    """Drop duplicates."""
    near: bool = False
    """Drop near duplicates too."""
    threshold: float = Field(default=0.9, ge=0.5, le=1)
    """Similarity above which rows are near duplicates."""


class NormalizeText(Spec):
    """Apply Unicode NFC, remove control characters, collapse white space; optionally lower-case."""

    op: Literal["normalize-text"] = "normalize-text"
    """Normalize texts."""
    lowercase: bool = False
    """Convert to lower case."""


class MaskPersonalData(Spec):
    """Replace personal data that matches the patterns by a tag like ``[EMAIL]``."""

    op: Literal["mask-personal-data"] = "mask-personal-data"
    """Mask personal data."""
    kinds: tuple[Literal["email", "phone", "credit-card", "ip-address", "iban", "us-ssn"], ...] = (
        "email",
        "phone",
        "credit-card",
        "ip-address",
        "iban",
        "us-ssn",
    )
    """Kinds to mask."""


class MapLabels(Spec):
    """Replace labels."""

    op: Literal["map-labels"] = "map-labels"
    """Replace labels."""
    labels: Annotated[dict[Label, Label], Field(min_length=1, max_length=1000)]
    """New label by present label; each present label must have rows."""


class MergeLabels(Spec):
    """Merge labels that differ only in case, white space, Unicode form or number format, as the most frequent one."""

    op: Literal["merge-labels"] = "merge-labels"
    """Merge labels that look alike."""


class SplitRows(Spec):
    """Assign every row to a split. Rows with equal text stay together; groups and label proportions are optional."""

    op: Literal["split"] = "split"
    """Split the rows."""
    train: float = Field(default=0.8, ge=0, le=1)
    """Fraction of the training split."""
    validation: float = Field(default=0.2, ge=0, le=1)
    """Fraction of the validation split."""
    test: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the test split."""
    by_group: bool = False
    """Keep rows of a group in one split."""
    stratify: bool = False
    """Keep the proportions of labels; every label is in train."""
    source: Split | None = Field(default=None, description="split whose rows are divided; null: the rows of all splits")
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the assignment."""

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:  # noqa: PLR2004 - float rounding
            raise ValueError("train, validation and test must add up to 1")
        return self


class CopySplit(Spec):
    """Evaluate on the training rows (memorisation tasks); the overlap that this creates is allowed."""

    op: Literal["copy-split"] = "copy-split"
    """Copy a split."""
    source: Split = Split.TRAIN
    """Split to copy."""
    target: Split = Split.VALIDATION
    """Split to write."""


CleaningStep = Annotated[
    DropMissing
    | FillMissing
    | Deduplicate
    | NormalizeText
    | MaskPersonalData
    | MapLabels
    | MergeLabels
    | SplitRows
    | CopySplit,
    Field(discriminator="op"),
]


class VersionState(StrEnum):
    """The state of a dataset version; a rejected one has a report."""

    PROCESSING = "processing"
    READY = "ready"
    REJECTED = "rejected"
    FAILED = "failed"


class Finding(DomainModel):
    """One finding of the validation. ``error`` rejects the version, ``warning`` does not."""

    code: str
    """Stable code of the finding."""
    severity: Literal["error", "warning", "info"]
    """Error rejects the version."""
    message: str
    """What was found, as a sentence."""
    action: str = ""
    """What to do; may be empty."""
    file: str | None = None
    """Name of the file; null: none."""
    line: int | None = Field(default=None, description="1-based line (JSONL, CSV, TSV) or row (Parquet) of the file")
    pointer: str | None = Field(default=None, description="JSON pointer into the row")
    count: int = 1
    """Number of occurrences."""


class Histogram(DomainModel):
    """Counts per bin; ``len(edges) == len(counts) + 1``."""

    edges: tuple[float, ...]
    """Edges of the bins, ascending."""
    counts: tuple[int, ...]
    """Count per bin."""


class SplitReport(DomainModel):
    """Statistics of one split."""

    rows: int
    """Number of rows."""
    labels: dict[str, int] = Field(default_factory=dict)
    """Rows per label, without those that training skips."""
    missing: int = 0
    """Rows whose text, label or answer is missing; training skips them."""
    exact_duplicates: int = 0
    """Rows equal to an earlier one."""
    near_duplicates: int = 0
    """Rows similar to an earlier one."""
    groups: int | None = None
    """Number of groups; null: the rows have none."""
    tokens: Histogram | None = None
    """Histogram of tokens per row."""
    tokens_mean: float = 0.0
    """Mean of tokens per row."""
    tokens_max: int = 0
    """Most tokens of a row."""


class ValidationReport(DomainModel):
    """Result of the validation of a version."""

    findings: tuple[Finding, ...]
    """What was found."""
    files: tuple[FileReport, ...] = ()
    """How each file of the upload was read."""
    splits: dict[Split, SplitReport]
    """Statistics by split."""
    personal_data: dict[str, int] = Field(default_factory=dict)
    """Rows with personal data by kind."""
    overlap: dict[str, int] = Field(default_factory=dict, description="rows of a held-out split that are also in train")
    tokenizer: str = Field(default="whitespace", description="tokenizer of the token counts")
    steps: tuple[dict[str, Any], ...] = Field(
        default=(), description="effect of each cleaning step: op, rows in, rows out"
    )

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings of severity ``error``."""
        return tuple(f for f in self.findings if f.severity == "error")


def tokenizer_label(sha256: str) -> str:
    """Return how a report names the tokenizer whose ``tokenizer.json`` has this hash."""
    return f"tokenizer.json sha256:{sha256[:12]}"


class Dataset(DomainModel):
    """A named dataset of a project; its versions hold the content."""

    id: str
    project: str
    name: str
    task: Task
    description: str = ""
    purposes: tuple[str, ...] = ()
    """What jobs may train on it for; empty: anything."""
    consent_until: datetime | None = None
    """The end of the consent: no job may start to use it afterwards."""
    last_number: int = 0
    """The highest number ever assigned to a version; numbers are not reused."""
    created_at: datetime
    version: int = 1


class UploadFile(DomainModel):
    """One file of an upload, with its declared length and sha256."""

    name: str
    entry: FileEntry
    split: Split | None = None
    received: int = 0


class UploadState(StrEnum):
    """The state of an upload: open uploads accept bytes; a committed one is a dataset version."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Upload(DomainModel):
    """A resumable transfer into the staging area."""

    id: str
    project: str
    dataset: str
    files: tuple[UploadFile, ...]
    options: IngestOptions
    state: UploadState
    dataset_version: str | None = None
    created_at: datetime
    version: int = 1


class DatasetVersion(DomainModel):
    """An immutable, content-hashed version. ``steps`` are the operations applied to its parent or upload."""

    id: str
    project: str
    dataset: str
    number: int
    state: VersionState
    task: Task
    origin: Literal["upload", "clean"]
    upload: str | None = None
    parent: str | None = None
    erasure: str | None = None
    """The erasure whose rows it leaves out of its parent."""
    options: IngestOptions = IngestOptions()
    steps: tuple[CleaningStep, ...] = ()
    converter_version: int = CONVERTER_VERSION
    prefix: str
    digest: str | None = None
    rows: dict[Split, int] = Field(default_factory=dict)
    labels: tuple[str, ...] = ()
    report: ValidationReport | None = None
    problem: str = ""
    process_deaths: int = 0
    """How often its data process has died without a result."""
    created_by: str
    created_at: datetime
    version: int = 1

    @property
    def skipped_rows(self) -> dict[Split, int]:
        """Rows of each split that training skips, without splits of which it skips none."""
        splits = self.report.splits if self.report else {}
        return {split: statistics.missing for split, statistics in splits.items() if statistics.missing}

    @property
    def skipped_rows_warnings(self) -> tuple[JobWarning, ...]:
        """A warning for each split of which training skips rows."""
        return tuple(
            JobWarning(
                code="rows_skipped",
                message=skipped_rows_message(split, rows),
                context={"split": split.value, "rows": rows},
            )
            for split, rows in self.skipped_rows.items()
        )

    @property
    def unused_columns_warnings(self) -> tuple[JobWarning, ...]:
        """Warnings about columns of the upload that became no version's rows; cleaned versions have none."""
        findings = self.report.findings if self.report else ()
        return tuple(
            JobWarning(code="columns_unused", message=finding.message[:2000])
            for finding in findings
            if finding.code == COLUMNS_IGNORED
        )

    def usable_rows(self, split: Split) -> int:
        """Return how many rows of a split are trained or evaluated on."""
        return self.rows.get(split, 0) - self.skipped_rows.get(split, 0)


def skipped_rows_message(split: Split, rows: int) -> str:
    """Return a sentence about the rows of a split that training skips."""
    return f"training skips {count(rows, 'row')} of split {split}: the text, the label or an answer is missing"


class DataRequest(DomainModel):
    """Request to the data process: read ``inputs``, apply ``steps``, publish the internal form at ``output``."""

    operation: Literal["ingest", "clean", "search"]
    task: Task
    title: str = Field(default="dataset", max_length=200, description="display name of the version, for its report")
    options: IngestOptions
    inputs: tuple[tuple[str, Split | None], ...] = Field(
        description="(URI of a file, split); clean: the parent's JSONL files"
    )
    names: tuple[str, ...] = Field(default=(), description="the user's file names, for findings and format detection")
    entries: tuple[FileEntry, ...] = Field(default=(), description="declared length and sha256 of each input to verify")
    steps: tuple[CleaningStep, ...] = ()
    erase: ErasureQuery | None = None
    """Rows to leave out; with ``search`` only counted, and nothing is published."""
    output: str = Field(description="URI at which the version is published")
    tokenizer: str | None = Field(default=None, description="URI of a tokenizer.json for the length histogram")
    max_bytes: int = Field(default=4 << 30, description="limit of decompressed bytes to read")
    max_line_bytes: int = Field(default=MAX_LINE_BYTES)
    max_rows: int = Field(default=10_000_000)
    max_labels: int = Field(default=2000, description="limit of distinct labels")
    min_free_disk_bytes: int = Field(default=0, description="bytes to leave free on the disk")


class DataResult(DomainModel):
    """Result of the data process. ``digest`` identifies the rows: two versions with the same rows have the same one."""

    accepted: bool
    matches: tuple[int, ...] = ()
    """Of a search: the matching rows of each input."""
    report: ValidationReport
    rows: dict[Split, int] = Field(default_factory=dict)
    labels: tuple[str, ...] = ()
    digest: str | None = None
    automatic_steps: tuple[CleaningStep, ...] = ()
    """Steps applied to an upload without validation rows, in addition to those of the request."""
