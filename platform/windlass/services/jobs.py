"""Submit, read, cancel and retry jobs of one project."""

from collections.abc import Sequence
from dataclasses import dataclass

from windlass.domain.capabilities import Capability
from windlass.domain.datasets import Split
from windlass.domain.errors import ConflictError, FieldProblem, InvalidError, QuotaExceededError
from windlass.domain.jobs import Attempt, Job, JobState, Run, move
from windlass.domain.models import Model
from windlass.domain.projects import Project
from windlass.domain.quota import Simulation
from windlass.domain.records import Checkpoint, Deletion, Event, LineageEdge, MetricSample, Tombstone
from windlass.domain.reports import JobWarning
from windlass.domain.series import ALL_STEPS, MetricSeries, StepRange
from windlass.domain.specs import JobSpec, TrainingSpec
from windlass.domain.storage_layout import job_prefix
from windlass.domain.training_defaults import TrainingPlan, plan_training
from windlass.kit.failpoints import failpoint
from windlass.ports import ReadProjectData, ReadUnitOfWork
from windlass.ports.filters import JobFilter
from windlass.services.admission import ADMISSION_LOCK
from windlass.services.base import ProjectService, stored_bytes
from windlass.services.budgets import check_budget
from windlass.services.datasets import training_warnings
from windlass.services.idempotency import Idempotency
from windlass.services.job_checks import (
    placement_warnings,
    require_below_ceiling,
    require_feasible,
    require_memory,
    require_same,
    usable_base,
    usable_version,
    world_size_of,
)
from windlass.services.job_events import record_event
from windlass.services.job_log import MAX_LOG_CHUNKS, drop_partial_character, read_log_chunks, tail_offset
from windlass.services.object_limits import require_active_below, require_room_for_model

DEFAULT_POINTS = 2000
"""Points of a series that a reader gets by default; more than a screen has columns."""
_EVENTS = 200


@dataclass(frozen=True)
class MetricsCursor:
    """Position in a job's metrics: the reader has all points below ``step`` of ``attempt``, and some at ``step``."""

    attempt: int = 0
    step: int = 0

    def for_attempt(self, newest: Attempt) -> "MetricsCursor":
        """Return the cursor for the newest attempt, which reports all steps after its checkpoint again."""
        if newest.number == self.attempt:
            return self
        first_step = 0 if newest.resumed_from_step is None else newest.resumed_from_step + 1
        return MetricsCursor(newest.number, min(self.step, first_step))


@dataclass(frozen=True)
class JobUpdate:
    """Updates of a job since a cursor; ``finished``: job and run have ended, so no update follows."""

    job: Job
    finished: bool
    events: list[Event]
    series: list[MetricSeries]
    """The metric points since the cursor; a long history is downsampled."""
    cursor: MetricsCursor
    """The position before ``series``."""


@dataclass(frozen=True)
class JobPreview:
    """The scheduler's decision on a job that was not submitted, and what it would train on and with."""

    simulation: Simulation
    plan: TrainingPlan
    world_size: int
    """Training processes."""
    warnings: tuple[JobWarning, ...]
    """What of the dataset version would not be used, and nodes without room."""


@dataclass(frozen=True)
class _Draft:
    job: Job
    plan: TrainingPlan
    model: Model | None
    """The model that gets the result; None: it is new."""


