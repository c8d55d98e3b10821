"""Tables of tenants and their work. Columns are named after model fields; ``repository`` maps them by name."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel

from windlass.db.columns import instant, json_value, key, partial_index


class ProjectTable(SQLModel, table=True):
    __tablename__ = "project"
    __table_args__ = (
        partial_index("uq_project_name", "name", where="deleted_at IS NULL", unique=True),
        partial_index("ix_project_deleted", "id", where="deleted_at IS NOT NULL"),
    )
    id: str = key()
    name: str
    display_name: str
    cohort: str | None
    priority_ceiling: int
    created_at: datetime = instant()
    deleted_at: datetime | None = instant(null=True)
    version: int


class PoolTable(SQLModel, table=True):
    __tablename__ = "pool"
    id: str = key()
    name: str = Field(unique=True)
    capacity: int
    gpu_type: str
    max_gpus_per_job: int | None
    price_per_gpu_hour: float
    gpu_memory_bytes: int | None = Field(sa_type=BigInteger)
    nodes: int | None
    ready_nodes: int | None
    allocatable: int | None
    free_gpus: list[Any] | None = json_value(null=True)
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


class QueueTimeSampleTable(SQLModel, table=True):
    __tablename__ = "queue_time_sample"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    pool: str = key()
    subject: str = key()
    seconds: float
    admitted_at: datetime = instant(index=True)


class DatasetTable(SQLModel, table=True):
    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("project", "name"), Index("ix_dataset_project_id", "project", "id"))
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE")
    name: str
    task: str
    description: str
    purposes: list[Any] = json_value()
    consent_until: datetime | None = instant(null=True)
    last_number: int
    created_at: datetime = instant()
    version: int


class UploadTable(SQLModel, table=True):
    __tablename__ = "upload"
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE", index=True)
    dataset: str = Field(index=True)
    files: list[Any] = json_value()
    options: dict[str, Any] = json_value()
    state: str
    dataset_version: str | None
    created_at: datetime = instant()
    version: int


class DatasetVersionTable(SQLModel, table=True):
    __tablename__ = "dataset_version"
    __table_args__ = (UniqueConstraint("dataset", "number"), Index("ix_dataset_version_dataset_id", "dataset", "id"))
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE", index=True)
    dataset: str = Field(foreign_key="dataset.id", ondelete="CASCADE")
    number: int
    state: str = Field(index=True)
    task: str
    origin: str
    upload: str | None
    parent: str | None
    erasure: str | None
    options: dict[str, Any] = json_value()
    steps: list[Any] = json_value()
    converter_version: int
    prefix: str
    digest: str | None
    rows: dict[str, Any] = json_value()
    labels: list[Any] = json_value()
    report: dict[str, Any] | None = json_value(null=True)
    problem: str
    process_deaths: int
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
    max_positions: int | None
    activations_per_token: int
    tokenizer: str
    bytes: int = Field(sa_type=BigInteger)
    digest: str | None
    path: str
    files: list[Any] = json_value()
    prefix: str
    state: str
    problem: str
    created_at: datetime = instant()
    version: int


class JobTable(SQLModel, table=True):
    __tablename__ = "job"
    __table_args__ = (
        Index("ix_job_project_id", "project", "id"),
        Index("ix_job_project_state_id", "project", "state", "id"),
        Index("ix_job_project_name_id", "project", "name", "id"),
        partial_index(
            "ix_job_clean_up", "finished_at", "id", where="cleaned_up_at IS NULL AND finished_at IS NOT NULL"
        ),
        partial_index(
            "ix_job_history", "finished_at", "id", where="history_deleted_at IS NULL AND finished_at IS NOT NULL"
        ),
        partial_index("ix_job_deleted", "id", where="deleted_at IS NOT NULL"),
    )
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE")
    name: str | None
    spec: dict[str, Any] = json_value()
    state: str = Field(index=True)
    reason: dict[str, Any] | None = json_value(null=True)
    dataset_version: str
    dataset_ref: str
    base_model: str
    world_size: int
    run: int
    attempt: int
    steps_done: int
    steps_planned: int | None
    model_version: str | None
    model_number: int | None
    decision: str | None
    warnings: list[dict[str, Any]] = json_value()
    retry_of: str | None
    created_by: str
    created_with: str
    created_at: datetime = instant()
    changed_at: datetime = instant()
    queued_at: datetime | None = instant(null=True)
    started_at: datetime | None = instant(null=True)
    finished_at: datetime | None = instant(null=True)
    cleaned_up_at: datetime | None = instant(null=True)
    history_deleted_at: datetime | None = instant(null=True)
    deploy_done_at: datetime | None = instant(null=True)
    deleted_at: datetime | None = instant(null=True)
    trained_seconds: float
    version: int


class RunTable(SQLModel, table=True):
    __tablename__ = "run"
    __table_args__ = (UniqueConstraint("job", "number"), partial_index("ix_run_active", "id", where="ended_at IS NULL"))
    id: str = key()
    project: str
    job: str = Field(foreign_key="job.id", ondelete="CASCADE")
    number: int
    name: str = Field(unique=True)
    state: str
    stop: str | None
    stop_at: datetime | None = instant(null=True)
    warm_trainer: str | None = Field(index=True, unique=True)
    reports_pending_since: datetime | None = instant(null=True)
    steps: dict[str, Any] = json_value()
    created_at: datetime = instant()
    ended_at: datetime | None = instant(null=True)
    version: int


class CheckpointTable(SQLModel, table=True):
    __tablename__ = "checkpoint"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    step: int = key()
    attempt: int
    project: str
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
    context: dict[str, Any] = json_value()
    attempt: int | None


class MetricChunkTable(SQLModel, table=True):
    """Consecutive points of one series, reported by one attempt. The ranges of a series' chunks do not overlap."""

    __tablename__ = "metric_chunk"
    __table_args__ = (Index("ix_metric_chunk_job_last_step", "job", "last_step"),)
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    name: str = key()
    first_step: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    last_step: int
    attempt: int
    points: int
    # The columns that an overview reads are before the large ones: SQLite reads a row from its start.
    extreme_steps: bytes = Field(sa_type=LargeBinary)
    extreme_values: bytes = Field(sa_type=LargeBinary)
    steps: bytes = Field(sa_type=LargeBinary)
    values: bytes = Field(sa_type=LargeBinary)


