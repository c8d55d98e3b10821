"""Every table but the mirror's. Columns are named as the fields of the domain's facts; ``rows`` maps them by name."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, UniqueConstraint
from sqlmodel import Field, SQLModel

from windlass.db.columns import instant, json_value, key


class ProjectTable(SQLModel, table=True):
    __tablename__ = "project"
    id: str = key()
    name: str = Field(unique=True)
    display_name: str
    cohort: str | None
    priority_ceiling: int
    created_at: datetime = instant()
    version: int


class MemberTable(SQLModel, table=True):
    __tablename__ = "member"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    user: str = Field(primary_key=True, index=True)
    role: str
    version: int


class ApiKeyTable(SQLModel, table=True):
    __tablename__ = "api_key"
    id: str = key()
    user: str
    name: str
    admin: bool
    project: str | None = Field(foreign_key="project.id", ondelete="CASCADE")
    secret_hash: str
    created_at: datetime = instant()
    expires_at: datetime | None = instant(null=True)
    revoked_at: datetime | None = instant(null=True)


class PoolTable(SQLModel, table=True):
    __tablename__ = "pool"
    id: str = key()
    name: str = Field(unique=True)
    capacity: int
    gpu_type: str
    max_gpus_per_job: int | None
    price_per_gpu_hour: float
    nodes: int | None
    ready_nodes: int | None
    allocatable: int | None
    problem: str
    created_at: datetime = instant()
    version: int


class QuotaTable(SQLModel, table=True):
    __tablename__ = "quota"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    pool: str = Field(primary_key=True)
    nominal: int
    borrowing_limit: int | None
    lending_limit: int | None
    managed_by: str
    version: int


class WaitTable(SQLModel, table=True):
    __tablename__ = "wait"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    pool: str = key()
    subject: str = key()
    seconds: float
    at: datetime = instant(index=True)


class DatasetTable(SQLModel, table=True):
    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("project", "name"),)
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE")
    name: str
    task: str
    description: str
    last_number: int
    created_at: datetime = instant()
    version: int


class UploadTable(SQLModel, table=True):
    __tablename__ = "upload"
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE", index=True)
    dataset: str
    files: list[Any] = json_value()
    options: dict[str, Any] = json_value()
    state: str
    dataset_version: str | None
    created_at: datetime = instant()
    version: int


class DatasetVersionTable(SQLModel, table=True):
    __tablename__ = "dataset_version"
    __table_args__ = (UniqueConstraint("dataset", "number"),)
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE", index=True)
    dataset: str = Field(foreign_key="dataset.id", ondelete="CASCADE")
    number: int
    state: str = Field(index=True)
    task: str
    origin: str
    upload: str | None
    parent: str | None
    options: dict[str, Any] = json_value()
    steps: list[Any] = json_value()
    converter_version: int
    prefix: str
    digest: str | None
    rows: dict[str, Any] = json_value()
    labels: list[Any] = json_value()
    report: dict[str, Any] | None = json_value(null=True)
    problem: str
    created_by: str
    created_at: datetime = instant()
    version: int


class BaseModelTable(SQLModel, table=True):
    __tablename__ = "base_model"
    id: str = key()
    name: str = Field(unique=True)
    tasks: list[Any] = json_value()
    licence: str
    source: str
    parameters: int | None = Field(sa_type=BigInteger)
    bytes: int = Field(sa_type=BigInteger)
    digest: str | None
    path: str
    prefix: str
    state: str
    problem: str
    created_at: datetime = instant()
    version: int


class JobTable(SQLModel, table=True):
    __tablename__ = "job"
    __table_args__ = (Index("ix_job_project_id", "project", "id"),)
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE")
    spec: dict[str, Any] = json_value()
    state: str = Field(index=True)
    reason: dict[str, Any] | None = json_value(null=True)
    dataset_version: str
    dataset_ref: str
    base_model: str
    run: int
    attempt: int
    steps_done: int
    steps_planned: int | None
    model_version: str | None
    model_number: int | None
    retry_of: str | None
    created_by: str
    created_at: datetime = instant()
    changed_at: datetime = instant()
    queued_at: datetime | None = instant(null=True)
    started_at: datetime | None = instant(null=True)
    finished_at: datetime | None = instant(null=True)
    tidied_at: datetime | None = instant(null=True)
    trained_seconds: float
    version: int


class RunTable(SQLModel, table=True):
    __tablename__ = "run"
    __table_args__ = (UniqueConstraint("job", "number"),)
    id: str = key()
    project: str
    job: str = Field(foreign_key="job.id", ondelete="CASCADE")
    number: int
    name: str = Field(unique=True)
    state: str = Field(index=True)
    stop: str | None
    stop_at: datetime | None = instant(null=True)
    steps: dict[str, Any] = json_value()
    created_at: datetime = instant()
    ended_at: datetime | None = instant(null=True)
    version: int


class AttemptTable(SQLModel, table=True):
    __tablename__ = "attempt"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    number: int = Field(primary_key=True)
    project: str
    run: str
    trainer: str
    state: str
    claimed_at: datetime = instant()
    heartbeat_at: datetime = instant()
    ended_at: datetime | None = instant(null=True)
    resumed_from_step: int | None
    trained_seconds: float
    result: dict[str, Any] | None = json_value(null=True)


class CheckpointTable(SQLModel, table=True):
    __tablename__ = "checkpoint"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    step: int = key()
    attempt: int
    project: str
    prefix: str
    manifest: dict[str, Any] = json_value()
    metrics: dict[str, Any] = json_value()
    created_at: datetime = instant()


class EventTable(SQLModel, table=True):
    __tablename__ = "event"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    sequence: int = key()
    project: str
    time: datetime = instant()
    code: str
    message: str
    facts: dict[str, Any] = json_value()
    attempt: int | None


class MetricTable(SQLModel, table=True):
    __tablename__ = "metric"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    name: str = key()
    step: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    attempt: int
    value: float
    time: datetime = instant()


class LogChunkTable(SQLModel, table=True):
    __tablename__ = "log_chunk"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    end: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    start: int = Field(sa_type=BigInteger)
    project: str
    source: str
    attempt: int
    key: str
    time: datetime = instant()


class ReportCursorTable(SQLModel, table=True):
    __tablename__ = "report_cursor"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    attempt: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    source: str = key()
    sequence: int


class ModelTable(SQLModel, table=True):
    __tablename__ = "model"
    __table_args__ = (UniqueConstraint("project", "name"),)
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE")
    name: str
    task: str
    description: str
    aliases: dict[str, Any] = json_value()
    last_number: int
    created_at: datetime = instant()
    version: int


class ModelVersionTable(SQLModel, table=True):
    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("model", "number"),)
    id: str = key()
    project: str
    model: str = Field(foreign_key="model.id", ondelete="CASCADE")
    number: int
    decision: str
    reason: dict[str, Any] | None = json_value(null=True)
    evaluation: dict[str, Any] = json_value()
    # at most one registered version per job (invariant I3)
    job: str = Field(unique=True)
    attempt: int
    dataset_version: str
    base_model: str
    prefix: str
    manifest: dict[str, Any] = json_value()
    created_at: datetime = instant()


class EndpointTable(SQLModel, table=True):
    __tablename__ = "endpoint"
    __table_args__ = (UniqueConstraint("project", "name"),)
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE")
    name: str
    task: str
    spec: dict[str, Any] = json_value()
    state: str
    live: list[Any] = json_value()
    live_spec: dict[str, Any] | None = json_value(null=True)
    reason: dict[str, Any] | None = json_value(null=True)
    generation: int
    observed_generation: int
    tried: list[Any] = json_value()
    rollout_at: datetime | None = instant(null=True)
    ready_replicas: int
    created_by: str
    created_at: datetime = instant()
    changed_at: datetime = instant()
    version: int


class LineageTable(SQLModel, table=True):
    __tablename__ = "lineage"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    subject: str = key()
    relation: str = key()
    object: str = Field(primary_key=True, index=True)


class ReplayTable(SQLModel, table=True):
    __tablename__ = "replay"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    route: str = key()
    key: str = key()
    body_hash: str
    subject: str
    created_at: datetime = instant(index=True)


class AuditTable(SQLModel, table=True):
    __tablename__ = "audit"
    id: str = key()
    time: datetime = instant()
    actor: str
    project: str | None
    action: str
    subject: str
    request_id: str


class OutboxTable(SQLModel, table=True):
    __tablename__ = "outbox"
    __table_args__ = (UniqueConstraint("kind", "subject"),)
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True, autoincrement=True))
    kind: str
    project: str
    subject: str
    due_at: datetime = instant(index=True)
    tries: int
    fence: int