@dataclass(frozen=True)
class Jobs(ProjectService):
    """Operations on the jobs of one project."""

    def submit(self, spec: JobSpec, idempotency_key: Idempotency, retried: Job | None = None) -> Job:
        """Accept a job in one transaction; it is durable on return (invariants I1, I2, I8).

        Args:
            spec: what to train.
            idempotency_key: the idempotency key of the request.
            retried: the ended job that this one repeats.

        Raises:
            InvalidError: the spec names something that does not exist or does not fit its task.
            BudgetExceededError: the project has used its budget of this month.
            LimitReachedError: the project has too many active jobs, or too many models for a new one.
            QuotaExceededError: the job can never start; the error names the smallest change that allows it.
            IdempotencyMismatchError: the key was used with another body.
            CapabilityMissingError: this server runs no jobs.
        """
        self.deps.require(Capability.TRAINING)
        with self.deps.database.write(ADMISSION_LOCK) as uow:
            repos = uow.project(self.project)
            if existing_id := idempotency_key.find_subject(repos):
                return repos.jobs.get({"id": existing_id})
            require_active_below(self.deps.limits.active_jobs, self.deps.admission.unfinished_jobs(uow, self.project))
            project = uow.projects.get({"id": self.project})
            checked = self._build_job(uow, project, spec, retried)
            draft, plan = checked.job, checked.plan
            budget_warnings = check_budget(uow, project, spec, draft.created_at)
            draft = draft.model_copy(update={"warnings": (*draft.warnings, *budget_warnings)})
            if checked.model is None:
                require_room_for_model(repos, self.deps.limits.models)
            verdict = self.deps.admission.check(uow, draft, project)
            if verdict.verdict == "never" and verdict.reason is not None:
                message = verdict.reason.message
                raise QuotaExceededError(
                    f"the job {message[:1].lower()}{message[1:]}",
                    hint=verdict.reason.action,
                    fields=[FieldProblem("/spec/resources", verdict.reason.message)],
                    context={"reason": verdict.reason.code, **verdict.reason.context},
                )
            repos.jobs.add(draft)
            idempotency_key.store(repos, self.project, draft.id, draft.created_at)
            for relation, target in (
                ("trains-on", f"dataset-version:{draft.dataset_version}"),
                ("starts-from", f"base-model:{draft.base_model}"),
            ):
                repos.lineage.add(
                    LineageEdge(project=self.project, subject=f"job:{draft.id}", relation=relation, object=target)
                )
            record_event(repos, draft, draft.created_at, "job_accepted", "the job was accepted")
            if plan.chosen:
                message = "defaults: " + "; ".join(map(str, plan.chosen))
                context = {default.field: default.value for default in plan.chosen}
                record_event(repos, draft, draft.created_at, "training_defaults", message, context=context)
            for warning in draft.warnings:
                record_event(repos, draft, draft.created_at, warning.code, warning.message, context=warning.context)
            self.audit(uow, "job.create", draft.id, draft.name or "", self.project, after=draft)
            failpoint("job.submit.before_commit")
        failpoint("job.submit.committed")
        return draft

    def preview(self, spec: JobSpec) -> JobPreview:
        """Return what the scheduler would do with the job now; write nothing. Raises InvalidError as ``submit``."""
        with self.deps.database.read() as uow:
            project = uow.projects.get({"id": self.project})
            draft = self._build_job(uow, project, spec, None)
            budget = check_budget(uow, project, spec, draft.job.created_at)
            simulation = self.deps.admission.simulate(uow, draft.job, project)
            placement = placement_warnings(uow.pools.all(), draft.job.spec, simulation)
            return JobPreview(simulation, draft.plan, draft.job.world_size, (*draft.job.warnings, *budget, *placement))

    def _build_job(self, uow: ReadUnitOfWork, project: Project, spec: JobSpec, retried: Job | None) -> _Draft:
        repos = uow.project(self.project)
        require_below_ceiling(project, spec)
        version = usable_version(repos, spec, self.deps.clock.now())
        base = usable_base(uow, spec)
        pools = uow.pools.all()
        world_size = world_size_of(pools, spec)
        require_feasible(spec, version, base, world_size)
        if retried is not None:
            require_same("dataset", spec.dataset, retried, same=version.id == retried.dataset_version)
            require_same("base_model", spec.base_model, retried, same=base.id == retried.base_model)
        model = repos.models.find({"name": spec.model})
        if model is not None and model.task is not spec.task:
            raise InvalidError.field(
                "/spec/model", f"model {model.name} is for {model.task}", hint="name another model"
            )
        plan = plan_training(spec, version.usable_rows(Split.TRAIN), world_size, base.max_positions)
        require_memory(pools, spec, plan.training, base, version, world_size)
        now = self.deps.clock.now()
        job = Job(
            id=self.deps.new_id("job"),
            project=self.project,
            name=spec.name,
            spec=spec.model_copy(update={"training": TrainingSpec.model_validate(plan.training.model_dump())}),
            state=JobState.QUEUED,
            dataset_version=version.id,
            dataset_ref=f"{spec.dataset.partition('@')[0]}@{version.number}",
            base_model=base.id,
            world_size=world_size,
            warnings=training_warnings(repos, version),
            retry_of=retried.id if retried else None,
            created_by=self.caller.principal.user,
            created_with=self.caller.principal.usage_key,
            created_at=now,
            changed_at=now,
            queued_at=now,
        )
        return _Draft(job, plan, model)

    def retry(self, job_id: str, idempotency_key: Idempotency) -> Job:
        """Submit the spec of an ended job again, as a new job on the same dataset version and base model.

        Raises:
            ConflictError: the job is still live.
            InvalidError: the dataset version or the base model no longer exists.
        """
        self.deps.require(Capability.TRAINING)
        with self.deps.database.read() as uow:
            old = uow.project(self.project).jobs.get({"id": job_id})
        if not old.state.terminal:
            raise ConflictError(f"job {job_id} is {old.state}", hint="wait for its end, or cancel it first")
        again = old.spec.model_copy(update={"dataset": old.dataset_ref})
        return self.submit(again, idempotency_key, retried=old)

    def cancel(self, job_id: str) -> Job:
        """Request cancellation; idempotent. The job is ``cancelled`` when its processes have ended.

        Raises:
            InvalidTransitionError: the job has already ended in another state.
        """
        now = self.deps.clock.now()
        with self.deps.database.write(ADMISSION_LOCK) as uow:
            repos = uow.project(self.project)
            before = repos.jobs.get({"id": job_id})
            if before.state is JobState.CANCELLED:
                return before
            job = move(before, JobState.CANCELLING, now)
            if job is not before:
                job = repos.jobs.save(job)
                run = repos.runs.find({"job": job_id, "ended_at": None})
                if run is None:
                    job = repos.jobs.save(move(job, JobState.CANCELLED, now))
                elif run.stop != "cancel":
                    repos.runs.save(run.model_copy(update={"stop": "cancel", "stop_at": now}))
                message = f"{self.caller.principal.user} requested cancellation"
                record_event(repos, job, now, "job_cancel_requested", message)
                if job.state is JobState.CANCELLED:
                    record_event(repos, job, now, "job_cancelled", "the job was cancelled")
                self.audit(uow, "job.cancel", job.id, job.name or "", self.project, before=before, after=job)
        return job

    def delete(self, job_id: str, *, dry_run: bool = False) -> Deletion:
        """Delete an ended job with its events, metrics, log, checkpoints and files; ``dry_run`` only measures them.

        The job is gone at once; its rows and files are removed afterwards.

        Raises:
            ConflictError: the job or its run has not ended, or a model version was registered from it.
        """
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            job = _deletable(repos, job_id)
            checkpoints = repos.checkpoints.count({"job": job.id})
        deletion = Deletion(
            kind="job",
            id=job.id,
            name=job.name or job.id,
            contains={"checkpoint": checkpoints} if checkpoints else {},
            stored_bytes=stored_bytes(self.deps.store, job_prefix(self.project, job.id)),
            consequences=("its events, metrics and log are deleted",),
        )
        if not dry_run:
            with self.deps.database.write() as uow:
                repos = uow.project(self.project)
                job = _deletable(repos, job_id)
                repos.lineage.delete({"subject": f"job:{job.id}"})
                uow.tombstones.mark(Tombstone(project=self.project, job=job.id), self.deps.clock.now())
                self.audit(uow, "job.delete", job.id, job.name or "", self.project, before=job)
        return deletion

    def page(self, limit: int, after: str | None, state: JobState | None) -> list[Job]:
        """List jobs, newest first."""
        where: JobFilter = {} if state is None else {"state": state}
        with self.deps.database.read() as uow:
            jobs = uow.project(self.project).jobs.page(limit, after, where, newest_first=True)
            return self.deps.admission.with_reasons(uow, jobs)

    def match(self, reference: str, limit: int) -> list[Job]:
        """Return the newest jobs whose id begins with ``reference``, or else whose name it is: names are not unique."""
        with self.deps.database.read() as uow:
            jobs = uow.project(self.project).jobs
            # ids are ASCII, and "~" sorts after all of their characters
            below = jobs.page(limit, f"{reference}~", newest_first=True) if reference.isascii() else []
            matching = [job for job in below if job.id.startswith(reference)]
            if not matching:
                matching = jobs.page(limit, None, {"name": reference}, newest_first=True)
            return self.deps.admission.with_reasons(uow, matching)

    def get(self, job_id: str) -> Job:
        """Return one job."""
        with self.deps.database.read() as uow:
            return self._get(uow, job_id)

    def _get(self, uow: ReadUnitOfWork, job_id: str) -> Job:
        [job] = self.deps.admission.with_reasons(uow, [uow.project(self.project).jobs.get({"id": job_id})])
        return job

    def own_job_ids(self, job_ids: Sequence[str]) -> set[str]:
        """Return the ids that belong to jobs of this project."""
        with self.deps.database.read() as uow:
            return {job.id for job in uow.project(self.project).jobs.all({"id": list(job_ids)})}

    def with_runs(self, job_id: str) -> tuple[Job, list[Run], list[Attempt]]:
        """Return one job with its runs and attempts, in order."""
        with self.deps.database.read() as uow:
            repos, job = uow.project(self.project), self._get(uow, job_id)
            return job, repos.runs.all({"job": job_id}), repos.attempts.all({"job": job_id})

    def poll_updates(self, job_id: str, events_after: int, cursor: MetricsCursor) -> JobUpdate:
        """Return the updates of a job after an event sequence number and a metrics cursor, from one transaction."""
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            job = self._get(uow, job_id)
            newest = next(iter(repos.attempts.page(1, None, {"job": job.id}, newest_first=True)), None)
            cursor = cursor if newest is None else cursor.for_attempt(newest)
            return JobUpdate(
                job=job,
                finished=_has_ended(repos, job),
                events=repos.telemetry.events(job.id, events_after, _EVENTS),
                series=repos.telemetry.series(job.id, [], StepRange(cursor.step - 1), DEFAULT_POINTS),
                cursor=cursor,
            )

    def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Return events after a sequence number."""
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            return repos.telemetry.events(repos.jobs.get({"id": job_id}).id, after, limit)

    def metrics(
        self, job_id: str, names: list[str], steps: StepRange = ALL_STEPS, points: int = DEFAULT_POINTS
    ) -> list[MetricSeries]:
        """Return the series in a range of steps, each downsampled to at most ``points`` points."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).telemetry.series(job_id, names, steps, points)

    def metric_points(self, job_id: str, name: str, after: int, limit: int) -> list[MetricSample]:
        """Return the stored points of one series after a step."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).telemetry.metric_points(job_id, name, after, limit)

    def checkpoints(self, job_id: str, limit: int, after: int | None) -> list[Checkpoint]:
        """List committed checkpoints by step."""
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            return repos.checkpoints.page(limit, after, {"job": repos.jobs.get({"id": job_id}).id})

    def log(self, job_id: str, offset: int, limit: int) -> tuple[bytes, int, bool]:
        """Return at most ``limit`` bytes of the log from ``offset``, the next offset, and whether the log has ended."""
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            job = repos.jobs.get({"id": job_id})
            chunks = repos.telemetry.log_chunks(job.id, offset, MAX_LOG_CHUNKS)
            length = repos.telemetry.log_length(job.id)
            ended = _has_ended(repos, job)
        # A chunk never ends within a character: readers decode each chunk separately.
        text = drop_partial_character(read_log_chunks(self.deps.store, chunks, offset, limit))
        next_offset = offset + len(text)
        return text, next_offset, ended and next_offset >= length

    def log_tail(self, job_id: str, lines: int) -> int:
        """Return the offset at which the last ``lines`` lines of the log begin."""
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            return tail_offset(self.deps.store, repos.telemetry, repos.jobs.get({"id": job_id}).id, lines)


def _has_ended(repos: ReadProjectData, job: Job) -> bool:
    """Return whether the job and its last run have ended."""
    return job.state.terminal and repos.runs.find({"job": job.id, "ended_at": None}) is None


def _deletable(repos: ReadProjectData, job_id: str) -> Job:
    """Return a job that may be deleted. Raises as ``Jobs.delete``."""
    job = repos.jobs.get({"id": job_id})
    if not job.state.terminal:
        raise ConflictError(f"job {job_id} is {job.state}", hint="wait for its end, or cancel it first")
    if repos.runs.find({"job": job_id, "ended_at": None}) is not None:
        raise ConflictError(f"the run of job {job_id} is still ending", hint="repeat the request in a few seconds")
    version = repos.model_versions.find({"job": job_id})
    if version is not None:
        name = repos.models.get({"id": version.model}).name
        raise ConflictError(
            f"{name}@{version.number} was registered from job {job_id}", hint="delete that model version first"
        )
    return job
