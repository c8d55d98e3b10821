"""Settings of what runs the pipelines of a cluster, as those of ``windlass.settings``."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PipelineServer(StrEnum):
    """What runs the pipelines of a cluster."""

    KUBERNETES = "kubernetes"
    KFP = "kfp"


class PipelineSettings(BaseSettings):
    """What runs the pipelines of jobs in a cluster."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_PIPELINES_", frozen=True, extra="forbid")
    backend: PipelineServer = Field(
        default=PipelineServer.KUBERNETES,
        description="`kubernetes`: pods in the namespace of the control plane; `kfp`: a Kubeflow Pipelines server",
    )
    kfp_host: str = Field(
        default="",
        pattern=r"^(https?://[^/\s]+(/[^\s]*)?)?$",
        description="URL of the API server of Kubeflow Pipelines, as `http://ml-pipeline.kubeflow.svc:8888`",
    )
    kfp_namespace: str = Field(
        default="kubeflow",
        min_length=1,
        max_length=63,
        description="namespace of the pods of runs; with a multi-user server they are in the namespaces of projects",
    )
    kfp_ui_url: str = Field(
        default="",
        pattern=r"^(https?://[^/\s]+(/[^\s]*)?)?$",
        description="URL of the pages of Kubeflow Pipelines for users, to which jobs link; empty: no links",
    )
    kfp_token_file: Path | None = Field(
        default=None,
        description="projected service account token with the audience `pipelines.kubeflow.org`, for a multi-user "
        "server; without it the server must be single-user",
    )
    kfp_service_account: str = Field(
        default="windlass-runner", max_length=253, description="service account of the pods of runs"
    )
    kfp_start_seconds: float = Field(
        default=900.0, ge=60, le=86_400, description="time after which a run is lost whose step has not started"
    )