class LogChunkTable(SQLModel, table=True):
    __tablename__ = "log_chunk"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    end: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    start: int = Field(sa_type=BigInteger)
    project: str
    source: str
    attempt: int
    key: str
    position: int = Field(sa_type=BigInteger)
    time: datetime = instant()


class ReportCursorTable(SQLModel, table=True):
    __tablename__ = "report_cursor"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    attempt: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    source: str = key()
    sequence: int


class ModelTable(SQLModel, table=True):
    __tablename__ = "model"
    __table_args__ = (UniqueConstraint("project", "name"), Index("ix_model_project_id", "project", "id"))
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
    __table_args__ = (UniqueConstraint("model", "number"), Index("ix_model_version_model_id", "model", "id"))
    id: str = key()
    project: str
    model: str = Field(foreign_key="model.id", ondelete="CASCADE")
    number: int
    decision: str
    reason: dict[str, Any] | None = json_value(null=True)
    evaluation: dict[str, Any] = json_value()
    warnings: list[dict[str, Any]] = json_value()
    # at most one registered version per job (invariant I3)
    job: str = Field(unique=True)
    attempt: int
    dataset_version: str
    base_model: str
    purposes: list[Any] = json_value()
    prefix: str
    manifest: dict[str, Any] = json_value()
    created_at: datetime = instant()


class EndpointTable(SQLModel, table=True):
    __tablename__ = "endpoint"
    __table_args__ = (UniqueConstraint("project", "name"), Index("ix_endpoint_project_id", "project", "id"))
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
    attempted_apps: list[Any] = json_value()
    rollout_started_at: datetime | None = instant(null=True)
    ready_replicas: int
    desired_replicas: int
    deploy_job: str | None
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


class IdempotencyRecordTable(SQLModel, table=True):
    __tablename__ = "idempotency_record"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    route: str = key()
    key: str = key()
    body_hash: str
    subject: str
    created_at: datetime = instant(index=True)
