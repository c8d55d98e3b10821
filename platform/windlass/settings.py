"""Settings by component, read once at start. Environment variables: ``WINDLASS_<GROUP>_<NAME>``."""

import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from windlass.domain.endpoints import MAX_REQUEST_BYTES
from windlass.domain.limits import ProjectLimits


class ServerSettings(BaseSettings):
    """Data directory and address of the embedded server."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_SERVER_", frozen=True, extra="forbid")
    home: Path = Field(description="data directory")
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8741, ge=0, le=65535, description="port to listen on; 0: any free port")


class SecretSettings(BaseSettings):
    """Secrets of the control plane, the same for all replicas; default: files in the data directory."""

    model_config = SettingsConfigDict(
        env_prefix="WINDLASS_SECRETS_", frozen=True, extra="forbid", hide_input_in_errors=True
    )
    pepper: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="key of the hashes of API keys and of run tokens; a new one invalidates all of them",
    )
    admin_key: SecretStr | None = Field(
        default=None,
        description="API key of a platform admin, created at the first start: `wlk_`, 26 lower-case letters or digits, "
        "`_`, and at least 32 letters or digits",
    )


class LimitSettings(BaseSettings):
    """Limits of requests and projects."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_LIMIT_", frozen=True, extra="forbid")
    body_bytes: int = Field(default=MAX_REQUEST_BYTES, ge=1024, description="maximum size of a JSON body")
    report_bytes: int = Field(default=8 << 20, ge=1024, description="maximum size of a report batch of a run")
    body_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="time in which a JSON body must arrive; uploads: maximum time without a byte",
    )
    concurrent_requests: int = Field(
        default=8, ge=1, le=32, description="requests of one user or run that are processed at the same time"
    )
    concurrent_requests_per_project: int = Field(
        default=8, ge=1, le=32, description="requests to one project that are processed at the same time"
    )
    queued_requests: int = Field(
        default=256,
        ge=0,
        description="requests of one user, run or project that wait for those; others are refused with 429",
    )
    request_rate_per_key: float = Field(
        default=200.0,
        ge=0,
        description="requests a second of one API key, or of one run, to one replica of the API, predictions excluded; "
        "0: no limit",
    )
    request_rate_per_project: float = Field(
        default=400.0, ge=0, description="the same for all requests to one project; 0: no limit"
    )
    prediction_rate_per_key: float = Field(
        default=500.0, ge=0, description="predictions a second of one API key to one replica of the API; 0: no limit"
    )
    prediction_rate_per_project: float = Field(
        default=1000.0, ge=0, description="the same for all endpoints of one project; 0: no limit"
    )
    rate_burst_seconds: float = Field(
        default=10.0,
        ge=1,
        le=3600,
        description="seconds of unused rate that a key, run or project may use at once; requests beyond it are refused "
        "with 429 and the time to wait",
    )
    held_seconds: float = Field(
        default=50.0,
        gt=0,
        le=3600,
        description="time for which a prediction waits for the first replica of an endpoint that is scaled to zero; "
        "below the timeouts of clients and proxies",
    )
    held_requests_per_project: int = Field(
        default=32, ge=1, description="predictions of one project that wait for that in one replica of the API"
    )
    held_requests: int = Field(
        default=128, ge=1, description="predictions of all projects that wait for that in one replica of the API"
    )
    streams_per_key: int = Field(default=32, ge=1, description="event and log streams of one API key")
    streams_per_project: int = Field(default=256, ge=1, description="event and log streams of one project")
    upload_bytes: int = Field(default=20 << 30, ge=1, description="maximum total size of an upload")
    project_bytes: int = Field(
        default=1 << 40,
        ge=1,
        description="maximum total size of the files of a project, checked when an upload is opened, before a job "
        "trains, and when its model is registered",
    )
    min_free_disk_bytes: int = Field(
        default=256 << 20, ge=0, description="disk space that uploads and datasets leave free for the database"
    )
    upload_hours: float = Field(default=72.0, gt=0, le=8760, description="time after which an open upload is aborted")
    max_active_jobs: int = Field(
        default=500, ge=1, description="maximum number of jobs of a project that have not ended"
    )
    max_labels: int = Field(
        default=2000,
        ge=2,
        description="maximum number of distinct labels of a dataset; memory of an evaluation grows with its square",
    )
    max_pending_dataset_versions: int = Field(
        default=100,
        ge=1,
        description="maximum number of dataset versions of a project that are not processed yet",
    )
    max_dataset_versions: int = Field(
        default=1000,
        ge=1,
        description="maximum number of versions of a dataset; erasures create theirs also beyond it",
    )
    max_datasets: int = Field(default=1000, ge=1, description="maximum number of datasets of a project")
    max_open_uploads: int = Field(
        default=100, ge=1, description="maximum number of uploads of a project that are not committed or aborted"
    )
    max_models: int = Field(
        default=1000, ge=1, description="maximum number of models of a project, checked when a job is submitted"
    )
    max_aliases: int = Field(default=100, ge=1, description="maximum number of aliases of a model")
    max_members: int = Field(default=1000, ge=1, description="maximum number of members of a project")
    max_service_accounts: int = Field(default=100, ge=1, description="maximum number of service accounts of a project")
    max_keys_per_user: int = Field(default=100, ge=1, description="maximum number of valid API keys of a user")
    max_sessions_per_user: int = Field(
        default=100, ge=2, description="maximum number of sessions of a user; a further one ends the oldest"
    )
    max_base_models: int = Field(default=1000, ge=1, description="maximum number of base models in the catalogue")
    max_endpoints: int = Field(default=50, ge=1, description="maximum number of endpoints of a project")
    max_endpoint_replicas: int = Field(
        default=8,
        ge=1,
        description="maximum number of replicas of an endpoint: `replicas.max` times its model versions",
    )
    max_project_replicas: int = Field(
        default=32, ge=1, description="maximum number of replicas of all endpoints of a project, stopped ones excluded"
    )
    key_cache_seconds: float = Field(
        default=5.0, ge=0, le=60, description="time for which a revoked key may still be accepted"
    )

    @property
    def project_limits(self) -> ProjectLimits:
        """The limits that services check."""
        return ProjectLimits(
            active_jobs=self.max_active_jobs,
            pending_dataset_versions=self.max_pending_dataset_versions,
            versions_per_dataset=self.max_dataset_versions,
            upload_bytes=self.upload_bytes,
            upload_ttl=timedelta(hours=self.upload_hours),
            stored_bytes=self.project_bytes,
            datasets=self.max_datasets,
            open_uploads=self.max_open_uploads,
            models=self.max_models,
            aliases_per_model=self.max_aliases,
            members=self.max_members,
            service_accounts=self.max_service_accounts,
            keys_per_user=self.max_keys_per_user,
            sessions_per_user=self.max_sessions_per_user,
            base_models=self.max_base_models,
            endpoints=self.max_endpoints,
            replicas_per_endpoint=self.max_endpoint_replicas,
            replicas_per_project=self.max_project_replicas,
        )


