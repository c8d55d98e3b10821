"""Base models, jobs, and their events, metrics and checkpoints."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from windlass.domain.artifacts import Sha256
from windlass.domain.ids import Name
from windlass.domain.jobs import JobState
from windlass.domain.specs import JobSpec, Task, TrainingSpec
from windlass.domain.text import DisplayName, TextConstraints
from windlass.wire.base import In, JobWarningOut, Out, ReasonOut, shown


class BaseModelFileIn(In):
    """A file of a base model to upload."""

    path: Annotated[str, TextConstraints(min_length=1, max_length=300)]
    """Path relative to the model's folder."""
    bytes: int = Field(ge=0, le=1 << 40)
    """Length."""
    sha256: Sha256
    """SHA-256 of the content."""


class BaseModelFileOut(Out):
    """A declared file of a base model. PUT its bytes to ``url``; resume with ``Upload-Offset: <received>``."""

    path: str
    """Path relative to the model's folder."""
    bytes: int
    """Declared length."""
    received: int
    """Bytes that have arrived."""
    url: str = Field(description="path on this server")


class BaseModelIn(In):
    """Add a base model from the server's disk, or with files that are uploaded next (platform admins)."""

    model_config = shown({"name": "minilm-l6", "path": "/srv/models/minilm-l6", "licence": "Apache-2.0"})

    name: Name
    """Name in the catalogue."""
    path: Annotated[str, TextConstraints(min_length=1, max_length=4096)] | None = None
    """Folder or GGUF file on the server's disk; null: the files are uploaded."""
    files: list[BaseModelFileIn] = Field(default=[], max_length=1000)
    """Files to upload, for a server that does not read the client's disk."""
    licence: DisplayName = "unknown"
    """Licence of the weights."""
    source: Annotated[str, TextConstraints(max_length=500)] = ""
    """Where the weights come from."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (not self.files):
            raise ValueError("give either path or files")
        return self


class BaseModelOut(Out):
    """A base model for fine-tuning jobs."""

    name: str
    """Name in the catalogue."""
    tasks: list[Task]
    """Tasks that it can be tuned for."""
    licence: str
    """Licence of the weights."""
    source: str
    """Where the weights come from."""
    parameters: int | None
    """Number of parameters; null before the import."""
    max_positions: int | None = Field(description="longest input in tokens; null when unknown or unlimited")
    bytes: int
    """Size of the files."""
    digest: str | None
    """SHA-256 over all files."""
    state: Literal["uploading", "importing", "ready", "failed"]
    """State of the import."""
    files: list[BaseModelFileOut] = Field(description="declared files of a model that is uploaded")
    problem: str
    """Why the import failed; empty: it did not."""
    created_at: datetime
    """Time of creation."""


class JobIn(In):
    """Submit a job. ``spec`` is the content of a ``-f job.yaml`` file."""

    model_config = shown(
        {
            "spec": {
                "task": "text-classification",
                "base_model": "minilm-l6",
                "dataset": "reviews@2",
                "method": {"type": "lora", "rank": 16},
                "evaluation": {"gates": ["weighted_f1 >= 0.6"]},
                "model": "review-sentiment",
            }
        }
    )

    spec: JobSpec
    """What to train."""


class RunOut(Out):
    """One pipeline run of a job."""

    number: int
    """Number within the job, from 1."""
    name: str
    """Name of the pipeline run."""
    state: str
    """State of the run."""
    steps: dict[str, str]
    """State by pipeline step."""
    created_at: datetime
    """Time of creation."""
    ended_at: datetime | None
    """When its processes had exited; null: it is active."""


class AttemptOut(Out):
    """One execution of the job's trainer."""

    number: int
    """Number within the job, from 1."""
    run: int
    """Number of its run."""
    state: str
    """Live, or how it ended."""
    resumed_from_step: int | None
    """Step of the checkpoint that it resumed from; null: it started from the base model."""
    acquired_at: datetime
    """When the trainer started."""
    ended_at: datetime | None
    """When it ended; null: it is live."""


