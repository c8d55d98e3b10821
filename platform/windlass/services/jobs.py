"""Submit, look at, cancel and retry jobs of one project."""

from collections.abc import Sequence
from dataclasses import dataclass

from windlass.domain.datasets import DatasetVersion, Split, VersionState
from windlass.domain.errors import ConflictError, FieldProblem, InvalidError, LimitReachedError, QuotaExceededError
from windlass.domain.jobs import Attempt, Job, JobState, Run, move
from windlass.domain.models import BaseModelState, CatalogueModel
from windlass.domain.projects import Project
from windlass.domain.quota import Simulation
from windlass.domain.records import Checkpoint, Event, LineageEdge, MetricPoint
from windlass.domain.specs import JobSpec
from windlass.ports import ProjectData, UnitOfWork
from windlass.services.backing import ProjectUseCases
from windlass.services.history import tell
from windlass.services.idempotency import Idempotency
from windlass.services.projects import LIVE_JOBS

_EVENTS = 200
_LOG_CHUNKS = 256
_LONGEST_CHARACTER = 4


@dataclass(frozen=True)
class MetricsTold:
    """How far a reader knows a job's curves: all points below ``step`` as ``attempt`` left them, some of ``step``."""

    attempt: int = 0
    step: int = 0

    def beside(self, newest: Attempt) -> "MetricsTold":
        """Return how much of it still holds: a new attempt tells again what comes after the step it resumed from."""
        if newest.number == self.attempt:
            return self
        retold = 0 if newest.resumed_from_step is None else newest.resumed_from_step + 1
        return MetricsTold(newest.number, min(self.step, retold))


@dataclass(frozen=True)
class Glance:
    """What is new about a job to a reader; ``settled`` when job and run have ended, so that no more will be."""

    job: Job
    settled: bool
    events: list[Event]
    points: list[MetricPoint]
    told: MetricsTold
    """What the points come on top of."""


