"""The worker: carries out intents and keeps looking at jobs, datasets and endpoints. Loops of one process."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from windlass.domain.errors import InvalidError
from windlass.domain.jobs import JobState, Run, RunState, move
from windlass.domain.records import Intent
from windlass.ports import PipelineBackend, RayCluster
from windlass.runtime.context import RunContext
from windlass.runtime.draining import drain_ended
from windlass.services.access import Gatekeeper
from windlass.services.backing import Backing
from windlass.services.datasets import version_prefix
from windlass.services.processing import Processing
from windlass.services.registration import deploy_job
from windlass.services.retention import Retention
from windlass.services.rollouts import Rollouts
from windlass.services.runs import Runs, artifact_prefix, checkpoint_prefix
from windlass.services.scheduling import Scheduling
from windlass.settings import WorkerSettings
from windlass_api.intents import Intents
from windlass_api.loops import Loops

_START_TRIES = 6
"""Tries to start a run, over about a minute and a half, before it counts as lost and its job queues again."""


def scheduling(
    backing: Backing, backend: PipelineBackend, settings: WorkerSettings, workspace: Callable[[str], Path]
) -> Scheduling:
    """Return the scheduler that these settings describe; ``workspace`` gives the folder of a run by its name."""
    up_since = backing.clock.now()

    def leftovers(run: Run) -> bool:
        runs = Runs(backing, run.id, timedelta(seconds=settings.heartbeat_seconds), up_since)
        return drain_ended(workspace(run.name), runs.report)

    return Scheduling(
        backing,
        backend,
        preempt_grace=timedelta(seconds=settings.preempt_grace_seconds),
        cancel_grace=timedelta(seconds=settings.cancel_grace_seconds),
        lost_runs=settings.lost_runs,
        leftovers=leftovers,
    )


@dataclass
class Worker:
    """Runs until ``stop``. Everything it does can be done again: a crash between any two lines loses nothing."""

    backing: Backing
    gatekeeper: Gatekeeper
    scheduling: Scheduling
    processing: Processing
    rollouts: Rollouts
    retention: Retention
    backend: PipelineBackend
    ray: RayCluster
    settings: WorkerSettings
    api_url: str
    workspace: Callable[[str], Path]
    """Returns the run folder of a run name: where its processes may write."""
    intents: Intents = field(init=False)
    loops: Loops = field(init=False)

    def __post_init__(self) -> None:
        """Put the loops together."""
        self.intents = Intents(self.backing, self.settings.lease, self._do, after=self._nudge, explain=self._explain)
        self.loops = Loops(
            {
                "intents": self.intents.turn,
                "runs": self.runs,
                "bytes": self.processing.watch,
                "endpoints": self._endpoints,
                "retention": self.retention.step,
            },
            self.settings.tick_seconds,
        )

    def _nudge(self) -> None:
        self.loops.nudge()

    def start(self) -> None:
        """Begin the loops."""
        self.loops.start()

    def stop(self) -> None:
        """End the loops; each finishes its turn."""
        self.loops.stop()
        self.intents.close()

    def runs(self) -> bool:
        """Follow the runs, and admit jobs; tell whether any was."""
        try:
            self.scheduling.watch()
        finally:  # a run in trouble keeps no queued job waiting
            admitted = self.scheduling.admit()
        return admitted

    def _endpoints(self) -> bool:
        self.rollouts.step()
        return False

    def _explain(self, intent: Intent, problem: str) -> bool:
        """Say to whom it matters why an intent fails; tell whether it is given up."""
        match intent.kind:
            case "run.submit":
                given_up = intent.tries >= _START_TRIES
                self.scheduling.not_started(intent.subject, problem, give_up=given_up)
                return given_up
            case _:
                return False

    def _do(self, intent: Intent) -> None:
        match intent.kind:
            case "job.deploy":
                with suppress(InvalidError):  # the job's reason says it from now on
                    deploy_job(self.backing, intent.project, intent.subject)
            case "job.submit":
                self._queue(intent)
            case "run.submit":
                self._submit(intent.subject)
            case _:
                self.processing.carry_out(intent)

    def _queue(self, intent: Intent) -> None:
        with self.backing.database.write() as work:
            jobs = work.of(intent.project).jobs
            job = jobs.find(id=intent.subject)
            if job is not None and job.state is JobState.ACCEPTED:
                jobs.save(move(job, JobState.QUEUED, self.backing.clock.now()))

    def _submit(self, run_id: str) -> None:
        address = self.ray.ensure()
        with self.backing.database.read() as work:
            run = work.everywhere().runs.find(id=run_id)
            if run is None or run.state is not RunState.PENDING or run.stop is not None:
                return
            job = work.of(run.project).jobs.get(id=run.job)
            base = work.base_models.get(id=job.base_model)
            project = work.projects.get(id=run.project).name
        self.backend.submit(
            RunContext(
                api_url=self.api_url,
                run_token=self.gatekeeper.run_token(run.id),
                project=project,
                job=job.id,
                run=run.id,
                run_number=run.number,
                run_name=run.name,
                spec=job.spec,
                store_root=self.backing.store.local_path("projects").parent,
                dataset_prefix=version_prefix(run.project, job.dataset_version),
                dataset_version=job.dataset_ref,
                base_model_prefix=base.prefix,
                base_model=base.name,
                checkpoint_prefix=checkpoint_prefix(job),
                artifact_prefix=artifact_prefix(job),
                workspace=self.workspace(run.name),
                ray_address=address,
            )
        )