class JobOut(Out):
    """A fine-tuning job."""

    id: str
    """Id of the job."""
    project: str
    """Name of the project."""
    name: str | None
    """Display name."""
    state: JobState
    """State of the job."""
    reason: ReasonOut | None
    """Why it waits or failed."""
    spec: JobSpec
    """The submitted spec."""
    dataset: str = Field(description="resolved reference, name@number")
    world_size: int
    """Training processes: one for each GPU; in a pool without GPUs one for each worker."""
    model: str
    """Name of the model that the result is registered under."""
    model_version: int | None
    """Number of the registered version; null: none."""
    decision: Literal["candidate", "rejected"] | None = Field(
        default=None, description="decision of the gates on the registered version; null: none"
    )
    attempt: int
    """Number of the newest attempt; 0: none."""
    run: int
    """Number of the newest run; 0: none."""
    warnings: list[JobWarningOut] = Field(
        default=[], description="about its dataset version; after the registration also about its training and result"
    )
    retry_of: str | None
    """Id of the job that this one repeats."""
    progress: float | None = Field(default=None, description="fraction of the planned steps done, 0..1")
    created_by: str
    """User who submitted it."""
    created_at: datetime
    """Time of the submission."""
    queued_at: datetime | None
    """When it entered the queue."""
    started_at: datetime | None
    """When its first attempt started."""
    finished_at: datetime | None
    """When it reached a terminal state."""
    version: int
    """Version of this object."""


class JobDetailOut(JobOut):
    """A job with its runs and attempts: ``GET .../jobs/{id}``."""

    runs: list[RunOut]
    """Its pipeline runs, oldest first."""
    attempts: list[AttemptOut]
    """Its attempts, oldest first."""
    evaluation: dict[str, Any] | None
    """Evaluation of the newest result; null: none."""


class DefaultOut(Out):
    """A hyperparameter that the job left open, and why it has this value."""

    field: str
    """Its name in ``spec.training``."""
    value: float
    """The value that was chosen."""
    reason: str
    """Why it has this value."""


class SimulationOut(Out):
    """The predicted outcome of submitting a job now; nothing is stored."""

    verdict: Literal["starts", "waits", "never"]
    """Starts: now; waits: in the queue; never: not under the current quota."""
    position: int | None
    """Position in the project's queue, from 1; null: it starts."""
    reason: ReasonOut | None
    """Why it waits or never starts."""
    would_preempt: list[str] = Field(
        description="job ids of this project; jobs of other projects are only counted, in context"
    )
    smallest_change: str | None
    """The smallest change that lets it start; null: none is needed."""
    training: TrainingSpec = Field(description="the hyperparameters that the job would train with")
    world_size: int = Field(description="training processes; each trains with batch_size rows per optimizer step")
    defaults: list[DefaultOut] = Field(description="those of them that the job left open")
    warnings: list[JobWarningOut] = Field(description="what of the data would not be used, and nodes without room")


class EventOut(Out):
    """A typed event of a job; ``sequence`` increases by one and is the SSE event id."""

    sequence: int
    """Number within the job, from 1."""
    time: datetime
    """When it happened."""
    code: str
    """Stable code of the event."""
    message: str
    """What happened, as a sentence."""
    context: dict[str, Any]
    """Values of the event for programs."""
    attempt: int | None
    """Number of the attempt; null: none."""


class MetricSeriesOut(Out):
    """One numeric series: one value per step, of the newest attempt where attempts overlap.

    With fewer points than ``total`` the series is downsampled; it contains the minimum and maximum of each part.
    """

    name: str
    """Name of the metric."""
    steps: list[int]
    """Optimizer steps, ascending."""
    values: list[float | None]
    """One value per step; null: not a finite number."""
    total: int = Field(description="number of stored points")


class MetricsOut(Out):
    """The series of a job, each with at most ``points`` points. ``?after=STEP`` and ``?names=a,b`` select points."""

    series: list[MetricSeriesOut]
    """One series per metric."""


class MetricPointOut(Out):
    """One stored point of a series. ``value`` is null if it is not finite."""

    step: int
    """Optimizer step."""
    value: float | None
    """The value; null: not a finite number."""
    attempt: int
    """Number of the attempt that reported it."""


class CheckpointOut(Out):
    """A committed checkpoint."""

    step: int
    """Optimizer step."""
    attempt: int
    """Number of the attempt."""
    bytes: int
    """Size of the files."""
    metrics: dict[str, float]
    """Metrics at this step."""
    created_at: datetime
    """Time of the commit."""