class WorkerSettings(BaseSettings):
    """Intervals, timeouts and limits of the worker."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_WORKER_", frozen=True, extra="forbid")
    tick_seconds: float = Field(
        default=0.5, gt=0, le=60, description="interval at which active runs, data processes and endpoints are polled"
    )
    outbox_lease_seconds: float = Field(
        default=60.0, gt=0, description="time for which a leased outbox intent belongs to one worker"
    )
    attempt_heartbeat_timeout_seconds: float = Field(
        default=30.0, gt=0, description="time without a report after which an attempt counts as lost"
    )
    preempt_grace_seconds: float = Field(
        default=60.0, ge=0, description="time to save a checkpoint before a preempted run is killed"
    )
    cancel_grace_seconds: float = Field(default=10.0, ge=0, description="time to stop before a cancelled run is killed")
    rollout_seconds: float = Field(
        default=300.0, gt=0, description="time in which the applications of a rollout must become healthy"
    )
    data_processes: int = Field(
        default=2,
        ge=1,
        description="dataset versions that are processed in parallel, each using up to a few GiB of memory",
    )
    retention_hours: float = Field(
        default=24.0, ge=0, description="time for which run folders and checkpoints are kept after the end of a job"
    )
    job_history_days: float = Field(
        default=365.0, ge=1, description="time for which the events and the log of a job are kept after its end"
    )
    audit_days: float | None = Field(
        default=None, ge=1, description="time for which audit entries are kept; default: without limit"
    )
    endpoint_traffic_days: float = Field(
        default=7.0, ge=1, le=90, description="time for which the requests to endpoints are kept by minute"
    )
    idempotency_ttl_hours: float = Field(
        default=168.0, ge=24, description="time for which an idempotency key is stored"
    )
    max_lost_runs: int = Field(
        default=5, ge=1, description="number of lost runs without a new checkpoint after which the job fails"
    )

    @property
    def audit_retention(self) -> timedelta | None:
        """``audit_days`` as a timedelta."""
        return None if self.audit_days is None else timedelta(days=self.audit_days)

    @property
    def outbox_lease(self) -> timedelta:
        """``outbox_lease_seconds`` as a timedelta."""
        return timedelta(seconds=self.outbox_lease_seconds)


class TlsSettings(BaseSettings):
    """Trust in TLS servers."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_", frozen=True, extra="forbid")
    ca_bundle: Path | None = Field(
        default=None,
        description="PEM file with the certificate authorities of the installation. They are trusted beside those of "
        "the system for `WINDLASS_CLUSTER_INTERNAL_URL` and presigned requests, and instead of others for the object "
        "store and, with `sslmode=verify-full`, the database. Pods of runs and endpoints get them too",
    )

    @field_validator("ca_bundle")
    @classmethod
    def _has_certificates(cls, path: Path | None) -> Path | None:
        if path is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(path)
        except OSError as error:
            raise ValueError(f"{path} cannot be read as certificates in PEM format: {error}") from error
        return path


