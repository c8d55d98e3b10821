"""The control plane of a cluster whose resources own pools and projects: the API, the worker, or both in one process.

Replicas share PostgreSQL and an object store, and keep nothing on disk. Without them, as for ``windlass up --cluster``,
one process keeps SQLite and a folder of objects in its data directory.
"""

import argparse
import contextlib
import secrets
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from windlass.audit_settings import AuditSettings
from windlass.cluster_settings import ClusterSettings
from windlass.database_settings import DatabaseSettings
from windlass.domain.errors import InvalidError
from windlass.identity_settings import OidcSettings
from windlass.kube.cache.informer import WatchTimings
from windlass.kube.client import KubeClient, load_configuration
from windlass.kube.cluster_view import InformerClusterView
from windlass.kube.errors import KubeForbiddenError
from windlass.kube.jobs.data_tasks import KubernetesDataProcessor, KubernetesModelImporter
from windlass.kube.jobs.result_tasks import ResultTasks, TaskSettings
from windlass.kube.jobs.task_jobs import TaskJobs
from windlass.kube.jobs.warm_trainers import KubernetesWarmTrainers
from windlass.kube.priority_classes import priority_class_value
from windlass.kube.quota_writer import ProjectQuotaWriter
from windlass.kube.resources.model_endpoint import HeadResources, ReplicaResources
from windlass.kube.serving.backend import KubernetesServing, ServingSettings
from windlass.orchestration.data_process import EmbeddedDataProcessor
from windlass.orchestration.model_import import EmbeddedModelImporter
from windlass.orchestration.run_folders import LocalRunFolders
from windlass.pipeline_settings import PipelineSettings
from windlass.ports import Clock, DataProcessor, ModelImporter, RunFolders
from windlass.services.keys import Keys
from windlass.services.model_server_credentials import ModelServerCredentials
from windlass.services.secrets import SecretHasher
from windlass.services.sync_lease import RowLease
from windlass.services.transfer_tokens import TASK_LIFETIME, TransferTokens
from windlass.serving.probe import ProbePool
from windlass.settings import (
    LimitSettings,
    S3Settings,
    SecretSettings,
    TlsSettings,
    WorkerSettings,
)
from windlass.telemetry import set_up_logging
from windlass_api import process
from windlass_api.app import INTERNAL_ROUTERS, PUBLIC_ROUTERS, WORKER_ROUTERS, create_app
from windlass_api.composition import Application, ApplicationSettings, ClusterPorts, Ports, ServingPorts, compose
from windlass_api.dependencies import AppContext
from windlass_api.http_server import Shutdown
from windlass_api.job_runner import TrainingPorts
from windlass_api.pipeline_ports import ray_job_settings, run_ports, runner_settings
from windlass_api.process import BOOTSTRAP, DataDirectory, SystemClock, ensure_admin_key
from windlass_api.sign_in_ports import identity_provider, sign_in_policy
from windlass_api.storage_ports import StorePorts, open_database, open_store, project_keys

_DRY_RUN_TIMEOUT = 5.0
"""Seconds that a request waits for the dry run of a quota change by the API server."""
REPLICA_SHUTDOWN = Shutdown(drain_seconds=8.0, request_seconds=100)
"""Of a replica of the API: together shorter than the grace period of its pod."""


class ProcessRole(StrEnum):
    """What a process runs."""

    API = "api"
    WORKER = "worker"
    ALL = "all"


@dataclass(frozen=True)
class ProcessOptions:
    """How this process was started."""

    role: ProcessRole
    data_dir: DataDirectory | None

    def require_data_dir(self, purpose: str, setting: str) -> DataDirectory:
        """Return the data directory.

        Raises:
            InvalidError: there is none, so that the setting is missing, or the role needs what replicas share.
        """
        if self.role is not ProcessRole.ALL:
            raise InvalidError(
                f"--role {self.role} needs {setting}: a data directory with {purpose} serves one process",
                hint=f"set {setting}, or start one process with --role all",
            )
        if self.data_dir is None:
            raise InvalidError(f"there is no place for {purpose}", hint=f"set {setting}, or pass --home")
        return self.data_dir

    def objects_folder(self) -> Path:
        """Return where objects are without a bucket. Raises as ``require_data_dir``."""
        return self.require_data_dir("objects", "WINDLASS_S3_BUCKET").path


