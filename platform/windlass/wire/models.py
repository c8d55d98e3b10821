"""Models, versions, aliases, endpoints, predictions."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from windlass.domain.endpoints import (
    MAX_INPUT_CHARACTERS,
    MAX_INPUTS,
    MAX_TOP_K,
    EndpointSpec,
    EndpointState,
)
from windlass.domain.ids import Name, Number
from windlass.domain.specs import Task
from windlass.domain.text import Description
from windlass.wire.base import In, JobWarningOut, Out, ReasonOut, shown


class ModelOut(Out):
    """A registered model with its aliases (alias -> version number)."""

    id: str
    """Id of the model."""
    name: str
    """Name, unique in the project."""
    task: Task
    """Task of the model."""
    description: str
    """Free text."""
    aliases: dict[str, int]
    """Version number by alias."""
    latest: int | None
    """Highest version number; null: none."""
    erasure_pending: list[str] = Field(default=[], description="ids of erasures that wait for a version of it")
    created_at: datetime
    """Time of creation."""
    version: int
    """Version of this object, for If-Match."""


class ModelPatch(In):
    """Update a model."""

    model_config = shown({"description": "Sentiment of a sentence"})

    description: Description
    """Free text."""


class ModelFileOut(Out):
    """One file of a version's artifact; ``GET .../files/{path}`` returns its bytes."""

    path: str
    """Path within the artifact."""
    bytes: int
    """Length of the file."""
    sha256: str
    """SHA-256 of the content."""


class ModelVersionOut(Out):
    """A registered result. A rejected one failed its gates and cannot take an alias or be served."""

    id: str
    """Id of the version."""
    model: str
    """Name of the model."""
    number: int
    """Number within the model, from 1."""
    decision: Literal["candidate", "rejected"]
    """Candidate: passed its gates; rejected: failed them."""
    reason: ReasonOut | None
    """Why it was rejected."""
    evaluation: dict[str, Any]
    """Metrics on the held-out split."""
    warnings: list[JobWarningOut] = Field(default=[], description="of the job that trained it")
    job: str
    """Id of the job that trained it."""
    attempt: int
    """Number of the attempt that trained it."""
    dataset: str
    """Reference of the dataset version, name@number."""
    base_model: str
    """Name of the base model."""
    digest: str
    """SHA-256 over all files."""
    bytes: int
    """Size of the files."""
    files: list[ModelFileOut]
    """The files of the artifact."""
    purposes: list[str] = Field(default=[], description="what it may be used for, by its data; empty: anything")
    erasure_pending: list[str] = Field(default=[], description="ids of erasures of rows that it was trained on")
    lineage: list["LineageOut"]
    """What it was created from; empty in lists."""
    created_at: datetime
    """Time of the registration."""


class LineageOut(Out):
    """One edge: ``subject`` was created from ``object``."""

    subject: str
    """Kind:id of the created object."""
    relation: str
    """How it was created."""
    object: str
    """Kind:id of the origin."""
    subject_name: str = Field(default="", description="reference of the created object, such as m@1; empty: deleted")
    object_name: str = Field(default="", description="reference of the origin, such as reviews@2; empty: deleted")


class AliasIn(In):
    """Point an alias at a version: ``PUT /models/{m}/aliases/{alias}``."""

    model_config = shown({"version": 3})

    version: Number
    """Number of a candidate version."""


class EndpointIn(In):
    """Create an endpoint."""

    model_config = shown(
        {
            "name": "sentiment",
            "spec": {"traffic": [{"model": "review-sentiment", "alias": "champion"}], "replicas": {"min": 1, "max": 4}},
        }
    )

    name: Name
    """Name, unique in the project."""
    spec: EndpointSpec
    """What to serve."""


class EndpointPatch(In):
    """Update the spec of an endpoint; starts a rollout."""

    model_config = shown({"spec": {"traffic": [{"model": "review-sentiment", "version": 4}]}})

    spec: EndpointSpec
    """What to serve; replaces the whole spec."""


class LiveTargetOut(Out):
    """A model version that serves now."""

    model: str
    """Name of the model."""
    number: int
    """Number of the version."""
    weight: int
    """Share of the traffic in per cent."""


class EndpointOut(Out):
    """An endpoint."""

    id: str
    """Id of the endpoint."""
    name: str
    """Name, unique in the project."""
    task: Task
    """Task of its models."""
    state: EndpointState
    """State of the rollout."""
    spec: EndpointSpec
    """What should be served."""
    live: list[LiveTargetOut]
    """What serves now."""
    reason: ReasonOut | None
    """Why it waits or failed."""
    generation: int
    """Number of the newest spec."""
    observed_generation: int
    """Number of the spec that was rolled out last."""
    ready_replicas: int
    """Replicas that answer requests."""
    desired_replicas: int
    """Replicas that there should be now, by the load; 0: scaled to zero, or nothing is served."""
    purposes: list[str] = Field(default=[], description="what all of its models may be used for; empty: anything")
    erasure_pending: list[str] = Field(default=[], description="ids of erasures that wait for another version")
    predict_url: str = Field(description="path on this server: :predict or chat/completions, by task")
    created_at: datetime
    """Time of creation."""
    changed_at: datetime
    """When the spec changed last."""
    version: int
    """Version of this object, for If-Match."""


class TrafficCountsOut(Out):
    """Requests to an endpoint by outcome, and how long those that succeeded took."""

    requests: int
    """All requests."""
    succeeded: int
    """With a complete reply."""
    rejected: int
    """Refused with a status of 4xx: the request was wrong, or the model server was busy."""
    failed: int
    """Ended with a status of 5xx, or timed out."""
    cancelled: int
    """The client disconnected before the end of the reply."""
    p50_milliseconds: float | None
    """Half of the successful requests were as fast; estimated from a histogram. Null: none succeeded."""
    p95_milliseconds: float | None
    """95 % of the successful requests were as fast."""


class TrafficPointOut(TrafficCountsOut):
    """The requests that ended in one step of time."""

    at: datetime
    """Start of the step."""


class EndpointTrafficOut(Out):
    """Requests to an endpoint over time."""

    since: datetime
    """Start of the first step."""
    until: datetime
    """End of the last step."""
    step_seconds: int
    """Length of a step."""
    total: TrafficCountsOut
    """The requests of all steps."""
    points: list[TrafficPointOut]
    """One for each step, in order, also without requests."""


class PredictIn(In):
    """Texts to classify, 1 to 256 of them."""

    model_config = shown({"inputs": ["Works well, arrived on time."], "top_k": 1})

    inputs: list[Annotated[str, Field(max_length=MAX_INPUT_CHARACTERS)]] = Field(min_length=1, max_length=MAX_INPUTS)
    """The texts to classify."""
    top_k: int | None = Field(default=None, ge=1, le=MAX_TOP_K)
    """Number of labels per text, best first; null: all."""


class LabelScore(Out):
    """A label with its probability."""

    label: str
    """The label."""
    score: float
    """Its probability, 0..1."""


class PredictOut(Out):
    """One list of labels per input, best first."""

    predictions: list[list[LabelScore]]
    """One list of labels per text, best first."""
    truncated: list[int] = Field(
        default_factory=list,
        description="indexes of the inputs that exceed the model's length; their ends were ignored",
    )
    model: str
    """Name of the model that answered."""
    number: int
    """Number of the version that answered."""
