"""Endpoints: the desired and live model versions under a name, and the interface types of serving back ends."""

import hashlib
import re
from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from windlass.domain.ids import AliasName, Name, Number
from windlass.domain.jobs import DomainModel, Reason
from windlass.domain.specs import Spec, Task

MAX_REQUEST_BYTES = 2 << 20
"""Default limit of a JSON body in the API, and the limit of the model servers."""
MAX_INPUTS = 256
"""Texts in one classification request."""
MAX_INPUT_CHARACTERS = 100_000
MAX_TOP_K = 1000
_APP_KEY = re.compile(r"^ep-([0-9a-hjkmnp-tv-z]{26})-mv-([0-9a-hjkmnp-tv-z]{26})-[0-9a-f]{8}$")


class TrafficTarget(Spec):
    """One share of an endpoint's traffic: a model's version number or alias, and its weight."""

    model: Name
    """Name of the model."""
    version: Number | None = None
    """Number of the version; null: by alias."""
    alias: AliasName | None = None
    """Alias of the model; null: by version."""
    weight: int = Field(default=100, ge=0, le=100)
    """Share of the traffic in per cent."""

    @model_validator(mode="after")
    def _one_reference(self) -> Self:
        if (self.version is None) == (self.alias is None):
            raise ValueError("name either a version or an alias")
        return self


