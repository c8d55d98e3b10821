"""Datasets and their immutable versions: formats, recorded operations, validation reports.

The internal form is one UTF-8 JSONL file per split (``train.jsonl``, ``validation.jsonl``, ``test.jsonl``):
rows are ``{"text", "label", "group"?}`` for text classification, ``{"messages": [{"role", "content"}], "group"?}`` for
chat.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from windlass.domain.artifacts import FileEntry
from windlass.domain.jobs import Fact
from windlass.domain.specs import Spec, Task

CONVERTER_VERSION = 1
"""Raised when the conversion to the internal form changes; recorded in every version."""


class Split(StrEnum):
    """The parts of a dataset version."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class FileFormat(StrEnum):
    """What an uploaded file is."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class RowFormat(StrEnum):
    """How a row of the file carries the example."""

    TEXT_LABEL = "text-label"
    MESSAGES = "messages"
    PROMPT_COMPLETION = "prompt-completion"
    ALPACA = "alpaca"


Column = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class IngestOptions(Spec):
    """How to read the files. ``columns`` maps our field (``text``, ``label``, ``group``) to the file's column."""

    file_format: FileFormat | None = Field(default=None, description="default: by the file name's ending (.gz allowed)")
    row_format: RowFormat | None = Field(default=None, description="default: by the task and the columns found")
    columns: dict[str, Column] = Field(default_factory=dict, max_length=16)
    allow_overlap: bool = Field(default=False, description="accept rows that stand in both train and a held-out split")


class DropMissing(Spec):
    """Drop rows whose text, label or any message is missing or blank."""

    op: Literal["drop-missing"] = "drop-missing"


class FillMissing(Spec):
    """Put a constant where a field is missing or blank."""

    op: Literal["fill-missing"] = "fill-missing"
    field: Literal["text", "label"]
    value: str = Field(min_length=1, max_length=1000)


class Deduplicate(Spec):
    """Keep the first of equal rows; with ``near``, also of rows as similar as ``threshold`` (estimated Jaccard)."""

    op: Literal["deduplicate"] = "deduplicate"
    near: bool = False
    threshold: float = Field(default=0.9, ge=0.5, le=1)


class NormalizeText(Spec):
    """Unicode NFC, control characters out, runs of white space to one space; lower-case on request."""

    op: Literal["normalize-text"] = "normalize-text"
    lowercase: bool = False


class MaskPersonalData(Spec):
    """Replace what the patterns find by a tag like ``[EMAIL]``."""

    op: Literal["mask-personal-data"] = "mask-personal-data"
    kinds: tuple[Literal["email", "phone", "credit-card", "ip-address", "iban", "us-ssn"], ...] = (
        "email",
        "phone",
        "credit-card",
        "ip-address",
        "iban",
        "us-ssn",
    )


class SplitRows(Spec):
    """Assign every row to a split: whole groups stay together, labels keep their proportions when stratified."""

    op: Literal["split"] = "split"
    train: float = Field(default=0.8, ge=0, le=1)
    validation: float = Field(default=0.2, ge=0, le=1)
    test: float = Field(default=0.0, ge=0, le=1)
    by_group: bool = False
    stratify: bool = False
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:  # noqa: PLR2004 - float rounding
            raise ValueError("train, validation and test must add up to 1")
        return self


class CopySplit(Spec):
    """Evaluate on the rows that are trained on (memorisation tasks); recorded, and allows the overlap it makes."""

    op: Literal["copy-split"] = "copy-split"
    source: Split = Split.TRAIN
    target: Split = Split.VALIDATION


CleaningStep = Annotated[
    DropMissing | FillMissing | Deduplicate | NormalizeText | MaskPersonalData | SplitRows | CopySplit,
    Field(discriminator="op"),
]


class VersionState(StrEnum):
    """Where a dataset version stands; a rejected one keeps its report."""

    PROCESSING = "processing"
    READY = "ready"
    REJECTED = "rejected"
    FAILED = "failed"


