"""The composition root: ``compose`` builds the application of every mode, and of the tests, from its adapters."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from windlass.audit_settings import AuditSettings
from windlass.domain.autoscaling import ScalingDelays
from windlass.domain.capabilities import Capability
from windlass.domain.errors import WindlassError
from windlass.ports import (
    Clock,
    ClusterView,
    DataProcessor,
    IdentityProvider,
    ModelImporter,
    ObjectStore,
    ProjectResources,
    RunFolders,
    ServingBackend,
    UrlSigner,
    WarmTrainers,
    WorkerDatabase,
)
from windlass.services.access import AccessControl
from windlass.services.admission import Admission
from windlass.services.admission_queue import AdmissionQueue
from windlass.services.audit import AuditSealer
from windlass.services.autoscaling import Autoscaler
from windlass.services.base import WorkerDependencies
from windlass.services.budgets import Metering
from windlass.services.cluster_sync import ClusterSync
from windlass.services.data_keys import ProjectKeys
from windlass.services.denials import DenialLog
from windlass.services.pool_prices import PoolPriceHistory
from windlass.services.processing import Processing
from windlass.services.quota_backends import DatabaseQuotaBackend, KubernetesQuotaBackend, QuotaBackend
from windlass.services.request_loads import RequestLoads
from windlass.services.request_usage import RequestUsageCounter
from windlass.services.retention import Retention
from windlass.services.rollouts import Prober, Rollouts
from windlass.services.secrets import SecretHasher
from windlass.services.sign_in import SignIn, SignInPolicy
from windlass.services.sync_lease import RowLease
from windlass.services.transfer_tokens import TransferTokens
from windlass.services.uptime import ApiUptime
from windlass.services.warm_trainers import WarmTrainerReconciler
from windlass.settings import LimitSettings, WorkerSettings
from windlass_api.background_loops import BackgroundLoops, Loop
from windlass_api.committed_metrics import CommittedMetrics
from windlass_api.dependencies import AppContext
from windlass_api.job_runner import TrainingPorts
from windlass_api.metrics import publish_budgets
from windlass_api.worker import Worker

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApplicationSettings:
    """Settings, and what the data directory or a Secret holds."""

    limits: LimitSettings
    worker: WorkerSettings
    hasher: SecretHasher
    sign_in: SignInPolicy
    holder: str
    """Name of this server's leases; a restarted server with the same name takes over its own leases at once."""
    runs_worker: bool = True
    serves_api: bool = True
    """What this process runs; each replica in a cluster runs one of them or both."""
    audit: AuditSettings = field(default_factory=AuditSettings)
    database_problem: str = ""
    """Why row security does not restrict the API, where the database has it."""


@dataclass(frozen=True)
class ServingPorts:
    """What serves endpoints."""

    backend: ServingBackend
    prober: Prober
    scaling: ScalingDelays | None = None
    """The delays of the autoscaling; None where the back end scales applications itself."""


@dataclass(frozen=True)
class ClusterPorts:
    """The cluster whose resources own pools, projects and quotas."""

    view: ClusterView
    lease: RowLease
    """Held by the server that syncs the cluster."""
    resources: ProjectResources
    """Applies accepted quota changes; writes nothing while this server does not hold the lease."""
    dry_run: ProjectResources
    """Checks quota changes in requests."""
    priority: Callable[[int], int]
    """Maps a job's priority to that of its Workload."""
    warm_trainers: WarmTrainers
    """Unused where jobs are not pods."""


@dataclass(frozen=True)
class Ports:
    """The adapters. A server has the capabilities of those that are not None."""

    database: WorkerDatabase
    store: ObjectStore
    clock: Clock
    folders: RunFolders
    processor: DataProcessor
    importer: ModelImporter
    signer: UrlSigner | None = None
    """Presigned requests for ``store``; None where every process reads it by path."""
    data_keys: ProjectKeys | None = None
    """The keys by which ``store`` encrypts; None where it does not."""
    training: TrainingPorts | None = None
    serving: ServingPorts | None = None
    cluster: ClusterPorts | None = None
    identity: IdentityProvider | None = None
    """Who signs users in; None: they have API keys only."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What a server with these adapters can do."""
        owns_resources = self.cluster is None
        available = {
            Capability.TRAINING: self.training is not None,
            Capability.SERVING: self.serving is not None,
            Capability.GPU_SERVING: self.serving is not None and self.cluster is not None,
            Capability.POOL_WRITES: owns_resources,
            Capability.PROJECT_WRITES: owns_resources,
            Capability.LOCAL_MODELS: self.signer is None,
        }
        return frozenset(capability for capability, is_available in available.items() if is_available)


