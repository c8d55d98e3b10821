"""Builds what runs the pipelines of a cluster: pods, or a Kubeflow Pipelines server."""

from dataclasses import dataclass

from windlass.cluster_settings import ClusterSettings
from windlass.domain.errors import InvalidError
from windlass.kube.client import KubeClient
from windlass.kube.jobs.pipeline_backend import KubernetesPipelineBackend, KubernetesRunFolders, RunnerSettings
from windlass.kube.jobs.pod_spec import CONTEXT_PATH, WORKSPACE_PATH, cpu_limit
from windlass.kube.jobs.ray_job import RayJobSettings
from windlass.kube.jobs.ray_job_launcher import RAY_JOB_SETTINGS_VARIABLE
from windlass.kube.jobs.task_jobs import TaskJobs
from windlass.kube.kfp.backend import KfpPipelineBackend, KfpSettings
from windlass.kube.kfp.run_end import KfpRunFolders, RunKiller
from windlass.kube.kfp.run_page import RunPages
from windlass.kube.kfp.run_record import KFP_RUN_TASK, RunRecords
from windlass.kube.names import TASK_LABEL, labels, namespace_of
from windlass.orchestration.kfp.client import KfpClient
from windlass.orchestration.kfp.package import PipelinePackage, StepPod, render_package
from windlass.pipeline_settings import PipelineServer, PipelineSettings
from windlass.ports import RunFolders
from windlass.services.secrets import SecretHasher
from windlass_api.job_runner import TrainingPorts


@dataclass(frozen=True)
class RunPorts:
    """The adapters of pipeline runs."""

    folders: RunFolders
    training: TrainingPorts


def run_ports(
    settings: PipelineSettings, runner: RunnerSettings, client: KubeClient, tasks: TaskJobs, api_url: str
) -> RunPorts:
    """Return the adapters that the settings choose; a Kubeflow Pipelines server is not contacted.

    Raises:
        InvalidError: no server is configured.
    """
    if settings.backend is PipelineServer.KFP:
        return _kfp_ports(settings, runner, client, tasks.namespace, api_url)
    backend = KubernetesPipelineBackend(client, tasks, runner)
    return RunPorts(KubernetesRunFolders(client, tasks), TrainingPorts(backend, api_url=api_url, local=None))


def kfp_client(settings: PipelineSettings) -> KfpClient:
    """Return the client of the server.

    Raises:
        InvalidError: no server is configured.
    """
    if not settings.kfp_host:
        raise InvalidError(
            "WINDLASS_PIPELINES_BACKEND=kfp needs the URL of the server",
            hint="set WINDLASS_PIPELINES_KFP_HOST, such as http://ml-pipeline.kubeflow.svc:8888",
        )
    return KfpClient(settings.kfp_host, settings.kfp_token_file)


def _kfp_ports(
    settings: PipelineSettings, runner: RunnerSettings, client: KubeClient, system_namespace: str, api_url: str
) -> RunPorts:
    server, records = kfp_client(settings), _run_records(settings, client, system_namespace)
    backend = KfpPipelineBackend(
        client,
        server,
        records,
        KfpSettings(
            package=pipeline_package(runner),
            multi_user=_is_multi_user(settings),
            service_account=settings.kfp_service_account,
            start_seconds=settings.kfp_start_seconds,
        ),
    )
    pages = RunPages(server, records, settings.kfp_ui_url)
    training = TrainingPorts(backend, api_url=api_url, local=None, page_url=pages.url)
    return RunPorts(KfpRunFolders(client, RunKiller(client, server, records), server, records), training)


def kfp_run_folders(settings: PipelineSettings, client: KubeClient, system_namespace: str) -> KfpRunFolders | None:
    """Return what ends the runs on a Kubeflow Pipelines server; None if the settings choose pods.

    Raises:
        InvalidError: no server is configured.
    """
    if settings.backend is not PipelineServer.KFP:
        return None
    server, records = kfp_client(settings), _run_records(settings, client, system_namespace)
    return KfpRunFolders(client, RunKiller(client, server, records), server, records)


def _is_multi_user(settings: PipelineSettings) -> bool:
    return settings.kfp_token_file is not None


def _run_records(settings: PipelineSettings, client: KubeClient, system_namespace: str) -> RunRecords:
    namespace = namespace_of if _is_multi_user(settings) else lambda _: settings.kfp_namespace
    return RunRecords(client, system_namespace, namespace)


def pipeline_package(runner: RunnerSettings) -> PipelinePackage:
    """Return the pipeline with the settings of the installation."""
    return render_package(
        StepPod(
            image=runner.image,
            cpu_request=runner.amounts["cpu"],
            cpu_limit=cpu_limit(runner.amounts["cpu"]),
            memory=runner.amounts["memory"],
            variables={RAY_JOB_SETTINGS_VARIABLE: runner.ray_job.model_dump_json()},
            labels=labels() | {TASK_LABEL: KFP_RUN_TASK},
            context_path=CONTEXT_PATH,
            workspace_path=WORKSPACE_PATH,
        )
    )


def runner_settings(settings: ClusterSettings, hasher: SecretHasher) -> RunnerSettings:
    """Return the settings of pipeline runs."""
    return RunnerSettings(
        image=settings.pipelines_image,
        amounts={"cpu": settings.runner_cpu, "memory": f"{settings.runner_memory_mib}Mi"},
        ray_job=ray_job_settings(settings, hasher),
    )


def ray_job_settings(settings: ClusterSettings, hasher: SecretHasher) -> RayJobSettings:
    """Return the settings of trainers, of runs and warm ones."""
    return RayJobSettings(
        image=settings.ray_image or settings.pipelines_image,
        ray_version=settings.ray_version,
        head_cpu=settings.ray_head_cpu,
        head_memory_mib=settings.ray_head_memory_mib,
        worker_cpu=settings.trainer_cpu,
        worker_memory_mib=settings.trainer_memory_mib,
        shared_memory_mib=settings.shared_memory_mib,
        drain_seconds=settings.drain_seconds,
        control_plane=hasher.control_plane_id(),
    )
