"""The worker: dispatches the outbox, and reconciles what the server is capable of, in background loops."""

import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from pydantic import BaseModel

from windlass.domain.audit import AuditEntry
from windlass.domain.autoscaling import RequestLoad
from windlass.domain.cluster_sync import QuotaChange, StoredDemand
from windlass.domain.datasets import DatasetVersion
from windlass.domain.endpoints import Endpoint
from windlass.domain.erasures import Erasure
from windlass.domain.errors import InvalidError, LimitReachedError
from windlass.domain.jobs import Job, Run
from windlass.domain.models import CatalogueModel, Model, ModelVersion
from windlass.domain.records import CascadeDeletion, Intent
from windlass.ports.leadership import NotLeaderError
from windlass.services.admission_queue import AdmissionQueue
from windlass.services.audit import AuditSealer
from windlass.services.base import WorkerDependencies
from windlass.services.budgets import Metering
from windlass.services.cascades import CascadeContinuation
from windlass.services.cluster_sync import ClusterSync
from windlass.services.erasing import Erasing
from windlass.services.key_rotation import KeyRotation
from windlass.services.processing import Processing
from windlass.services.registration import deploy_job
from windlass.services.retention import Retention
from windlass.services.rollouts import Rollouts
from windlass.services.warm_trainers import WarmTrainerReconciler
from windlass.settings import WorkerSettings
from windlass_api.background_loops import BackgroundLoops, Loop
from windlass_api.job_runner import JobRunner, TrainingPorts
from windlass_api.metrics import (
    AUDIT_UNSEALED_AGE,
    BUDGET_USED,
    CLUSTER_SYNC_AGE,
    ENDPOINT_REPLICAS,
    LOST_LEASES,
    ReplicaLabels,
    publish_replicas,
)
from windlass_api.outbox_dispatcher import OutboxDispatcher

_log = logging.getLogger(__name__)

_EVERY_WORKER = frozenset({"outbox", "cluster sync"})
"""Loops that run in all workers of a cluster: intents are leased, and the cluster sync elects the leader."""