@dataclass(frozen=True)
class Application:
    """The components of a server."""

    ports: Ports
    app_context: AppContext
    worker: Worker
    runs_worker: bool
    api_loops: BackgroundLoops | None
    """Loops of a replica of the API."""

    def start(self) -> None:
        """Start the watches and the background loops."""
        if self.api_loops is not None:
            self.api_loops.start()
            if self.ports.serving is not None and self.ports.cluster is not None:
                self.ports.serving.backend.status()  # before the first request: it waits for the watches
        if not self.runs_worker:
            return
        self.ports.database.listen()
        if self.ports.cluster is not None:
            self.ports.cluster.view.start()
        elif self.worker.rollouts is not None:
            self.worker.rollouts.mark_unobserved()
        self.worker.start()

    def stop(self) -> None:
        """Stop the loops, then the back ends with their processes. Jobs resume from their checkpoints afterwards.

        The pods of a cluster run on without the control plane.
        """
        with contextlib.ExitStack() as stack:  # an error in one callback does not skip the others
            stack.callback(self.ports.database.close)
            if self.api_loops is not None:
                stack.callback(self._stop_api_loops, self.api_loops)
            if not self.runs_worker:
                return
            if self.ports.cluster is not None:
                stack.callback(self.ports.cluster.lease.release)
                stack.callback(self.ports.cluster.view.stop)
            if self.ports.serving is not None:
                stack.callback(self.ports.serving.prober.close)
            if self.ports.cluster is None:
                self._stop_local_processes(stack)
            stack.callback(self.worker.stop)

    def _stop_api_loops(self, loops: BackgroundLoops) -> None:
        loops.stop()
        with contextlib.suppress(WindlassError):
            self.app_context.denials.flush()
        if self.ports.cluster is not None:
            with contextlib.suppress(WindlassError):  # the worker removes the report of an instance that has ended
                self.app_context.request_loads.close()
        try:
            self.app_context.request_usage.flush()
        except WindlassError as error:
            _log.error("the last counts of requests are lost", extra={"error": str(error)})

    def _stop_local_processes(self, stack: contextlib.ExitStack) -> None:
        if self.ports.training is not None and self.ports.training.local is not None:
            stack.callback(self.ports.training.local.ray.stop)
        if self.ports.serving is not None:
            stack.callback(self.ports.serving.backend.stop)
        if self.worker.jobs is not None:
            stack.callback(self.worker.jobs.scheduling.stop_all)


