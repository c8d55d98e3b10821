"""Settings of the control plane of a cluster, as those of ``windlass.settings``."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

from windlass.domain.autoscaling import ScalingDelays

CpuQuantity = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}m$")]
"""An amount of CPU in thousandths, in the notation of Kubernetes."""


class ClusterSettings(BaseSettings):
    """Connection of the control plane to a cluster."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_CLUSTER_", frozen=True, extra="forbid")
    kubeconfig: Path | None = Field(
        default=None, description="kubeconfig file; default: the pod's service account, else KUBECONFIG"
    )
    leader_lease_seconds: float = Field(
        default=15.0, ge=2, le=300, description="lease duration of the leader that syncs the cluster state"
    )
    resync_seconds: float = Field(
        default=300.0, ge=1, le=3600, description="interval of full lists in addition to watches"
    )
    watch_idle_timeout_seconds: float = Field(
        default=75.0, ge=5, le=600, description="idle time after which a watch is restarted"
    )
    system_namespace: str = Field(
        default="windlass-system",
        min_length=1,
        max_length=63,
        description="namespace of the control plane and its tasks",
    )
    internal_url: str = Field(
        default="http://windlass-internal.windlass-system.svc:8742",
        description="where the pods of runs, data tasks and model servers reach the control plane",
    )
    pipelines_image: str = Field(
        default="", description="image of pipeline runs and data tasks; empty: this server has no training back end"
    )
    ray_image: str = Field(
        default="",
        description="image of trainers, model imports and model servers; empty: trainers use `pipelines_image`, and "
        "endpoints are not served",
    )
    ray_version: str = Field(default="2.60.0", description="Ray version of that image")
    runner_cpu: CpuQuantity = Field(default="250m", description="CPU of a pipeline run, as 250m")
    runner_memory_mib: int = Field(default=768, ge=128, description="memory of a pipeline run in MiB")
    data_cpu: CpuQuantity = Field(default="1000m", description="CPU of a data task")
    data_memory_mib: int = Field(default=4096, ge=256, description="memory of a data task in MiB")
    models_claim: str = Field(
        default="",
        max_length=253,
        description="PersistentVolumeClaim in that namespace with base models, which imports mount at `/models`; "
        "empty: base models cannot be added",
    )
    ray_head_cpu: CpuQuantity = Field(default="1000m", description="CPU of the Ray head of a trainer")
    ray_head_memory_mib: int = Field(
        default=4096,
        ge=1024,
        description="memory of the Ray head of a trainer in MiB; a single worker trains in the pod of the head",
    )
    trainer_cpu: CpuQuantity = Field(
        default="4000m",
        description="CPU of a trainer's worker for each of its GPUs; it computes with one thread for each CPU",
    )
    trainer_memory_mib: int = Field(
        default=24_576, ge=1024, description="memory of a trainer's worker for each of its GPUs in MiB"
    )
    server_head_cpu: CpuQuantity = Field(default="500m", description="CPU of the Ray head of a served model version")
    server_head_memory_mib: int = Field(
        default=2048, ge=1024, description="memory of the Ray head of a served model version in MiB"
    )
    replica_cpu: CpuQuantity = Field(default="1000m", description="CPU of a replica of a served model version")
    replica_memory_mib: int = Field(
        default=3072, ge=512, description="memory of a replica of a served model version in MiB"
    )
    shared_memory_mib: int = Field(
        default=1024,
        ge=64,
        description="maximum of /dev/shm in the pods of a trainer in MiB, for each GPU; part of their memory",
    )
    upscale_delay_seconds: float = Field(
        default=ScalingDelays().upscale,
        ge=0,
        le=86_400,
        description="time for which an endpoint's load must demand more replicas before they are added",
    )
    downscale_delay_seconds: float = Field(
        default=ScalingDelays().downscale,
        ge=0,
        le=86_400,
        description="time for which an endpoint's load must demand fewer replicas before they are removed, all but one",
    )
    scale_to_zero_delay_seconds: float = Field(
        default=ScalingDelays().to_zero,
        ge=0,
        le=86_400,
        description="time without a request before the last replica of an endpoint with `replicas.min` 0 is removed",
    )
    drain_seconds: float = Field(
        default=3600.0,
        ge=0,
        le=86_400,
        description="time that a finished trainer keeps its GPUs while the control plane does not accept its result",
    )

    @property
    def scaling_delays(self) -> ScalingDelays:
        """The delays of the autoscaling of endpoints."""
        return ScalingDelays(
            upscale=self.upscale_delay_seconds,
            downscale=self.downscale_delay_seconds,
            to_zero=self.scale_to_zero_delay_seconds,
        )
