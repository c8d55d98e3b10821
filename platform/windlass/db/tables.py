"""Every table. Columns are named as the fields of the domain's facts; ``rows`` maps them by name."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Dialect, Index, Integer, UniqueConstraint
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


class Instant(TypeDecorator[datetime]):
    """An aware UTC time, kept as microseconds since 1970 so that it sorts and compares alike in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - interface
        """Encode."""
        if value is None:
            return None
        since = value - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - interface
        """Decode."""
        return (
            None
            if value is None
            else datetime.fromtimestamp(value // 1_000_000, UTC).replace(microsecond=value % 1_000_000)
        )


def _instant(*, null: bool = False, index: bool = False) -> Any:
    return Field(sa_column=Column(Instant, nullable=null, index=index))


def _json(*, null: bool = False) -> Any:
    return Field(sa_column=Column(JSON, nullable=null))


def _id() -> Any:
    return Field(primary_key=True)


class ProjectTable(SQLModel, table=True):
    __tablename__ = "project"
    id: str = _id()
    name: str = Field(unique=True)
    display_name: str
    cohort: str | None
    priority_ceiling: int
    created_at: datetime = _instant()
    version: int


class MemberTable(SQLModel, table=True):
    __tablename__ = "member"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    user: str = Field(primary_key=True, index=True)
    role: str
    version: int


class ApiKeyTable(SQLModel, table=True):
    __tablename__ = "api_key"
    id: str = _id()
    user: str
    name: str
    admin: bool
    project: str | None = Field(foreign_key="project.id", ondelete="CASCADE")
    secret_hash: str
    created_at: datetime = _instant()
    expires_at: datetime | None = _instant(null=True)
    revoked_at: datetime | None = _instant(null=True)


class PoolTable(SQLModel, table=True):
    __tablename__ = "pool"
    id: str = _id()
    name: str = Field(unique=True)
    capacity: int
    gpu_type: str
    max_gpus_per_job: int | None
    price_per_gpu_hour: float
    created_at: datetime = _instant()
    version: int


class QuotaTable(SQLModel, table=True):
    __tablename__ = "quota"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    pool: str = Field(primary_key=True)
    nominal: int
    borrowing_limit: int | None
    lending_limit: int | None
    version: int


class DatasetTable(SQLModel, table=True):
    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("project", "name"),)
    id: str = _id()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE")
    name: str
    task: str
    description: str
    last_number: int
    created_at: datetime = _instant()
    version: int


class UploadTable(SQLModel, table=True):
    __tablename__ = "upload"
    id: str = _id()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE", index=True)
    dataset: str
    files: list[Any] = _json()
    options: dict[str, Any] = _json()
    state: str
    dataset_version: str | None
    created_at: datetime = _instant()
    version: int


class DatasetVersionTable(SQLModel, table=True):
    __tablename__ = "dataset_version"
    __table_args__ = (UniqueConstraint("dataset", "number"),)
    id: str = _id()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE", index=True)
    dataset: str = Field(foreign_key="dataset.id", ondelete="CASCADE")
    number: int
    state: str = Field(index=True)
    task: str
    origin: str
    upload: str | None
    parent: str | None
    options: dict[str, Any] = _json()
    steps: list[Any] = _json()
    converter_version: int
    prefix: str
    digest: str | None
    rows: dict[str, Any] = _json()
    labels: list[Any] = _json()
    report: dict[str, Any] | None = _json(null=True)
    problem: str
    created_by: str
    created_at: datetime = _instant()
    version: int


class BaseModelTable(SQLModel, table=True):
    __tablename__ = "base_model"
    id: str = _id()
    name: str = Field(unique=True)
    tasks: list[Any] = _json()
    licence: str
    source: str
    parameters: int | None = Field(sa_type=BigInteger)
    bytes: int = Field(sa_type=BigInteger)
    digest: str | None
    path: str
    prefix: str
    state: str
    problem: str
    created_at: datetime = _instant()
    version: int


class JobTable(SQLModel, table=True):
    __tablename__ = "job"
    __table_args__ = (Index("ix_job_project_id", "project", "id"),)
    id: str = _id()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE")
    spec: dict[str, Any] = _json()
    state: str = Field(index=True)
    reason: dict[str, Any] | None = _json(null=True)
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
    created_at: datetime = _instant()
    changed_at: datetime = _instant()
    queued_at: datetime | None = _instant(null=True)
    started_at: datetime | None = _instant(null=True)
    finished_at: datetime | None = _instant(null=True)
    tidied_at: datetime | None = _instant(null=True)
    trained_seconds: float
    version: int


