"""Runs jobs: admits them, and submits and polls their runs."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from windlass.domain.jobs import Run
from windlass.domain.records import Intent
from windlass.ports import PipelineBackend, RayCluster
from windlass.runtime.flush import flush_workspace_reports
from windlass.services.admission_queue import AdmissionQueue
from windlass.services.base import WorkerDependencies
from windlass.services.job_admission import JobAdmission, KueueAdmission, QuotaAdmission
from windlass.services.run_contexts import build_run_context
from windlass.services.runs import Runs
from windlass.services.scheduling import Scheduling
from windlass.settings import WorkerSettings
from windlass_api.metrics import AMBIGUOUS_SUBMISSIONS
from windlass_api.ray_starter import RayStarter

_MAX_SUBMIT_ATTEMPTS = 6
"""Attempts to submit a run, over about 90 s, before it is lost and its job is queued again."""


@dataclass(frozen=True)
class LocalTraining:
    """What runs need whose processes are on this machine."""

    ray: RayCluster
    workspace: Callable[[str], Path]
    """Maps a run name to the folder that its processes may write to."""


@dataclass(frozen=True)
class TrainingPorts:
    """What runs jobs."""

    pipelines: PipelineBackend
    api_url: str
    """Where the processes of a run reach the API."""
    local: LocalTraining | None
    """None: runs are pods."""
    page_url: Callable[[str], str] = lambda _run_name: ""
    """Maps the name of a submitted run to its page in another system; empty: there is none."""


@dataclass
class JobRunner:
    """Submits, polls and admits runs. All operations are idempotent."""

    deps: WorkerDependencies
    queue: AdmissionQueue | None
    """The queue of the embedded scheduler; None where Kueue admits jobs."""
    ports: TrainingPorts
    settings: WorkerSettings
    on_ray_ready: Callable[[], None]
    admission: JobAdmission = field(init=False)
    scheduling: Scheduling = field(init=False)
    ray_starter: RayStarter | None = field(init=False)

    def __post_init__(self) -> None:
        """Create the parts."""
        self.admission = KueueAdmission(self.deps) if self.queue is None else QuotaAdmission(self.deps, self.queue)
        self.scheduling = Scheduling(
            self.deps,
            self.ports.pipelines,
            preempt_grace=timedelta(seconds=self.settings.preempt_grace_seconds),
            cancel_grace=timedelta(seconds=self.settings.cancel_grace_seconds),
            max_lost_runs=self.settings.max_lost_runs,
            flush_ended_run=self._flush_ended_run,
        )
        self.ray_starter = None
        if self.ports.local is not None:
            self.ray_starter = RayStarter(
                self.deps, self.ports.local.ray, on_ready=self.on_ray_ready, on_failure=self._on_ray_failure
            )

    def poll(self) -> float | None:
        """Poll the active runs."""
        self.admission.follow()
        polled = self.scheduling.poll_runs(self.admission.waiting_runs())
        return self.settings.tick_seconds if polled else None

    def admit(self) -> float | None:
        """Admit jobs and preempt others where the queues have changed."""
        self.admission.admit()
        return None

    def paused_kinds(self) -> Collection[str]:
        """Return the kinds of intents that cannot be handled now."""
        return () if self.ray_starter is None else self.ray_starter.paused_kinds()

    def report_submit_failure(self, intent: Intent, problem: str) -> bool:
        """Record why a run cannot be submitted; return whether to give up."""
        given_up = intent.tries >= _MAX_SUBMIT_ATTEMPTS
        self.scheduling.report_submit_failure(intent.subject, problem, give_up=given_up)
        return given_up

    def submit(self, run_id: str) -> None:
        """Submit a pending run to the pipeline back end.

        The leader may close the run meanwhile, because its job is cancelled, and find nothing to kill. The run is
        submitted first and read again afterwards: either this finds it ended, or the leader finds what it has to kill.
        """
        context = build_run_context(self.deps, run_id, self.ports.api_url)
        if context is None:
            return
        if not self.ports.pipelines.submit(context):
            AMBIGUOUS_SUBMISSIONS.inc()
        if url := self.ports.page_url(context.identity.name):
            self.scheduling.record_run_page(run_id, url)
        with self.deps.database.read() as uow:
            run = uow.all_projects().runs.find({"id": run_id})
        if run is None or run.ended_at is not None:
            self.ports.pipelines.kill(context.identity.name)

    def _flush_ended_run(self, run: Run) -> str:
        if self.ports.local is None:
            return ""  # the trainer has waited until its reports were accepted
        runs = Runs(self.deps, run.id, timedelta(seconds=self.settings.attempt_heartbeat_timeout_seconds))
        pending = flush_workspace_reports(self.ports.local.workspace(run.name), runs.report)
        return "; ".join(f"{spool.source} of attempt {spool.attempt}: {spool.cause}" for spool in pending)

    def _on_ray_failure(self, run_id: str, problem: str) -> None:
        self.scheduling.report_submit_failure(run_id, problem, give_up=False)
