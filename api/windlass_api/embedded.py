"""The server of ``windlass up``: API and worker in one process, local back ends.

Its data is in SQLite and a folder of the data directory, or in PostgreSQL and a bucket that the settings name.
"""

import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from windlass.audit_settings import AuditSettings
from windlass.database_settings import DatabaseSettings
from windlass.domain.projects import Pool, StoredQuota
from windlass.identity_settings import OidcSettings
from windlass.orchestration.data_process import EmbeddedDataProcessor
from windlass.orchestration.local import LocalPipelineBackend
from windlass.orchestration.model_import import EmbeddedModelImporter
from windlass.orchestration.ray_head import LocalRay
from windlass.orchestration.run_folders import LocalRunFolders
from windlass.orchestration.task_processes import TransferAccess
from windlass.ports import JoinableRay, ServingBackend
from windlass.runtime.context import RAY_ADDRESS_VARIABLE
from windlass.services.projects import Projects
from windlass.services.transfer_tokens import TransferTokens
from windlass.serving.local import LocalServing
from windlass.serving.probe import ProbePool
from windlass.serving.staged import StagedServing
from windlass.settings import LimitSettings, S3Settings, WorkerSettings
from windlass_api import process
from windlass_api.composition import Application, ApplicationSettings, Ports, ServingPorts, compose
from windlass_api.dependencies import AppContext
from windlass_api.job_runner import LocalTraining, TrainingPorts
from windlass_api.process import BOOTSTRAP, DataDirectory, SystemClock, ensure_admin_key
from windlass_api.sign_in_ports import identity_provider, sign_in_policy
from windlass_api.storage_ports import migrate_database, open_database, open_store, project_keys

_CPU_SLOTS = 2


def build(data_dir: DataDirectory, url: str, new_ray: Callable[[Path, str], JoinableRay] = LocalRay) -> Application:
    """Create the server of a data directory.

    ``new_ray`` returns the Ray cluster for its folder and a Python interpreter.
    """
    data_dir.bind_mode("embedded")
    limits, oidc, clock = LimitSettings(), OidcSettings(), SystemClock()
    database_settings = DatabaseSettings()
    migrate_database(database_settings)
    # API and worker are one process here, in the role of the worker, so row security restricts neither.
    database, _ = open_database(
        database_settings, database_settings.of_worker, clock, lambda: data_dir.path, serves_api=False
    )
    store = open_store(S3Settings(), limits, lambda: data_dir.path, project_keys(database, clock))
    hasher = data_dir.secret_hasher()
    tokens = TransferTokens(hasher, clock, store.store)
    by_path = store.signer is None
    ray = new_ray(data_dir.path / "ray", sys.executable)

    def run_environment() -> dict[str, str]:
        return {**ray.environment(), RAY_ADDRESS_VARIABLE: ray.address()}

    pipelines = LocalPipelineBackend(data_dir.path / "runs", sys.executable, environment=run_environment)
    with database.read() as uow:
        pipelines.update_api_url(url, [run.name for run in uow.all_projects().runs.all({"ended_at": None})])
    serving: ServingBackend = LocalServing(data_dir.path / "serve", ray, sys.executable)
    ports = Ports(
        database=database,
        store=store.store,
        signer=store.signer,
        data_keys=store.data_keys,
        clock=clock,
        folders=LocalRunFolders(data_dir.path / "runs"),
        processor=EmbeddedDataProcessor(
            data_dir.path / "data", sys.executable, None if by_path else TransferAccess(url, tokens.for_data_task)
        ),
        importer=EmbeddedModelImporter(
            data_dir.path / "imports", sys.executable, None if by_path else TransferAccess(url, tokens.for_import)
        ),
        training=TrainingPorts(
            pipelines, api_url=url, local=LocalTraining(ray, workspace=lambda run: data_dir.path / "runs" / run)
        ),
        serving=ServingPorts(
            serving if by_path else StagedServing(serving, store.store, data_dir.path / "models"), ProbePool()
        ),
        identity=identity_provider(oidc),
    )
    settings = ApplicationSettings(
        limits=limits,
        worker=WorkerSettings(),
        audit=AuditSettings(),
        hasher=hasher,
        sign_in=sign_in_policy(oidc),
        # a data directory has one server at a time, so a restarted server may take over its own leases
        holder=data_dir.read_or_create("holder", secrets.token_hex(8)),
    )
    application = compose(settings, ports)
    _initialize(data_dir, application.app_context)
    return application


def _initialize(data_dir: DataDirectory, app_context: AppContext) -> None:
    """Initialize a new data directory: pool ``local``, project ``default`` with its quota, and the admin key."""
    deps, clock = app_context.deps, app_context.deps.clock
    with deps.database.write() as uow:
        if not uow.pools.all() and not uow.projects.all():
            project = Projects(deps, BOOTSTRAP).add(uow, "default", "Default", None)
            gpus = _gpus()
            capacity = len(gpus) or _CPU_SLOTS
            pool = Pool(
                id=deps.new_id("pool"),
                name="local",
                capacity=capacity,
                gpu_type=gpus[0] if gpus else "",
                created_at=clock.now(),
            )
            uow.pools.add(pool)
            uow.project(project.id).quotas.add(StoredQuota(project=project.id, pool="local", nominal=capacity))
    ensure_admin_key(data_dir, app_context, "embedded server")


def _gpus() -> list[str]:
    """Return the names of this machine's NVIDIA GPUs as reported by the driver."""
    names = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
        names.append(lines.get("Model", "GPU").strip())
    return names


def main() -> int:
    """Run the embedded server until SIGINT or SIGTERM."""
    return process.main("windlass_api.embedded", __doc__, build)


if __name__ == "__main__":
    sys.exit(main())