def compose(settings: ApplicationSettings, ports: Ports) -> Application:
    """Build the application. Nothing is started, and nothing is written to the database."""
    database, clock, cluster, serving = ports.database, ports.clock, ports.cluster, ports.serving
    quota_backend: QuotaBackend
    if cluster is None:
        queue = AdmissionQueue(database)
        admission = Admission.embedded(queue)
        quota_backend = DatabaseQuotaBackend(admission, clock)
    else:
        queue = None
        admission = Admission.cluster(cluster.priority)
        quota_backend = KubernetesQuotaBackend(cluster.dry_run)
    database.add_commit_hook(CommittedMetrics())
    database.add_commit_hook(PoolPriceHistory(clock))
    uptime = ApiUptime(database, clock) if cluster is not None and settings.serves_api else None
    deps = WorkerDependencies(
        database=database,
        store=ports.store,
        clock=clock,
        admission=admission,
        quota_backend=quota_backend,
        hasher=settings.hasher,
        capabilities=ports.capabilities,
        serving=serving.backend if serving is not None else None,
        signer=ports.signer,
        data_keys=ports.data_keys,
        limits=settings.limits.project_limits,
        check_model_source=ports.importer.check_source,
        uptime=uptime,
    )
    worker = _worker(settings, ports, deps, queue)
    request_loads = RequestLoads(database, settings.holder, clock)
    denials = DenialLog(deps, settings.audit.denied_entries_per_caller, settings.audit.denied_entries)
    request_usage = RequestUsageCounter(database, deps.new_id("api"), clock)
    app_context = AppContext(
        deps=deps,
        access_control=AccessControl(
            database,
            clock,
            settings.hasher,
            TransferTokens(settings.hasher, clock, ports.store),
            SignIn(deps, ports.identity, settings.sign_in),
        ),
        limits=settings.limits,
        heartbeat_timeout=timedelta(seconds=settings.worker.attempt_heartbeat_timeout_seconds),
        mode="embedded" if cluster is None else "cluster",
        request_loads=request_loads,
        denials=denials,
        trusted_proxies=settings.audit.trusted_proxies,
        request_usage=request_usage,
        internal_url=ports.training.api_url if ports.training is not None else "",
        worker_problem=worker.loops.stall_problem,
        database_problem=settings.database_problem,
    )
    api_loops = _api_loops(app_context, uptime) if settings.serves_api else None
    return Application(ports, app_context, worker, settings.runs_worker, api_loops)


def _api_loops(app_context: AppContext, uptime: ApiUptime | None) -> BackgroundLoops:
    """Return the loops of a process that serves the API."""
    denials, usage, loads = app_context.denials, app_context.request_usage, app_context.request_loads
    functions: dict[str, Loop] = {"denials": denials.step, "request usage": usage.step}
    if uptime is not None:
        functions |= {"uptime": uptime.step, "request loads": loads.step}
    loops = BackgroundLoops(functions)
    denials.on_suppressed = partial(loops.wake, ["denials"])
    usage.on_start = partial(loops.wake, ["request usage"])
    if uptime is not None:
        loads.on_start = partial(loops.wake, ["request loads"])
    return loops


def _worker(
    settings: ApplicationSettings, ports: Ports, deps: WorkerDependencies, queue: AdmissionQueue | None
) -> Worker:
    worker, serving, cluster = settings.worker, ports.serving, ports.cluster
    cluster_sync = ClusterSync(deps, cluster.view, cluster.resources, cluster.lease) if cluster is not None else None
    return Worker(
        deps=deps,
        name=settings.holder,
        settings=worker,
        processing=Processing(
            deps,
            ports.processor,
            ports.importer,
            settings.limits.min_free_disk_bytes,
            max_labels=settings.limits.max_labels,
            slots=worker.data_processes,
        ),
        retention=Retention(
            deps,
            ports.folders,
            retention=timedelta(hours=worker.retention_hours),
            history_retention=timedelta(days=worker.job_history_days),
            idempotency_ttl=timedelta(hours=worker.idempotency_ttl_hours),
            audit_retention=worker.audit_retention,
            traffic_retention=timedelta(days=worker.endpoint_traffic_days),
        ),
        training=ports.training,
        queue=queue,
        rollouts=_rollouts(deps, serving, timedelta(seconds=worker.rollout_seconds)) if serving is not None else None,
        cluster_sync=cluster_sync,
        warm_trainers=_warm_trainers(deps, ports, cluster_sync),
        sealer=AuditSealer(deps.database, deps.clock, settings.audit.seal_interval),
        metering=Metering(deps, publish_budgets),
    )


def _warm_trainers(
    deps: WorkerDependencies, ports: Ports, cluster_sync: ClusterSync | None
) -> WarmTrainerReconciler | None:
    if cluster_sync is None or ports.cluster is None or ports.training is None:
        return None
    return WarmTrainerReconciler(
        deps, ports.cluster.warm_trainers, ports.training.api_url, lambda: cluster_sync.observed
    )


def _rollouts(deps: WorkerDependencies, serving: ServingPorts, timeout: timedelta) -> Rollouts:
    autoscaler = Autoscaler(deps.clock, serving.scaling) if serving.scaling is not None else None
    return Rollouts(deps, serving.backend, serving.prober, timeout, autoscaler)
