"""Base models, jobs and what they tell."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from windlass.domain.ids import Name
from windlass.domain.jobs import JobState
from windlass.domain.specs import JobSpec, Task
from windlass.wire.base import In, Out, ReasonOut, shown


class BaseModelIn(In):
    """Add a base model from a folder on the server's disk (embedded mode, platform admins)."""

    model_config = shown({"name": "minilm-l6", "path": "/srv/models/minilm-l6", "licence": "Apache-2.0"})

    name: Name
    path: str = Field(min_length=1, max_length=4096)
    licence: str = Field(default="unknown", max_length=100)
    source: str = Field(default="", max_length=500)


class BaseModelOut(Out):
    """A model that jobs may start from."""

    name: str
    tasks: list[Task]
    licence: str
    source: str
    parameters: int | None
    bytes: int
    digest: str | None
    state: Literal["importing", "ready", "failed"]
    problem: str
    created_at: datetime


class JobIn(In):
    """Submit a job: the spec, as in a ``-f job.yaml`` file."""

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


class RunOut(Out):
    """One pipeline run of a job."""

    number: int
    name: str
    state: str
    steps: dict[str, str]
    created_at: datetime
    ended_at: datetime | None


class AttemptOut(Out):
    """One life of the job's trainer."""

    number: int
    run: int
    state: str
    resumed_from_step: int | None
    claimed_at: datetime
    ended_at: datetime | None


class JobOut(Out):
    """A fine-tuning job."""

    id: str
    project: str
    name: str | None
    state: JobState
    reason: ReasonOut | None
    spec: JobSpec
    dataset: str = Field(description="resolved reference, name@number")
    model: str
    model_version: int | None
    attempt: int
    run: int
    retry_of: str | None
    progress: float | None = Field(default=None, description="share of the planned steps done, 0..1")
    created_by: str
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    version: int


class JobDetailOut(JobOut):
    """A job with its runs and attempts: ``GET .../jobs/{id}``."""

    runs: list[RunOut]
    attempts: list[AttemptOut]
    evaluation: dict[str, Any] | None


class SimulationOut(Out):
    """What the scheduler would do with a job now; nothing is written."""

    verdict: Literal["starts", "waits", "never"]
    position: int | None
    reason: ReasonOut | None
    would_preempt: list[str] = Field(description="job ids of this project; jobs of others are counted in facts only")
    smallest_change: str | None


class EventOut(Out):
    """A typed fact of a job; ``sequence`` grows by one and is the SSE event id."""

    sequence: int
    time: datetime
    code: str
    message: str
    facts: dict[str, Any]
    attempt: int | None


class MetricSeriesOut(Out):
    """One numeric series: each step once, the newest attempt's value where attempts overlap."""

    name: str
    steps: list[int]
    values: list[float | None]


class MetricsOut(Out):
    """The series of a job. ``?after=STEP`` gives later points only; ``?names=a,b`` selects."""

    series: list[MetricSeriesOut]


class CheckpointOut(Out):
    """A committed checkpoint."""

    step: int
    attempt: int
    bytes: int
    metrics: dict[str, float]
    created_at: datetime