@dataclass(frozen=True)
class Jobs(ProjectUseCases):
    """The use cases of jobs."""

    def submit(self, spec: JobSpec, once: Idempotency, unfinished: int, retried: Job | None = None) -> Job:
        """Accept a job; durable once this returns (invariants I1, I2, I8: one transaction).

        Args:
            spec: what to train.
            once: the idempotency key of the request.
            unfinished: how many jobs of the project may be on their way at once.
            retried: the ended job whose spec this is.

        Raises:
            InvalidError: the spec names something that does not exist or does not fit its task.
            LimitReachedError: as many jobs of the project are on their way as may be.
            QuotaExceededError: it can never start as things stand; says the smallest change that helps.
            IdempotencyMismatchError: the key was used with another body.
        """
        with self.backing.database.write() as work:
            inside = work.of(self.project)
            if known := once.subject(inside):
                return inside.jobs.get(id=known)
            live = inside.jobs.count(state=LIVE_JOBS)
            if live >= unfinished:
                raise LimitReachedError(
                    f"{live} jobs of this project have not ended, which is as many as it may have",
                    hint="wait for some of them, or cancel what you no longer need",
                    facts={"unfinished": live, "limit": unfinished},
                )
            draft = self._draft(work, spec, retried)
            verdict = self._simulate(work, draft)
            if verdict.verdict == "never" and verdict.reason is not None:
                raise QuotaExceededError(
                    f"the job can never start: {verdict.reason.message}",
                    hint=verdict.reason.action,
                    fields=[FieldProblem("/spec/resources", verdict.reason.message)],
                    facts={"reason": verdict.reason.code, **verdict.reason.facts},
                )
            inside.jobs.add(draft)
            once.remember(inside, self.project, draft.id, draft.created_at)
            for relation, target in (
                ("trains-on", f"dataset-version:{draft.dataset_version}"),
                ("starts-from", f"base-model:{draft.base_model}"),
            ):
                inside.lineage.add(
                    LineageEdge(project=self.project, subject=f"job:{draft.id}", relation=relation, object=target)
                )
            tell(inside, draft, draft.created_at, "job_accepted", "the job was accepted")
            work.outbox.put("job.submit", self.project, draft.id)
            self.audit(work, "job.create", draft.id, self.project)
        return draft

    def simulate(self, spec: JobSpec) -> Simulation:
        """Tell what the scheduler would do with the job now; nothing is written. Raises InvalidError as ``submit``."""
        with self.backing.database.read() as work:
            return self._simulate(work, self._draft(work, spec, None))

    def _simulate(self, work: UnitOfWork, draft: Job) -> Simulation:
        return self.backing.admission.simulate(work, draft, work.projects.get(id=self.project))

    def _draft(self, work: UnitOfWork, spec: JobSpec, retried: Job | None) -> Job:
        inside = work.of(self.project)
        _require_below_ceiling(work.projects.get(id=self.project), spec)
        version = _usable_version(inside, spec)
        base = _usable_base(work, spec)
        if retried is not None:
            _require_same("dataset", spec.dataset, retried, same=version.id == retried.dataset_version)
            _require_same("base_model", spec.base_model, retried, same=base.id == retried.base_model)
        model = inside.models.find(name=spec.model)
        if model is not None and model.task is not spec.task:
            raise InvalidError.field(
                "/spec/model", f"model {model.name} is for {model.task}", hint="name another model"
            )
        now = self.backing.clock.now()
        return Job(
            id=self.backing.new_id("job"),
            project=self.project,
            spec=spec,
            state=JobState.ACCEPTED,
            dataset_version=version.id,
            dataset_ref=f"{spec.dataset.partition('@')[0]}@{version.number}",
            base_model=base.id,
            retry_of=retried.id if retried else None,
            created_by=self.caller.principal.user,
            created_at=now,
            changed_at=now,
        )

    def retry(self, job_id: str, once: Idempotency, unfinished: int) -> Job:
        """Submit the spec of an ended job again, as a new job on the same dataset version and base model.

        Raises:
            ConflictError: the job is still live.
            InvalidError: the dataset version or the base model is gone.
        """
        with self.backing.database.read() as work:
            old = work.of(self.project).jobs.get(id=job_id)
        if not old.state.terminal:
            raise ConflictError(f"job {job_id} is {old.state}", hint="wait for its end, or cancel it first")
        again = old.spec.model_copy(update={"dataset": old.dataset_ref})
        return self.submit(again, once, unfinished, retried=old)

    def cancel(self, job_id: str) -> Job:
        """Ask for the job's end; repeating it does no harm. ``cancelled`` follows when its processes are gone.

        Raises:
            IllegalMoveError: the job has ended otherwise.
        """
        now = self.backing.clock.now()
        with self.backing.database.write() as work:
            inside = work.of(self.project)
            before = inside.jobs.get(id=job_id)
            if before.state is JobState.CANCELLED:
                return before
            job = move(before, JobState.CANCELLING, now)
            if job is not before:
                job = inside.jobs.save(job)
                run = inside.runs.find(job=job_id, ended_at=None)
                if run is None:
                    job = inside.jobs.save(move(job, JobState.CANCELLED, now))
                elif run.stop != "cancel":
                    inside.runs.save(run.model_copy(update={"stop": "cancel", "stop_at": now}))
                tell(inside, job, now, "job_cancel_requested", f"{self.caller.principal.user} asked to cancel the job")
                if job.state is JobState.CANCELLED:
                    tell(inside, job, now, "job_cancelled", "the job was cancelled")
                self.audit(work, "job.cancel", job.id, self.project)
        return job

    def page(self, limit: int, after: str | None, state: JobState | None) -> list[Job]:
        """List jobs, newest first."""
        where = {} if state is None else {"state": state}
        with self.backing.database.read() as work:
            return work.of(self.project).jobs.page(limit, after, newest_first=True, **where)

    def get(self, job_id: str) -> Job:
        """Return one job."""
        with self.backing.database.read() as work:
            return work.of(self.project).jobs.get(id=job_id)

    def mine(self, job_ids: Sequence[str]) -> set[str]:
        """Return those of the jobs that are this project's."""
        with self.backing.database.read() as work:
            return {job.id for job in work.of(self.project).jobs.all(id=list(job_ids))}

    def lives(self, job_id: str) -> tuple[list[Run], list[Attempt]]:
        """Return the runs and attempts of a job, in order."""
        with self.backing.database.read() as work:
            inside = work.of(self.project)
            inside.jobs.get(id=job_id)
            return inside.runs.all(job=job_id), inside.attempts.all(job=job_id)

    def glance(self, job_id: str, events_after: int, told: MetricsTold) -> Glance:
        """Return what is new to somebody who follows the job, as of one moment."""
        with self.backing.database.read() as work:
            inside = work.of(self.project)
            job = inside.jobs.get(id=job_id)
            newest = next(iter(inside.attempts.page(1, None, newest_first=True, job=job.id)), None)
            told = told if newest is None else told.beside(newest)
            return Glance(
                job=job,
                settled=job.state.terminal and inside.runs.find(job=job.id, ended_at=None) is None,
                events=inside.journal.events(job.id, events_after, _EVENTS),
                points=inside.journal.metrics(job.id, [], told.step - 1),
                told=told,
            )

    def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Return events beyond a sequence number."""
        with self.backing.database.read() as work:
            inside = work.of(self.project)
            return inside.journal.events(inside.jobs.get(id=job_id).id, after, limit)

    def metrics(self, job_id: str, names: list[str], after: int) -> list[MetricPoint]:
        """Return metric points beyond a step."""
        with self.backing.database.read() as work:
            inside = work.of(self.project)
            return inside.journal.metrics(inside.jobs.get(id=job_id).id, names, after)

    def checkpoints(self, job_id: str, limit: int, after: int | None) -> list[Checkpoint]:
        """List committed checkpoints by step."""
        with self.backing.database.read() as work:
            inside = work.of(self.project)
            return inside.checkpoints.page(limit, after, job=inside.jobs.get(id=job_id).id)

    def log(self, job_id: str, offset: int, limit: int) -> tuple[bytes, int, bool]:
        """Return at most ``limit`` bytes of the log from ``offset``, the next offset, and whether that is its end."""
        with self.backing.database.read() as work:
            inside = work.of(self.project)
            job = inside.jobs.get(id=job_id)
            chunks = inside.journal.log_chunks(job.id, offset, _LOG_CHUNKS)
            length = inside.journal.log_length(job.id)
            ended = job.state.terminal and inside.runs.find(job=job.id, ended_at=None) is None
        text = b""
        for chunk in chunks:
            if len(text) == limit:
                break
            with self.backing.store.open(chunk.key) as stream:
                stream.seek(max(0, offset - chunk.start))
                text += stream.read(limit - len(text))
        # A reply never ends within a character: the reader decodes each alone.
        text = _whole_characters(text)
        following = offset + len(text)
        return text, following, ended and following >= length


def _whole_characters(text: bytes) -> bytes:
    """Return UTF-8 without the beginning of a character at its end."""
    for back in range(1, min(len(text), _LONGEST_CHARACTER) + 1):
        byte = text[-back]
        if byte & 0xC0 != 0x80:  # noqa: PLR2004 - the first byte of a character, whose leading ones count its bytes
            bytes_of_it = 1 if byte < 0x80 else f"{byte:08b}".index("0")  # noqa: PLR2004 - ASCII ends here
            return text if back >= bytes_of_it else text[:-back]
    return text


def _require_same(field: str, name: str, retried: Job, *, same: bool) -> None:
    if not same:
        noun = field.replace("_", " ")
        raise InvalidError.field(
            f"/spec/{field}",
            f"{name} is not what job {retried.id} trained on: that {noun} was deleted, and made again",
            hint="submit a new job if you want to train on what has this name now",
        )


def _require_below_ceiling(project: Project, spec: JobSpec) -> None:
    if spec.priority > project.priority_ceiling:
        raise InvalidError.field(
            "/spec/priority",
            f"{spec.priority} is above {project.priority_ceiling}, the priority ceiling of project {project.name}",
            hint="take a lower one for this job, lower ones for what may wait, or ask an admin to raise the ceiling",
        )


def _usable_version(inside: ProjectData, spec: JobSpec) -> DatasetVersion:
    name, _, number = spec.dataset.partition("@")
    dataset = inside.datasets.find(name=name)
    if dataset is None:
        raise InvalidError.field("/spec/dataset", f"there is no dataset {name} in this project", hint="upload it first")
    if dataset.task is not spec.task:
        raise InvalidError.field("/spec/task", f"dataset {name} is for {dataset.task}, the job is for {spec.task}")
    where = {"number": int(number)} if number else {"state": VersionState.READY}
    found = inside.dataset_versions.all(dataset=dataset.id, **where)
    version = max(found, key=lambda one: one.number, default=None)
    if version is None:
        missing = f"dataset {name} has no version {number}" if number else f"dataset {name} has no ready version"
        raise InvalidError.field("/spec/dataset", missing, hint="list its versions with 'windlass dataset show'")
    if version.state is not VersionState.READY:
        raise InvalidError.field(
            "/spec/dataset",
            f"{name}@{version.number} is {version.state}",
            hint="read its report, clean it, and use the new version",
        )
    for split in (Split.TRAIN, Split.VALIDATION):
        if not version.rows.get(split):
            raise InvalidError.field(
                "/spec/dataset",
                f"{name}@{version.number} has no rows in split {split}",
                hint="split it: 'windlass dataset clean --split 0.8/0.2' makes a new version",
            )
    return version


def _usable_base(work: UnitOfWork, spec: JobSpec) -> CatalogueModel:
    base = work.base_models.find(name=spec.base_model)
    if base is None:
        names = ", ".join(model.name for model in work.base_models.all()) or "none yet"
        raise InvalidError.field(
            "/spec/base_model",
            f"there is no base model {spec.base_model}; the catalogue has: {names}",
            hint="add it with 'windlass base-model add'",
        )
    if base.state is not BaseModelState.READY:
        raise InvalidError.field(
            "/spec/base_model", f"base model {base.name} is {base.state}", hint=base.problem or "wait"
        )
    if spec.task not in base.tasks:
        known = ", ".join(base.tasks)
        raise InvalidError.field(
            "/spec/base_model", f"base model {base.name} can be tuned for {known}, not for {spec.task}"
        )
    return base