def build(options: ProcessOptions) -> Application:
    """Create the application of a replica for the cluster of the settings or KUBECONFIG.

    Raises:
        InvalidError: no cluster is configured, a setting is missing, or the database has another schema version.
    """
    if options.data_dir is not None:
        options.data_dir.bind_mode("cluster")
    TlsSettings()  # fails on an unusable file; the clients read the variable themselves
    limits, clock, settings, pipelines = LimitSettings(), SystemClock(), ClusterSettings(), PipelineSettings()
    new_client = _kube_client_factory(settings)
    secret_settings, oidc = SecretSettings(), OidcSettings()
    hasher, holder = _secret_hasher(options, secret_settings), _holder(options)
    database_settings = DatabaseSettings()
    database, unrestricted = open_database(
        database_settings,
        database_settings.of_api if options.role is ProcessRole.API else database_settings.of_worker,
        clock,
        lambda: options.require_data_dir("the database", "WINDLASS_DATABASE_URL").path,
        serves_api=options.role is not ProcessRole.WORKER,
    )
    lease = RowLease(database, holder, timedelta(seconds=settings.leader_lease_seconds))
    store = open_store(S3Settings(), limits, options.objects_folder, project_keys(database, clock))
    tokens = TransferTokens(hasher, clock, store.store)
    if settings.pipelines_image:
        tasks = _pod_ports(settings, pipelines, store, new_client(), tokens)
    else:
        tasks = _task_ports(options)
    ports = Ports(
        database=database,
        store=store.store,
        signer=store.signer,
        data_keys=store.data_keys,
        clock=clock,
        folders=tasks.folders,
        processor=tasks.processor,
        importer=tasks.importer,
        training=tasks.training,
        serving=_serving_ports(settings, new_client(guard=lease.ensure_leader), tokens, store),
        cluster=_cluster_ports(settings, new_client, clock, lease, hasher),
        identity=identity_provider(oidc),
    )
    role = options.role
    application = compose(
        ApplicationSettings(
            limits,
            WorkerSettings(),
            hasher,
            sign_in_policy(oidc),
            holder,
            runs_worker=role is not ProcessRole.API,
            serves_api=role is not ProcessRole.WORKER,
            audit=AuditSettings(),
            database_problem=unrestricted,
        ),
        ports,
    )
    if role is not ProcessRole.WORKER:
        _ensure_admin_key(options, secret_settings, application.app_context)
    return application


# ---------------------------------------------------------------- ports


@dataclass(frozen=True)
class TaskPorts:
    """What runs jobs, and the tasks that parse untrusted files."""

    folders: RunFolders
    processor: DataProcessor
    importer: ModelImporter
    training: TrainingPorts | None


def _task_ports(options: ProcessOptions) -> TaskPorts:
    folder = options.require_data_dir("the processes of datasets", "WINDLASS_S3_BUCKET").path
    return TaskPorts(
        folders=LocalRunFolders(folder / "runs"),
        processor=EmbeddedDataProcessor(folder / "data", sys.executable),
        importer=EmbeddedModelImporter(folder / "imports", sys.executable),
        training=None,
    )


def _pod_ports(
    settings: ClusterSettings,
    pipelines: PipelineSettings,
    store: StorePorts,
    client: KubeClient,
    tokens: TransferTokens,
) -> TaskPorts:
    if store.signer is None:
        raise InvalidError(
            "WINDLASS_CLUSTER_PIPELINES_IMAGE needs WINDLASS_S3_BUCKET: pods cannot reach a folder of this process",
            hint="set WINDLASS_S3_BUCKET, or leave WINDLASS_CLUSTER_PIPELINES_IMAGE empty",
        )
    tasks = TaskJobs(client, settings.system_namespace, _watch_timings(settings))
    data = TaskSettings(
        image=settings.pipelines_image,
        amounts={"cpu": settings.data_cpu, "memory": f"{settings.data_memory_mib}Mi"},
        api_url=settings.internal_url,
        deadline_seconds=int(TASK_LIFETIME.total_seconds()),
    )
    imports = replace(data, image=settings.ray_image or settings.pipelines_image, models_claim=settings.models_claim)
    runs = run_ports(pipelines, runner_settings(settings, tokens.hasher), client, tasks, settings.internal_url)
    return TaskPorts(
        folders=runs.folders,
        processor=KubernetesDataProcessor(ResultTasks("data", tasks, store.store, data), tokens.for_data_task),
        importer=KubernetesModelImporter(ResultTasks("import", tasks, store.store, imports), tokens.for_import),
        training=runs.training,
    )


def _watch_timings(settings: ClusterSettings) -> WatchTimings:
    return WatchTimings(resync=settings.resync_seconds, idle_timeout=settings.watch_idle_timeout_seconds)


def _serving_ports(
    settings: ClusterSettings, client: KubeClient, tokens: TransferTokens, store: StorePorts
) -> ServingPorts | None:
    """Return what serves endpoints; None without an image, or if pods cannot read the object store."""
    if not settings.ray_image or store.signer is None:
        return None
    backend = KubernetesServing(
        client,
        ServingSettings(
            control_plane=tokens.hasher.control_plane_id(),
            image=settings.ray_image,
            ray_version=settings.ray_version,
            internal_url=settings.internal_url,
            replica=ReplicaResources(cpu=settings.replica_cpu, memory=f"{settings.replica_memory_mib}Mi"),
            head=HeadResources(cpu=settings.server_head_cpu, memory=f"{settings.server_head_memory_mib}Mi"),
        ),
        ModelServerCredentials(tokens.hasher, tokens),
        _watch_timings(settings),
    )
    return ServingPorts(backend, ProbePool(), settings.scaling_delays)


