"""Endpoints: what is served under a name, and what a serving back end is asked for and answers."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from windlass.domain.ids import Name, Number
from windlass.domain.jobs import Fact, Reason
from windlass.domain.specs import Spec, Task


class TrafficTarget(Spec):
    """One share of an endpoint's traffic: a model's version number or alias, and its weight."""

    model: Name
    version: Number | None = None
    alias: Name | None = None
    weight: int = Field(default=100, ge=0, le=100)

    @model_validator(mode="after")
    def _one_reference(self) -> Self:
        if (self.version is None) == (self.alias is None):
            raise ValueError("name either a version or an alias")
        return self


class ReplicaRange(Spec):
    """How far an endpoint scales; ``min`` 0 lets it sleep when nobody asks."""

    min: int = Field(default=1, ge=0, le=1000)
    max: int = Field(default=1, ge=1, le=1000)
    target_ongoing_requests: float = Field(default=2.0, gt=0, le=10_000, description="per replica; more scales up")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError("min must not be greater than max")
        return self


class EndpointSpec(Spec):
    """What to serve. The weights of ``traffic`` add up to 100."""

    traffic: tuple[TrafficTarget, ...] = Field(min_length=1, max_length=8)
    replicas: ReplicaRange = ReplicaRange()
    max_batch_size: int = Field(default=16, ge=1, le=1024, description="classification: requests answered together")
    batch_wait_ms: float = Field(default=5.0, ge=0, le=1000)
    stopped: bool = Field(default=False, description="release every replica and keep the endpoint")

    @model_validator(mode="after")
    def _weights(self) -> Self:
        if sum(target.weight for target in self.traffic) != 100:  # noqa: PLR2004 - per cent
            raise ValueError("the weights of traffic must add up to 100")
        return self


class EndpointState(StrEnum):
    """Where an endpoint stands."""

    PENDING = "pending"
    ROLLING_OUT = "rolling-out"
    READY = "ready"
    STOPPED = "stopped"
    FAILED = "failed"
    DELETING = "deleting"


class LiveTarget(Fact):
    """A model version that answers now: the application that serves it and its share of the traffic."""

    app: str
    model_version: str
    model: str
    number: int
    weight: int


class Endpoint(Fact):
    """A served name. ``live`` answers; ``spec`` is wished; they differ while a rollout runs or after one failed."""

    id: str
    project: str
    name: str
    task: Task
    spec: EndpointSpec
    state: EndpointState
    live: tuple[LiveTarget, ...] = ()
    live_spec: EndpointSpec | None = None
    reason: Reason | None = None
    generation: int = 1
    observed_generation: int = 0
    tried: tuple[str, ...] = ()
    """The applications of the last finished rollout; the same set is not tried again after it failed."""
    rollout_at: datetime | None = None
    ready_replicas: int = 0
    created_by: str
    created_at: datetime
    changed_at: datetime
    version: int = 1


class AppState(StrEnum):
    """Where one served application stands."""

    DEPLOYING = "deploying"
    READY = "ready"
    FAILED = "failed"
    LEAVING = "leaving"
    """No longer wished; its processes may still run."""


class ServedApp(Fact):
    """One model version to be served. ``key`` is a URL path segment: requests go to ``<base>/<key>/...``."""

    key: str = Field(pattern=r"^[a-z0-9-]{1,80}$")
    task: Task
    artifact: Path
    """Local folder with the artifact and its ``manifest.json``."""
    digest: str
    """The manifest's digest; the server refuses to load anything else."""
    model_name: str
    replicas: ReplicaRange
    max_batch_size: int
    batch_wait_ms: float


class AppStatus(Fact):
    """What the back end says of one application."""

    key: str
    state: AppState
    message: str = ""
    passing: bool = False
    """It failed for lack of something on the machine, such as memory: the version is not to blame."""
    ready_replicas: int = 0


class ServingStatus(Fact):
    """What the back end says of all: ``base_url`` is empty until it listens."""

    base_url: str = ""
    apps: tuple[AppStatus, ...] = ()
    complete: bool = True
    """Whether what is not named does not run; not so while the back end has not yet looked at the newest wish."""