class ReplicaRange(Spec):
    """The number of replicas of an endpoint; ``min`` 0 scales to zero when idle."""

    min: int = Field(default=1, ge=0, le=1000)
    """Fewest replicas; 0: none while idle, and the first request waits for one."""
    max: int = Field(default=1, ge=1, le=1000)
    """Most replicas."""
    target_ongoing_requests: float = Field(
        default=2.0, gt=0, le=10_000, description="requests at the same time per replica; more scales up"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError("min must not be greater than max")
        return self


class EndpointSpec(Spec):
    """What to serve. The weights of ``traffic`` add up to 100."""

    traffic: tuple[TrafficTarget, ...] = Field(min_length=1, max_length=8)
    """Versions to serve, with weights that add up to 100."""
    replicas: ReplicaRange = ReplicaRange()
    """Range of the autoscaling."""
    max_batch_size: int = Field(default=16, ge=1, le=1024, description="classification: requests answered together")
    batch_wait_ms: float = Field(default=5.0, ge=0, le=1000)
    """Classification: time to wait for a full batch."""
    gpus: int = Field(default=0, ge=0, le=1, description="GPUs of each replica; a model server uses at most one")
    pool: Name | None = None
    """Pool of the replicas' GPUs; only with `gpus`."""
    stopped: bool = Field(default=False, description="release every replica and keep the endpoint")

    @model_validator(mode="after")
    def _pool_of_gpus(self) -> Self:
        if self.gpus and self.pool is None:
            raise ValueError("gpus needs pool: the pool of the replicas' GPUs")
        if self.pool is not None and not self.gpus:
            raise ValueError("pool needs gpus: replicas without a GPU belong to no pool")
        return self

    @model_validator(mode="after")
    def _weights(self) -> Self:
        if sum(target.weight for target in self.traffic) != 100:  # noqa: PLR2004 - per cent
            raise ValueError("the weights of traffic must add up to 100")
        return self

    @property
    def min_gpus(self) -> int:
        """The GPUs that it holds while it serves; a version has one replica at least."""
        return 0 if self.stopped else self.gpus * max(1, self.replicas.min) * len(self.traffic)

    @property
    def max_replicas(self) -> int:
        """The replicas of all its applications, each scaled up to its maximum."""
        return 0 if self.stopped else self.replicas.max * len(self.traffic)

    def needs_more_gpus_than(self, before: "EndpointSpec | None") -> bool:
        """Return whether it may hold GPUs that an endpoint with the spec ``before`` may not; None: a new endpoint.

        Another version needs more only during its rollout, which does not count.
        """
        if not self.gpus or self.stopped:
            return False
        if before is None or before.pool != self.pool:
            return True
        return self.min_gpus > before.min_gpus or self.gpus * self.max_replicas > before.gpus * before.max_replicas


class EndpointState(StrEnum):
    """The state of an endpoint."""

    PENDING = "pending"
    ROLLING_OUT = "rolling-out"
    READY = "ready"
    STOPPED = "stopped"
    FAILED = "failed"
    DELETING = "deleting"


class LiveTarget(DomainModel):
    """A model version that serves now: its application and its share of the traffic."""

    app: str
    model_version: str
    model: str
    number: int
    weight: int


class Endpoint(DomainModel):
    """A served name. ``spec`` is desired, ``live`` serves; they differ during a rollout or after a failed one."""

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
    attempted_apps: tuple[str, ...] = ()
    """The applications of the last failed rollout; the same set is not attempted again."""
    rollout_started_at: datetime | None = None
    ready_replicas: int = 0
    desired_replicas: int = 0
    """Replicas that its applications should have now, by the autoscaling."""
    deploy_job: str | None = None
    """The job that was deployed last; job ids are in the order of acceptance."""
    created_by: str
    created_at: datetime
    changed_at: datetime
    version: int = 1


def app_key(endpoint: str, model_version: str, settings: str) -> str:
    """Return the key of the application that serves a model version for an endpoint, both by id.

    Other ``settings`` make another application: it starts next to the old one and replaces it when it is healthy.
    """
    return f"{app_key_prefix(endpoint)}{_hyphened(model_version)}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def app_key_prefix(endpoint: str) -> str:
    """Return what the keys of all applications of an endpoint begin with."""
    return f"{_hyphened(endpoint)}-"


def parse_app_key(key: str) -> tuple[str, str] | None:
    """Return the ids of the endpoint and the model version of an application; None if it is no key of ``app_key``."""
    found = _APP_KEY.match(key)
    return None if found is None else (f"ep_{found[1]}", f"mv_{found[2]}")


def _hyphened(identifier: str) -> str:
    return identifier.replace("_", "-")


def prediction_path(project: str, endpoint: Endpoint) -> str:
    """Return the path of the API to which requests for predictions are sent."""
    tail = ":predict" if endpoint.task is Task.TEXT_CLASSIFICATION else "/chat/completions"
    return f"/v1/projects/{project}/endpoints/{endpoint.name}{tail}"


class AppState(StrEnum):
    """The state of one served application."""

    DEPLOYING = "deploying"
    READY = "ready"
    """It answers requests; scaled to zero, once the first one has started a replica."""
    FAILED = "failed"
    TERMINATING = "terminating"
    """No longer desired; its processes may still run."""


class ServedApp(DomainModel):
    """One model version to be served. ``key`` is the last segment of its URL."""

    key: str = Field(pattern=r"^[a-z0-9-]{1,80}$")
    project: str
    """Name of the project; in a cluster it determines the namespace."""
    endpoint: str
    """Name of the endpoint."""
    task: Task
    artifact_uri: str
    """Where the artifact is published."""
    digest: str
    """The manifest's digest; the server refuses to load anything else."""
    model_name: str
    replicas: ReplicaRange
    max_batch_size: int
    batch_wait_ms: float
    gpus: int = 0
    """GPUs of each replica."""
    pool: str | None = None
    """Name of the pool of the GPUs; None without GPUs."""
    desired_replicas: int | None = None
    """Number of replicas now; None: the back end chooses it in the range, or leaves it unchanged."""


class AppStatus(DomainModel):
    """Status of one application, reported by the back end."""

    key: str
    state: AppState
    url: str = ""
    """Where its server accepts requests; empty until it listens, and in a cluster while it is scaled to zero."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Headers that every request to it needs: a credential."""
    message: str = ""
    waits: Reason | None = None
    """Why it is not deployed yet, or has fewer replicas than desired, when somebody can act on it: no quota, no image.
    """
    transient: bool = False
    """The failure is due to missing resources of the machine, such as memory, not to the version."""
    ready_replicas: int = 0
    desired_replicas: int = 0


class ProbeRequest(DomainModel):
    """Where to send the smoke test of an application."""

    url: str
    task: Task
    headers: dict[str, str] = Field(default_factory=dict, repr=False)


class ServingStatus(DomainModel):
    """Status of all applications."""

    apps: tuple[AppStatus, ...] = ()
    complete: bool = True
    """Whether applications that are not listed do not run; False until the back end has seen the newest spec."""
