"""Opens the runs of queued jobs: when their quota allows it (embedded), or for Kueue to admit (cluster)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from windlass.domain.cluster_sync import CLUSTER_SYNC_NAME, StoredDemand
from windlass.domain.gpu_reservations import GpuReservation
from windlass.domain.ids import kubernetes_run_name
from windlass.domain.jobs import Attempt, AttemptState, Job, JobState, Run, RunState, move
from windlass.domain.projects import QueueTimeSample
from windlass.domain.quota import Decisions
from windlass.ports import ReadUnitOfWork, UnitOfWork, WorkerUnitOfWork
from windlass.services.admission import ADMISSION_LOCK
from windlass.services.admission_queue import AdmissionQueue
from windlass.services.attempts import close_attempt, newest_attempt
from windlass.services.base import ServiceDependencies, WorkerDependencies
from windlass.services.job_events import record_event

_HEARTBEAT_SECONDS = timedelta(seconds=10)
"""A trainer that has reported this recently runs, whatever an older observation of the cluster says."""

_WAITING_SECONDS: Final = timedelta(seconds=30)
"""A run that has waited this long is paused; a shorter wait is not worth another start of its processes."""


class JobAdmission(Protocol):
    """What a worker does with queued jobs."""

    def admit(self) -> None:
        """Open the runs of the queued jobs that may have one."""
        ...

    def follow(self) -> None:
        """Update the jobs that have a run, as others have decided about their resources."""
        ...

    def waiting_runs(self) -> frozenset[str]:
        """Return the ids of the runs that have requested their resources and have nothing to do until they get them."""
        ...


@dataclass(frozen=True)
class QuotaAdmission:
    """Implements ``JobAdmission`` by the embedded scheduler (``domain.quota``)."""

    deps: WorkerDependencies
    queue: AdmissionQueue

    def admit(self) -> None:
        """Run scheduling cycles until one decides nothing, and store the decisions of each."""
        while self._has_decisions():
            with self.deps.database.write(ADMISSION_LOCK) as uow:
                self._apply(uow, self.queue.decide(uow))

    def _has_decisions(self) -> bool:
        """Return whether there is something to write; most changes admit nothing and need no write transaction."""
        with self.deps.database.read() as uow:
            decisions = self.queue.decide(uow)
        return bool(decisions.admit or decisions.preempt)

    def _apply(self, uow: WorkerUnitOfWork, decisions: Decisions) -> None:
        now, all_repos = self.deps.clock.now(), uow.all_projects()
        for job_id in decisions.admit:
            self._start(uow, all_repos.jobs.get({"id": job_id}), now)
        for preemption in decisions.preempt:
            job = all_repos.jobs.get({"id": preemption.job})
            repos = uow.project(job.project)
            run = repos.runs.get({"job": job.id, "ended_at": None})
            if run.stop is None:
                repos.runs.save(run.model_copy(update={"stop": "preempt", "stop_at": now}))
                why = (
                    "the lending project reclaims the borrowed GPUs"
                    if preemption.reason == "reclaim"
                    else "a job of higher priority needs its GPUs"
                )
                record_event(
                    repos,
                    job,
                    now,
                    "job_preempted",
                    f"the job is preempted: {why}",
                    context={"reason": preemption.reason},
                )

    def _start(self, uow: UnitOfWork, job: Job, now: datetime) -> None:
        repos, pool = uow.project(job.project), job.spec.resources.pool
        run = open_run(self.deps, uow, job, JobState.STARTING, now)
        repos.gpu_reservations.add(GpuReservation.of_run(run, job))
        if run.number == 1:
            seconds = (now - (job.queued_at or job.created_at)).total_seconds()
            sample = QueueTimeSample(project=job.project, pool=pool, subject=job.id, seconds=seconds, admitted_at=now)
            repos.queue_times.add(sample)
        message = f"run {run.number} was admitted to pool {pool}"
        record_event(repos, job, now, "job_admitted", message, context={"run": run.number})

    def follow(self) -> None:
        """Do nothing: nobody else decides about the resources of jobs."""

    def waiting_runs(self) -> frozenset[str]:
        """Return none: a run is opened when its resources are free."""
        return frozenset()


@dataclass(frozen=True)
class KueueAdmission:
    """Implements ``JobAdmission`` in a cluster: each queued job has a run, whose RayJob Kueue admits or preempts.

    The job is queued until Kueue has admitted the RayJob, and again after a preemption; its run goes on. What Kueue
    decides is read from the demands that the cluster sync has stored.
    """

    deps: WorkerDependencies

    def admit(self) -> None:
        """Open a run for every queued job that has none, the longest waiting first."""
        with self.deps.database.read() as uow:
            waiting = self._without_run(uow)
        for job_id in waiting:
            with self.deps.database.write(ADMISSION_LOCK) as uow:
                job = uow.all_projects().jobs.find({"id": job_id})
                if job is None or job.state is not JobState.QUEUED:
                    continue
                repos, now = uow.project(job.project), self.deps.clock.now()
                if repos.runs.find({"job": job.id, "ended_at": None}) is not None:
                    continue
                run = open_run(self.deps, uow, job, JobState.QUEUED, now)
                message = f"run {run.number} requests its resources in pool {job.spec.resources.pool}"
                record_event(repos, job, now, "run_created", message, context={"run": run.number})

    @staticmethod
    def _without_run(uow: ReadUnitOfWork) -> list[str]:
        active = {allocation.job for allocation in uow.admission.allocations()}
        requests = [each for each in uow.admission.requests() if each.waiting and each.job not in active]
        return [each.job for each in sorted(requests, key=lambda each: (each.queued_at, each.job))]

    def follow(self) -> None:
        """Set the state of each job with a run to what Kueue has decided about its RayJob."""
        with self.deps.database.read() as uow:
            runs = [run for run in uow.all_projects().runs.all({"ended_at": None}) if run.stop is None]
            changed = [run for run in runs if self._decided_state(uow, run) is not None]
        for run in changed:
            with self.deps.database.write(ADMISSION_LOCK) as uow:
                state = self._decided_state(uow, run)
                if state is not None:
                    self._move(uow, run, state)

    def waiting_runs(self) -> frozenset[str]:
        """Return the runs whose RayJobs Kueue has not admitted for a while."""
        latest = self.deps.clock.now() - _WAITING_SECONDS
        with self.deps.database.read() as uow:
            runs = uow.all_projects().runs.all({"ended_at": None})
            return frozenset(run.id for run in runs if run.created_at <= latest and self._waits(uow, run, latest))

    @staticmethod
    def _waits(uow: ReadUnitOfWork, run: Run, since: datetime) -> bool:
        job, demand = uow.project(run.project).jobs.get({"id": run.job}), uow.demands.find({"job": run.job})
        waits = demand is not None and demand.admitted_at is None  # without a demand its RayJob does not exist
        return waits and job.state is JobState.QUEUED and job.changed_at <= since

    def _decided_state(self, uow: ReadUnitOfWork, run: Run) -> JobState | None:
        """Return the state that the job must move to, None if it is in the right one."""
        repos = uow.project(run.project)
        job, demand = repos.jobs.get({"id": run.job}), uow.demands.find({"job": run.job})
        if demand is None or run.ended_at is not None:
            return None  # its RayJob does not exist yet, or has ended
        if demand.admitted_at is not None:
            return JobState.STARTING if job.state is JobState.QUEUED else None
        if job.state not in (JobState.STARTING, JobState.RUNNING):
            return None
        status = uow.cluster_sync_status.find({"name": CLUSTER_SYNC_NAME})
        attempt = newest_attempt(repos, job)
        if status is None or status.synced_at is None or _has_reported_since(attempt, status.synced_at):
            return None
        return JobState.QUEUED

    def _move(self, uow: UnitOfWork, run: Run, state: JobState) -> None:
        repos, now = uow.project(run.project), self.deps.clock.now()
        job = repos.jobs.get({"id": run.job})
        demand: StoredDemand = uow.demands.get({"job": job.id})
        if state is JobState.QUEUED:
            attempt = newest_attempt(repos, job)
            if attempt is not None and attempt.state is AttemptState.LIVE:
                close_attempt(repos, job, attempt, AttemptState.LOST, now)
            why = demand.reason.message if demand.reason is not None else "its resources are needed elsewhere"
            code, message = "job_preempted", f"the job waits again: {why}"
        else:
            code, message = "job_admitted", f"run {run.number} was admitted to pool {job.spec.resources.pool}"
        repos.jobs.save(move(job, state, now, demand.reason))
        record_event(repos, job, now, code, message, context={"run": run.number})


def _has_reported_since(attempt: Attempt | None, time: datetime) -> bool:
    """Return whether a live attempt has reported so late that the observation of the cluster may precede it."""
    if attempt is None or attempt.state is not AttemptState.LIVE:
        return False
    return attempt.heartbeat_at > time - _HEARTBEAT_SECONDS


def open_run(deps: ServiceDependencies, uow: UnitOfWork, job: Job, state: JobState, now: datetime) -> Run:
    """Add the next run of a job, move the job to ``state``, and put the intent to submit the run."""
    repos, number = uow.project(job.project), job.run + 1
    run = Run(
        id=deps.new_id("run"),
        project=job.project,
        job=job.id,
        number=number,
        name=kubernetes_run_name(job.id, number),
        state=RunState.PENDING,
        created_at=now,
    )
    repos.runs.add(run)
    repos.jobs.save(move(job, state, now).model_copy(update={"run": number}))
    uow.outbox.put("run.submit", job.project, run.id)
    return run