class RunTable(SQLModel, table=True):
    __tablename__ = "run"
    __table_args__ = (UniqueConstraint("job", "number"),)
    id: str = _id()
    project: str
    job: str = Field(foreign_key="job.id", ondelete="CASCADE")
    number: int
    name: str = Field(unique=True)
    state: str = Field(index=True)
    stop: str | None
    stop_at: datetime | None = _instant(null=True)
    steps: dict[str, Any] = _json()
    created_at: datetime = _instant()
    ended_at: datetime | None = _instant(null=True)
    version: int


class AttemptTable(SQLModel, table=True):
    __tablename__ = "attempt"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    number: int = Field(primary_key=True)
    project: str
    run: str
    trainer: str
    state: str
    claimed_at: datetime = _instant()
    heartbeat_at: datetime = _instant()
    ended_at: datetime | None = _instant(null=True)
    resumed_from_step: int | None
    trained_seconds: float
    result: dict[str, Any] | None = _json(null=True)


class CheckpointTable(SQLModel, table=True):
    __tablename__ = "checkpoint"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    step: int = _id()
    attempt: int
    project: str
    prefix: str
    manifest: dict[str, Any] = _json()
    metrics: dict[str, Any] = _json()
    created_at: datetime = _instant()


class EventTable(SQLModel, table=True):
    __tablename__ = "event"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    sequence: int = _id()
    project: str
    time: datetime = _instant()
    code: str
    message: str
    facts: dict[str, Any] = _json()
    attempt: int | None


class MetricTable(SQLModel, table=True):
    __tablename__ = "metric"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    name: str = _id()
    step: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    attempt: int
    value: float
    time: datetime = _instant()


class LogChunkTable(SQLModel, table=True):
    __tablename__ = "log_chunk"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    end: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    start: int = Field(sa_type=BigInteger)
    project: str
    source: str
    attempt: int
    key: str
    time: datetime = _instant()


class ReportCursorTable(SQLModel, table=True):
    __tablename__ = "report_cursor"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    attempt: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    source: str = _id()
    sequence: int


class ModelTable(SQLModel, table=True):
    __tablename__ = "model"
    __table_args__ = (UniqueConstraint("project", "name"),)
    id: str = _id()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE")
    name: str
    task: str
    description: str
    aliases: dict[str, Any] = _json()
    last_number: int
    created_at: datetime = _instant()
    version: int


class ModelVersionTable(SQLModel, table=True):
    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("model", "number"),)
    id: str = _id()
    project: str
    model: str = Field(foreign_key="model.id", ondelete="CASCADE")
    number: int
    decision: str
    reason: dict[str, Any] | None = _json(null=True)
    evaluation: dict[str, Any] = _json()
    # at most one registered version per job (invariant I3)
    job: str = Field(unique=True)
    attempt: int
    dataset_version: str
    base_model: str
    prefix: str
    manifest: dict[str, Any] = _json()
    created_at: datetime = _instant()


class EndpointTable(SQLModel, table=True):
    __tablename__ = "endpoint"
    __table_args__ = (UniqueConstraint("project", "name"),)
    id: str = _id()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE")
    name: str
    task: str
    spec: dict[str, Any] = _json()
    state: str
    live: list[Any] = _json()
    live_spec: dict[str, Any] | None = _json(null=True)
    reason: dict[str, Any] | None = _json(null=True)
    generation: int
    observed_generation: int
    tried: list[Any] = _json()
    rollout_at: datetime | None = _instant(null=True)
    ready_replicas: int
    created_by: str
    created_at: datetime = _instant()
    changed_at: datetime = _instant()
    version: int


class LineageTable(SQLModel, table=True):
    __tablename__ = "lineage"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    subject: str = _id()
    relation: str = _id()
    object: str = Field(primary_key=True, index=True)


class ReplayTable(SQLModel, table=True):
    __tablename__ = "replay"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    route: str = _id()
    key: str = _id()
    body_hash: str
    subject: str
    created_at: datetime = _instant(index=True)


class AuditTable(SQLModel, table=True):
    __tablename__ = "audit"
    id: str = _id()
    time: datetime = _instant()
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
    due_at: datetime = _instant(index=True)
    tries: int
    fence: int