def _kube_client_factory(settings: ClusterSettings) -> Callable[..., KubeClient]:
    """Return the constructor of clients of the cluster.

    Raises:
        InvalidError: no cluster is configured.
    """
    try:
        return partial(KubeClient, load_configuration(settings.kubeconfig))
    except KubeForbiddenError as error:
        raise InvalidError(error.message) from error


def _cluster_ports(
    settings: ClusterSettings,
    new_client: Callable[..., KubeClient],
    clock: Clock,
    lease: RowLease,
    hasher: SecretHasher,
) -> ClusterPorts:
    guarded, max_staleness = new_client(guard=lease.ensure_leader), 2 * settings.watch_idle_timeout_seconds
    return ClusterPorts(
        view=InformerClusterView(new_client(), clock, _watch_timings(settings), max_staleness=max_staleness),
        lease=lease,
        resources=ProjectQuotaWriter(guarded),
        dry_run=ProjectQuotaWriter(new_client(timeout=_DRY_RUN_TIMEOUT)),
        priority=priority_class_value,
        warm_trainers=KubernetesWarmTrainers(guarded, ray_job_settings(settings, hasher)),
    )


# ---------------------------------------------------------------- identity and secrets


def _holder(options: ProcessOptions) -> str:
    """Return the name of this process's leases.

    A data directory has one server at a time, so a restarted server may reuse its own leases. A replica never does: the
    process before it in this pod may still run.
    """
    token = secrets.token_hex(8)
    if options.data_dir is not None and options.role is ProcessRole.ALL:
        token = options.data_dir.read_or_create("holder", token)
    return f"{socket.gethostname()}:{token}"


def _secret_hasher(options: ProcessOptions, settings: SecretSettings) -> SecretHasher:
    if settings.pepper is not None:
        return SecretHasher(settings.pepper.get_secret_value().encode())
    return options.require_data_dir("the pepper of keys", "WINDLASS_SECRETS_PEPPER").secret_hasher()


def _ensure_admin_key(options: ProcessOptions, settings: SecretSettings, app_context: AppContext) -> None:
    if settings.admin_key is not None:
        Keys(app_context.deps, BOOTSTRAP).ensure_admin(settings.admin_key.get_secret_value(), name="control plane")
    elif options.data_dir is not None:
        ensure_admin_key(options.data_dir, app_context, "control plane")


# ---------------------------------------------------------------- process


def _applications(role: ProcessRole, app_context: AppContext) -> list[FastAPI]:
    """Return the HTTP application of each port."""
    if role is ProcessRole.WORKER:
        return [create_app(app_context, WORKER_ROUTERS)]
    return [create_app(app_context, PUBLIC_ROUTERS), create_app(app_context, INTERNAL_ROUTERS)]


def _run(args: argparse.Namespace) -> None:
    role = ProcessRole(args.role)
    data_dir = None if args.home is None else DataDirectory(args.home.resolve())
    ports = {"port": args.port} | ({} if role is ProcessRole.WORKER else {"internal_port": args.internal_port})
    with process.locked(data_dir) if data_dir else contextlib.nullcontext():
        set_up_logging()
        with process.listening(args.host, **ports) as listeners:
            application = build(ProcessOptions(role, data_dir))
            url = process.url_of(args.host, listeners[0])
            process.serve(
                application,
                list(zip(_applications(role, application.app_context), listeners, strict=True)),
                ready=lambda: None if data_dir is None else data_dir.write_server_file(url),
                stopping=lambda: None if data_dir is None else data_dir.remove_server_file(),
                shutdown=REPLICA_SHUTDOWN if role is ProcessRole.API else None,
            )


def main() -> int:
    """Run a replica of the control plane until SIGINT or SIGTERM."""
    parser = process.argument_parser("windlass_api.cluster", __doc__)
    parser.add_argument(
        "--role",
        choices=[role.value for role in ProcessRole],
        default=ProcessRole.ALL.value,
        help="what this process runs",
    )
    parser.add_argument(
        "--internal-port",
        type=process.port_number,
        default=8742,
        help="port of the API for the platform's own processes; --port is the API for users, or the probes of a worker",
    )
    parser.add_argument("--home", type=Path, help="data directory, for what has no setting of a shared service")
    args = parser.parse_args()
    return process.exit_code(lambda: _run(args))


if __name__ == "__main__":
    sys.exit(main())