@dataclass
class Worker:
    """Runs until ``stop``. All operations are idempotent, so a crash at any point loses nothing.

    Of several workers, only the leader runs the loops that reconcile all objects of a kind. A leader that was replaced
    during an iteration ends it: transactions are serializable, objects of the cluster have deterministic names, and the
    objects of endpoints are written and deleted under the lease of the leader.
    """

    deps: WorkerDependencies
    name: str
    """Holder of this worker's leases; a restarted worker keeps its name."""
    settings: WorkerSettings
    processing: Processing
    retention: Retention
    training: TrainingPorts | None
    queue: AdmissionQueue | None
    """The queue of the embedded scheduler; None where the cluster admits jobs."""
    rollouts: Rollouts | None
    cluster_sync: ClusterSync | None
    """Elects the leader; None where there is only one worker."""
    warm_trainers: WarmTrainerReconciler | None
    sealer: AuditSealer
    metering: Metering
    jobs: JobRunner | None = field(init=False)
    dispatcher: OutboxDispatcher = field(init=False)
    loops: BackgroundLoops = field(init=False)
    _published_replicas: frozenset[ReplicaLabels] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        """Create the loops."""
        self.jobs = None
        if self.training is not None:
            self.jobs = JobRunner(
                self.deps, self.queue, self.training, self.settings, on_ray_ready=lambda: self.loops.wake(["outbox"])
            )
        self.dispatcher = OutboxDispatcher(
            self.deps,
            self.settings.outbox_lease,
            self._handle,
            holder=self.name,
            after=lambda: self.loops.wake(["outbox"]),
            on_failure=self._on_failure,
            paused_kinds=self._paused_kinds,
        )
        self.loops = self._new_loops()
        if self.queue is not None:
            self.queue.on_change = lambda: self.loops.wake(["admission"])

    def _new_loops(self) -> BackgroundLoops:
        """Return the loops, each woken by changes of what it works on."""
        functions: dict[str, Loop] = {
            "outbox": self.dispatcher.run_once,
            "data": self._polled(self.processing.poll),
            "retention": self.retention.step,
            "audit": self.seal_audit,
            "metering": self.metering.step,
            "erasures": self._polled(Erasing(self.deps, self.processing.processor).step),
            "data keys": KeyRotation(self.deps).step,
            "deletions": self._polled(CascadeContinuation(self.deps).step),
        }
        triggers: dict[str, Collection[type[BaseModel]]] = {
            "outbox": {Intent},
            "data": {DatasetVersion, CatalogueModel},
            "audit": {AuditEntry},
            "erasures": {Erasure, DatasetVersion, ModelVersion, Endpoint},
            "deletions": {CascadeDeletion, Endpoint},
        }
        if self.jobs is not None:
            functions |= {"runs": self.jobs.poll, "admission": self.jobs.admit}
            triggers["runs"] = {Run}
            if self.jobs.ray_starter is not None:
                functions["ray"] = self.jobs.ray_starter.step
                triggers["ray"] = {Intent}
            if self.queue is None:
                triggers["admission"] = {Job}
        if self.rollouts is not None:
            functions["endpoints"] = self._polled(partial(self.reconcile_endpoints, self.rollouts))
            triggers["endpoints"] = {Endpoint, Model, ModelVersion, RequestLoad}
        if self.warm_trainers is not None:
            functions["warm trainers"] = self.warm_trainers.step
            triggers["warm trainers"] = {StoredDemand}
        if self.cluster_sync is not None:
            functions["cluster sync"] = self.syncing(self.cluster_sync)
            triggers["cluster sync"] = {QuotaChange}
            functions |= {name: self._of_leader(loop) for name, loop in functions.items() if name not in _EVERY_WORKER}
        for name, kinds in triggers.items():
            self.deps.database.subscribe(kinds, partial(self._wake, name))
        return BackgroundLoops(functions)

    def start(self) -> None:
        """Start the loops."""
        self.loops.start()

    def _wake(self, loop: str, changed: Collection[type[BaseModel]]) -> None:
        del changed
        self.loops.wake([loop])

    def stop(self) -> None:
        """Stop the loops after their current iteration."""
        self.loops.stop()
        self.dispatcher.close()

    def _polled(self, step: Callable[[], bool]) -> Loop:
        """Return the loop that repeats ``step`` while it has something to poll."""
        return lambda: self.settings.tick_seconds if step() else None

    def reconcile_endpoints(self, rollouts: Rollouts) -> bool:
        """Do a step of the rollouts, and publish the replicas that it observed, also when it failed afterwards."""
        try:
            return rollouts.step()
        finally:
            self._published_replicas = publish_replicas(rollouts.observed, self._published_replicas)

    def seal_audit(self) -> float | None:
        """Seal new entries of the audit log, and publish the age of those that are left, also when it failed."""
        try:
            return self.sealer.step()
        finally:
            AUDIT_UNSEALED_AGE.set(self.sealer.age())

    @property
    def is_leader(self) -> bool:
        """Whether this worker runs the loops of which there is one."""
        return self.cluster_sync is None or self.cluster_sync.elector.is_leader

    def _of_leader(self, loop: Loop) -> Loop:
        """Return the loop that does nothing while another worker is the leader. A new leader wakes its loops."""

        def run_if_leader() -> float | None:
            if not self.is_leader:
                return None
            try:
                return loop()
            except NotLeaderError as error:
                _log.info("a loop ended because this worker is not the leader any more", extra={"cause": str(error)})
                return None

        return run_if_leader

    def syncing(self, cluster_sync: ClusterSync) -> Loop:
        """Return the loop that syncs the cluster while this worker is the leader, and observes the leadership."""
        led = False

        def step() -> float:
            nonlocal led
            was_leader = self.is_leader
            try:
                cluster_sync.step()
            finally:
                CLUSTER_SYNC_AGE.set(cluster_sync.seconds_since_sync)
                if self.is_leader and not was_leader:
                    self.loops.wake(self.loops.names)
                if led and not self.is_leader:  # the lease may have expired before this iteration
                    LOST_LEASES.labels("leader").inc()
                    ENDPOINT_REPLICAS.clear()  # the new leader observes them
                    AUDIT_UNSEALED_AGE.set(0.0)  # as above
                    BUDGET_USED.clear()
                led = self.is_leader
            return self.settings.tick_seconds

        return step

    def _paused_kinds(self) -> Collection[str]:
        return () if self.jobs is None else self.jobs.paused_kinds()

    def _on_failure(self, intent: Intent, problem: str) -> bool:
        """Record why an intent fails; return whether to give up."""
        if intent.kind == "run.submit" and self.jobs is not None:
            return self.jobs.report_submit_failure(intent, problem)
        return False

    def _handle(self, intent: Intent) -> None:
        match intent.kind:
            case "job.deploy":
                with suppress(InvalidError, LimitReachedError):  # recorded as the job's reason
                    deploy_job(self.deps, intent.project, intent.subject)
            case "run.submit" if self.jobs is not None:
                self.jobs.submit(intent.subject)
            case "dataset.process" | "base-model.import" if not self.is_leader:
                pass  # the leader finds it by its state, and was woken by the commit
            case _:
                self.processing.handle(intent)
