"""Models, versions, aliases, endpoints, predictions."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from windlass.domain.endpoints import EndpointSpec, EndpointState
from windlass.domain.ids import Name, Number
from windlass.domain.specs import Task
from windlass.wire.base import In, Out, ReasonOut, shown


class ModelOut(Out):
    """A registered model with its aliases (alias -> version number)."""

    id: str
    name: str
    task: Task
    description: str
    aliases: dict[str, int]
    latest: int | None
    created_at: datetime
    version: int


class ModelPatch(In):
    """Change a model."""

    model_config = shown({"description": "Sentiment of a sentence"})

    description: str = Field(max_length=2000)


class ModelFileOut(Out):
    """One file of a version's artifact; ``GET .../files/{path}`` gives its bytes."""

    path: str
    bytes: int
    sha256: str


class ModelVersionOut(Out):
    """A registered result. A rejected one failed its gates and cannot take an alias or be served."""

    id: str
    model: str
    number: int
    decision: Literal["candidate", "rejected"]
    reason: ReasonOut | None
    evaluation: dict[str, Any]
    job: str
    attempt: int
    dataset: str
    base_model: str
    digest: str
    bytes: int
    files: list[ModelFileOut]
    lineage: list["LineageOut"]
    created_at: datetime


class LineageOut(Out):
    """One edge: ``subject`` was made from ``object``."""

    subject: str
    relation: str
    object: str


class AliasIn(In):
    """Point an alias at a version: ``PUT /models/{m}/aliases/{alias}``."""

    model_config = shown({"version": 3})

    version: Number


class EndpointIn(In):
    """Create an endpoint."""

    model_config = shown(
        {
            "name": "sentiment",
            "spec": {"traffic": [{"model": "review-sentiment", "alias": "champion"}], "replicas": {"min": 1, "max": 4}},
        }
    )

    name: Name
    spec: EndpointSpec


class EndpointPatch(In):
    """Wish another spec: starts a rollout."""

    model_config = shown({"spec": {"traffic": [{"model": "review-sentiment", "version": 4}]}})

    spec: EndpointSpec


class LiveTargetOut(Out):
    """A version that answers now."""

    model: str
    number: int
    weight: int


class EndpointOut(Out):
    """A served name."""

    id: str
    name: str
    task: Task
    state: EndpointState
    spec: EndpointSpec
    live: list[LiveTargetOut]
    reason: ReasonOut | None
    generation: int
    observed_generation: int
    ready_replicas: int
    predict_url: str = Field(description="path on this server: :predict or chat/completions, by task")
    created_at: datetime
    changed_at: datetime
    version: int


class PredictIn(In):
    """Texts to classify, 1 to 256 of them."""

    model_config = shown({"inputs": ["Works well, arrived on time."], "top_k": 1})

    inputs: list[str] = Field(min_length=1, max_length=256)
    top_k: int | None = Field(default=None, ge=1, le=1000)


class LabelScore(Out):
    """A label with its probability."""

    label: str
    score: float


class PredictOut(Out):
    """One list of labels per input, best first."""

    predictions: list[list[LabelScore]]
    model: str
    number: int
