"""Settings in small groups, built once in a composition root. Environment: ``WINDLASS_<GROUP>_<NAME>``."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServerSettings(BaseSettings):
    """Where the embedded server keeps its data and listens."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_SERVER_", frozen=True, extra="forbid")
    home: Path = Field(description="data folder")
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8741, ge=0, le=65535, description="port to listen on; 0 picks a free one")


class LimitSettings(BaseSettings):
    """What one request may cost."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_LIMIT_", frozen=True, extra="forbid")
    body_bytes: int = Field(default=2 << 20, ge=1024, description="largest JSON body")
    report_bytes: int = Field(default=8 << 20, ge=1024, description="largest report batch of a run")
    upload_bytes: int = Field(default=20 << 30, ge=1, description="largest upload, all files together")
    reserve_bytes: int = Field(
        default=256 << 20, ge=0, description="disk space that uploads and datasets leave to the database"
    )
    upload_hours: float = Field(default=72.0, gt=0, le=8760, description="how long an upload may stay open")
    unfinished_jobs: int = Field(default=500, ge=1, description="jobs of a project that may be on their way at once")
    unfinished_versions: int = Field(
        default=100,
        ge=1,
        description="dataset versions of a project that may wait for processing, or be in it, at once",
    )
    key_cache_seconds: float = Field(default=5.0, ge=0, le=60, description="how long a revoked key may still work")


class WorkerSettings(BaseSettings):
    """How the worker paces itself."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_WORKER_", frozen=True, extra="forbid")
    tick_seconds: float = Field(default=0.5, gt=0, le=60, description="pause between two looks at the world")
    lease_seconds: float = Field(default=60.0, gt=0, description="how long a claimed intent belongs to one worker")
    heartbeat_seconds: float = Field(default=30.0, gt=0, description="lease of a trainer's attempt")
    preempt_grace_seconds: float = Field(default=60.0, ge=0, description="time to checkpoint before a run is killed")
    cancel_grace_seconds: float = Field(default=10.0, ge=0, description="time to stop before a run is killed")
    rollout_seconds: float = Field(default=300.0, gt=0, description="time for new applications to become healthy")
    data_processes: int = Field(
        default=2, ge=1, description="dataset versions that are processed at once, each in up to some GiB of memory"
    )
    tidy_hours: float = Field(
        default=24.0, ge=0, description="how long run folders and checkpoints stay after their job's end"
    )
    replay_hours: float = Field(default=168.0, ge=24, description="how long an idempotency key stands for what it made")
    lost_runs: int = Field(default=5, ge=1, description="runs that may be lost before the job fails")

    @property
    def lease(self) -> timedelta:
        """``lease_seconds`` as a span."""
        return timedelta(seconds=self.lease_seconds)


class ClusterSettings(BaseSettings):
    """How the control plane works for a cluster."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_CLUSTER_", frozen=True, extra="forbid")
    kubeconfig: Path | None = Field(
        default=None, description="file that says where the cluster is; else the pod's account, else KUBECONFIG"
    )
    lease_seconds: float = Field(
        default=15.0, ge=2, le=300, description="how long the worker that mirrors may be silent before another does"
    )
    resync_seconds: float = Field(
        default=300.0, ge=1, le=3600, description="pause between two lists of everything, whatever the watches say"
    )
    silence_seconds: float = Field(
        default=75.0, ge=5, le=600, description="how long a watch may say nothing before it is begun again"
    )


class OperatorSettings(BaseSettings):
    """How the operators run, in a cluster."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_OPERATORS_", frozen=True, extra="forbid")
    namespace: str = Field(
        default="windlass-system",
        min_length=1,
        max_length=63,
        description="namespace of the control plane, where the lease is kept and which projects' pods may reach; "
        "the admission policies name its accounts too",
    )
    host: str = Field(default="0.0.0.0", description="address of health and metrics")  # noqa: S104 - a pod's own network
    port: int = Field(default=8080, ge=0, le=65535, description="port of health and metrics; 0 picks a free one")
    lease_seconds: float = Field(
        default=15.0, ge=2, le=300, description="how long the active replica may be silent before another takes over"
    )
    resync_seconds: float = Field(
        default=300.0, ge=1, le=3600, description="pause between two looks at everything, whatever the watches say"
    )
    workers: int = Field(default=4, ge=1, le=64, description="resources that are reconciled at once")
    image: str = Field(default="", description="image that serves models; without it no endpoint is served")
    ray_version: str = Field(default="2.60.0", description="version of Ray in that image")