class Finding(Fact):
    """One thing the validation found. ``error`` rejects the version, ``warning`` does not."""

    code: str
    severity: Literal["error", "warning", "info"]
    message: str
    action: str = ""
    file: str | None = None
    line: int | None = Field(default=None, description="1-based line (JSONL, CSV, TSV) or row (Parquet) of the file")
    pointer: str | None = Field(default=None, description="JSON pointer into the row")
    count: int = 1


class Histogram(Fact):
    """Counts between edges; ``len(edges) == len(counts) + 1``."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class SplitReport(Fact):
    """Numbers of one split."""

    rows: int
    labels: dict[str, int] = Field(default_factory=dict)
    missing: int = 0
    exact_duplicates: int = 0
    near_duplicates: int = 0
    groups: int | None = None
    tokens: Histogram | None = None
    tokens_mean: float = 0.0
    tokens_max: int = 0


class ValidationReport(Fact):
    """What is known about a version before it may be used."""

    findings: tuple[Finding, ...]
    splits: dict[Split, SplitReport]
    personal_data: dict[str, int] = Field(default_factory=dict)
    overlap: dict[str, int] = Field(
        default_factory=dict, description="rows of a held-out split that also stand in train"
    )
    tokenizer: str = Field(default="whitespace", description="what counted the tokens")
    steps: tuple[dict[str, Any], ...] = Field(
        default=(), description="what each cleaning step did: op, rows in, rows out"
    )

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that reject the version."""
        return tuple(f for f in self.findings if f.severity == "error")


class Dataset(Fact):
    """Named data of a project; its content lives in versions."""

    id: str
    project: str
    name: str
    task: Task
    description: str = ""
    last_number: int = 0
    """The highest number that a version of it has ever had: a number is never given twice."""
    created_at: datetime
    version: int = 1


class UploadFile(Fact):
    """One file of an upload, announced with its length and sha256."""

    name: str
    entry: FileEntry
    split: Split | None = None
    received: int = 0


class UploadState(StrEnum):
    """An open upload takes bytes; a committed one has become a dataset version."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Upload(Fact):
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


class DatasetVersion(Fact):
    """An immutable, content-hashed version. ``steps`` are the cleaning operations that made it from its parent."""

    id: str
    project: str
    dataset: str
    number: int
    state: VersionState
    task: Task
    origin: Literal["upload", "clean"]
    upload: str | None = None
    parent: str | None = None
    options: IngestOptions = IngestOptions()
    steps: tuple[CleaningStep, ...] = ()
    converter_version: int = CONVERTER_VERSION
    prefix: str
    digest: str | None = None
    rows: dict[Split, int] = Field(default_factory=dict)
    labels: tuple[str, ...] = ()
    report: ValidationReport | None = None
    problem: str = ""
    created_by: str
    created_at: datetime
    version: int = 1


class DataRequest(Fact):
    """What the data process is asked: read ``inputs``, apply ``steps``, write the internal form to ``output``."""

    operation: Literal["ingest", "clean"]
    task: Task
    title: str = Field(default="dataset", max_length=200, description="how people call the version, for its report")
    options: IngestOptions
    inputs: tuple[tuple[str, Split | None], ...] = Field(
        description="(local path, split); clean: the parent's JSONL files"
    )
    names: tuple[str, ...] = Field(default=(), description="the user's file names, for findings and format detection")
    steps: tuple[CleaningStep, ...] = ()
    output: str
    tokenizer: str | None = Field(default=None, description="path of a tokenizer.json for the length histogram")
    max_bytes: int = Field(default=4 << 30, description="decompressed bytes that may be read")
    max_line_bytes: int = Field(default=4 << 20)
    max_rows: int = Field(default=10_000_000)
    reserve_bytes: int = Field(default=0, description="what must stay free on the output's disk")


class DataResult(Fact):
    """What the data process answers (``result.json`` in ``output``, beside ``manifest.json`` and the splits)."""

    accepted: bool
    report: ValidationReport
    rows: dict[Split, int] = Field(default_factory=dict)
    labels: tuple[str, ...] = ()
    digest: str | None = None
