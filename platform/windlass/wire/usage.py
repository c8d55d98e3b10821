"""Usage of GPUs and endpoints, and budgets."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from windlass.wire.base import In, Out, shown

MAX_BUDGET = 1e9
"""The largest limit of a budget, in GPU-hours or in units of the currency."""


class GpuTimeSplitOut(Out):
    """What reserved GPU time was used for, in seconds of one GPU. The parts sum to the reserved time."""

    productive: float
    """Optimizer steps whose work was kept."""
    data_wait: float
    """The training waited for its next batch."""
    loading: float
    """Start of the trainer, and loading of model and data."""
    evaluation: float
    """Evaluations, checkpoints, and writing the artifact."""
    lost: float
    """Optimizer steps after the last checkpoint of a trainer that was preempted or lost."""
    serving: float
    """Replicas of endpoints, whether they answer requests or not."""
    idle: float
    """Reserved, and no trainer reported what it did."""


class UsageOut(Out):
    """Usage of one job: seconds of admitted GPUs (or CPU slots)."""

    job: str
    """Id of the job."""
    pool: str
    """Pool that it ran in."""
    gpu_seconds: float
    """Seconds of admitted GPUs or CPU slots."""
    split: GpuTimeSplitOut
    """What they were used for."""
    cost: float = Field(description="at the prices of the pool that held at the time, in the pool's currency unit")
    outcome: str
    """State of the job."""


class RequestCountsOut(Out):
    """Requests to endpoints, and the tokens that model servers reported for them."""

    total: int
    """Requests of all outcomes."""
    succeeded: int
    """Answered."""
    rejected: int
    """Refused by the model server: the request was wrong, or it was busy."""
    failed: int
    """The model server failed, or was not reached."""
    cancelled: int
    """The client disconnected before the end of the reply."""
    prompt_tokens: int
    """Tokens of inputs."""
    completion_tokens: int
    """Generated tokens."""


class UsageGroupOut(Out):
    """Usage of a group in a month; a value by which it is not grouped, or that it does not have, is empty."""

    month: str
    """The month, in UTC."""
    project: str
    """Name of the project, or its uid if it was deleted."""
    pool: str
    """Name of the pool."""
    kind: str
    """`job`, `warm-trainer` or `endpoint`."""
    key: str
    """Id of the API key of the jobs and requests."""
    key_label: str
    """User and name of the key; empty if it was deleted."""
    model: str
    """Name of the model that jobs train, or that endpoints serve."""
    endpoint: str
    """Name of the endpoint."""
    gpu_seconds: float
    """Reserved time of GPUs or CPU slots."""
    split: GpuTimeSplitOut
    """What it was used for."""
    cost: float = Field(description="at the prices of the pools that held at the time, in the pools' currency unit")
    requests: RequestCountsOut
    """Requests to endpoints."""


class BudgetIn(In):
    """Set a project's budget of each month; null: no limit. Send the version that was read in If-Match."""

    model_config = shown({"gpu_hours": 500, "cost": 1250})

    gpu_hours: float | None = Field(ge=0, le=MAX_BUDGET)
    """Hours of GPUs, or of CPU slots."""
    cost: float | None = Field(ge=0, le=MAX_BUDGET)
    """In the currency unit of the prices of pools."""


class BudgetAlertOut(Out):
    """The project has reached a percentage of its budget."""

    percent: int
    """The percentage."""
    reached_at: datetime
    """When that was noticed."""


class BudgetOut(Out):
    """A project's budget and what of it is used in this month (UTC)."""

    project: str
    """Name of the project."""
    gpu_hours: float | None
    """Limit of each month; null: none."""
    cost: float | None
    """Limit of each month; null: none."""
    month: str
    """The current month."""
    used_gpu_hours: float
    """Hours of GPUs that were reserved in it."""
    used_cost: float
    """Their cost."""
    used_ratio: float | None = Field(description="used part of the limit of which the most is used; null: no limit")
    state: Literal["unlimited", "ok", "warning", "exhausted"]
    """`warning` from 80 %; `exhausted` from 100 %: new jobs, and more GPUs of endpoints, are refused."""
    alerts: list[BudgetAlertOut]
    """Percentages that were reached in this month."""
    resets_at: datetime
    """When the next month begins."""
    changed_by: str
    """User who set it; empty: it was never set."""
    changed_at: datetime | None
    """When it was set."""
    version: int
    """Version of the budget, for If-Match; 0: it was never set."""