class S3Settings(BaseSettings):
    """The object store. Without a bucket the server uses a folder of its data directory."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_S3_", frozen=True, extra="forbid")
    bucket: str = Field(default="", max_length=63, description="bucket; it must exist, without object versioning")
    endpoint: str = Field(default="", description="URL of the store inside the cluster; empty: AWS")
    public_endpoint: str = Field(
        default="",
        description="URL at which clients outside of the cluster reach the store; empty: uploads go through the API",
    )
    region: str = Field(default="us-east-1", min_length=1, description="region of the bucket")
    access_key_id: str = Field(default="", description="access key; empty: the AWS default credentials of the pod")
    secret_access_key: SecretStr = Field(default=SecretStr(""), description="secret of the access key")
    part_bytes: int = Field(
        default=64 << 20,
        ge=5 << 20,
        le=5 << 30,
        description="length of the parts in which pods send larger files; each part is in memory once. "
        "A file of more than 10,000 parts has longer ones",
    )
    url_seconds: int = Field(default=3600, ge=10, le=604_800, description="time for which a presigned URL is valid")


class OperatorSettings(BaseSettings):
    """Operators, in a cluster."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_OPERATORS_", frozen=True, extra="forbid")
    namespace: str = Field(
        default="windlass-system",
        min_length=1,
        max_length=63,
        description="namespace of the control plane and of its Lease; pods of projects may connect to it, "
        "and the admission policies refer to its service accounts",
    )
    runner_namespace: str = Field(
        default="",
        max_length=63,
        description="a further namespace whose account `windlass-runner` may create RayJobs: of Kubeflow Pipelines",
    )
    kuberay_namespace: str = Field(
        default="ray-system",
        min_length=1,
        max_length=63,
        description="namespace of KubeRay, which may connect to Ray's dashboard in pods of projects",
    )
    object_store_peers: list[dict[str, Any]] = Field(
        default=[],
        description="NetworkPolicyPeers of the object store as JSON, to which pods of projects may connect; "
        "empty: every address, on the port of the object store",
    )
    object_store_port: int = Field(default=443, ge=1, le=65535, description="port of the object store")
    host: str = Field(default="0.0.0.0", description="listen address of health and metrics")  # noqa: S104 - a pod's own network
    port: int = Field(default=8080, ge=0, le=65535, description="port of health and metrics; 0: any free port")
    leader_lease_seconds: float = Field(default=15.0, ge=2, le=300, description="lease duration of leader election")
    resync_seconds: float = Field(
        default=300.0, ge=1, le=3600, description="interval of full reconciliation in addition to watches"
    )
    usage_seconds: float = Field(
        default=2.0,
        ge=0.2,
        le=60,
        description="delay of an update of a status that only changed usage causes; one update covers all changes of "
        "that time. Conditions that a changed spec or child causes are written at once",
    )
    workers: int = Field(default=4, ge=1, le=64, description="resources that are reconciled in parallel")
