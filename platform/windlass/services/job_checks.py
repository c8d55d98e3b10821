"""Finds what a job spec names and checks the spec against it, before a GPU is used."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from windlass.domain.datasets import Dataset, DatasetVersion, Histogram, Split, VersionState, skipped_rows_message
from windlass.domain.errors import (
    ConsentExpiredError,
    FieldProblem,
    InvalidError,
    PurposeNotAllowedError,
)
from windlass.domain.jobs import Job
from windlass.domain.models import BaseModelState, CatalogueModel
from windlass.domain.placement import placement_problem
from windlass.domain.projects import Pool, Project
from windlass.domain.quota import Simulation
from windlass.domain.reports import JobWarning
from windlass.domain.specs import JobSpec, LoraMethod, Method, ResolvedTraining, Task
from windlass.domain.training_memory import MemoryEstimate, ModelSize, least_memory, least_tokens
from windlass.kit.numbers import count, size
from windlass.ports import ReadProjectData, ReadUnitOfWork
from windlass.ports.filters import DatasetVersionFilter


def world_size_of(pools: Sequence[Pool], spec: JobSpec) -> int:
    """Return the number of training processes of a job; an unknown pool has no GPUs."""
    pool = next((pool for pool in pools if pool.name == spec.resources.pool), None)
    return spec.resources.world_size(has_gpus=pool is not None and pool.has_gpus)


def require_feasible(spec: JobSpec, version: DatasetVersion, base: CatalogueModel, world_size: int) -> None:
    """Reject settings with which the training is certain to fail.

    Raises:
        InvalidError: the message names the field, the limit and a value that fits.
    """
    _require_length_below_positions(spec, base)
    rows = version.usable_rows(Split.TRAIN)
    if world_size > rows:
        per_gpu = world_size > spec.resources.workers
        processes = count(world_size, "training process", "training processes")
        raise InvalidError.field(
            f"/spec/resources/{'gpus_per_worker' if per_gpu else 'workers'}",
            f"{processes} need at least as many usable training rows; {spec.dataset} has {rows}",
            hint=f"use at most {count(rows, 'GPU' if per_gpu else 'worker')}",
        )


def placement_warnings(pools: Sequence[Pool], spec: JobSpec, simulation: Simulation) -> tuple[JobWarning, ...]:
    """Return a warning if the job would start, but fits no set of nodes; Kueue admits jobs by their quotas alone."""
    free = next((pool.free_gpus for pool in pools if pool.name == spec.resources.pool), None)
    if simulation.verdict != "starts" or free is None:
        return ()
    problem = placement_problem(free, spec.resources.workers, spec.resources.gpus_per_worker)
    if not problem:
        return ()
    message = f"it fits the quota, but {problem}: it gives its quota back if its pods are not placed in time"
    return (JobWarning(code="no_room_on_nodes", message=message, context={"free_gpus": list(free)}),)


def _require_length_below_positions(spec: JobSpec, base: CatalogueModel) -> None:
    limit, length, answer = base.max_positions, spec.training.max_length, spec.evaluation.max_new_tokens
    if limit is None:
        return
    if length is not None and length > limit:
        raise InvalidError.field(
            "/spec/training/max_length",
            f"{length} tokens is above {limit}, the longest input of base model {base.name}",
            hint=f"use at most {limit}; longer rows are truncated",
        )
    if spec.task is Task.CHAT and answer >= limit:
        raise InvalidError.field(
            "/spec/evaluation/max_new_tokens",
            f"an answer of {answer} tokens leaves no room for a prompt: base model {base.name} has {limit} positions",
            hint=f"use at most {limit - 1}",
        )


def require_memory(
    pools: Sequence[Pool],
    spec: JobSpec,
    training: ResolvedTraining,
    base: CatalogueModel,
    version: DatasetVersion,
    world_size: int,
) -> None:
    """Reject a training that needs more memory than a GPU of its pool has, where both are known.

    Raises:
        InvalidError: the message has the memory that the training needs at least, the hint what fits.
    """
    limit = next((pool.gpu_memory_bytes for pool in pools if pool.name == spec.resources.pool), None)
    if limit is None or base.parameters is None:
        return
    needs = _MemoryNeeds(base, version, world_size)
    least = needs.least(spec.method, training)
    if least.total <= limit:
        return
    alternatives = []
    batch = training.batch_size
    parts = next((n for n in range(2, batch + 1) if batch % n == 0 and needs.fits(limit, spec.method, training, n)), 0)
    if parts:
        alternatives.append(f"set training.gradient_accumulation to {parts}")
    if spec.method.type == "full" and needs.fits(limit, LoraMethod(), training, parts or batch):
        alternatives.append("use method lora")
    large = [pool.name for pool in pools if (pool.gpu_memory_bytes or 0) >= least.total]
    alternatives.append(f"use pool {' or '.join(large)}" if large else "use a pool with more memory per GPU")
    raise InvalidError.field(
        "/spec/resources/pool",
        f"the training needs at least {size(least.total)} on each GPU ({least}); "
        f"a GPU of pool {spec.resources.pool} has {size(limit)}",
        hint=f"{', '.join(alternatives)}, or use a smaller base model",
    )


@dataclass(frozen=True)
class _MemoryNeeds:
    """The memory of trainings of one base model on one dataset version."""

    base: CatalogueModel
    version: DatasetVersion
    world_size: int

    def least(self, method: Method, training: ResolvedTraining) -> MemoryEstimate:
        """Return the least memory with these settings."""
        model = ModelSize(parameters=self.base.parameters or 0, activations_per_token=self.base.activations_per_token)
        tokens = least_tokens(self._lengths(), self.version.usable_rows(Split.TRAIN), training, self.world_size)
        return least_memory(model, method, training, tokens)

    def fits(self, limit: int, method: Method, training: ResolvedTraining, accumulation: int) -> bool:
        """Return whether the least memory with another number of micro-batches is within the limit."""
        return self.least(method, training.model_copy(update={"gradient_accumulation": accumulation})).total <= limit

    def _lengths(self) -> Histogram | None:
        """Return the tokens per training row; None if they were counted with the tokenizer of another model."""
        report = self.version.report
        if report is None or report.tokenizer != self.base.tokenizer or Split.TRAIN not in report.splits:
            return None
        return report.splits[Split.TRAIN].tokens


def _require_purpose(dataset: Dataset, spec: JobSpec, now: datetime) -> None:
    if dataset.consent_until is not None and now >= dataset.consent_until:
        raise ConsentExpiredError(
            f"the consent to use dataset {dataset.name} ended at {dataset.consent_until.isoformat()}",
            hint="delete the dataset, or extend `--consent-until` if there is a new consent",
            fields=[FieldProblem("/spec/dataset", "its consent has ended")],
            context={"consent_until": dataset.consent_until.isoformat()},
        )
    if dataset.purposes and spec.purpose not in dataset.purposes:
        allowed = ", ".join(dataset.purposes)
        given = f"not {spec.purpose}" if spec.purpose else "and the job names none"
        raise PurposeNotAllowedError(
            f"dataset {dataset.name} may be used for {allowed}, {given}",
            hint=f"set `purpose` to one of: {allowed}; or use another dataset",
            fields=[FieldProblem("/spec/purpose", f"the dataset allows {allowed}")],
            context={"purposes": list(dataset.purposes)},
        )


def usable_version(repos: ReadProjectData, spec: JobSpec, now: datetime) -> DatasetVersion:
    """Return the ready dataset version that the spec names.

    Raises:
        InvalidError: it does not exist, is not ready, or is for another task.
        PurposeNotAllowedError: its dataset may not be used for the purpose of the job.
        ConsentExpiredError: the consent to use its dataset has ended.
    """
    name, _, number = spec.dataset.partition("@")
    dataset = repos.datasets.find({"name": name})
    if dataset is None:
        upload = f"windlass dataset upload {name} FILE --task {spec.task}"
        missing = f"there is no dataset {name} in this project"
        raise InvalidError.field("/spec/dataset", missing, hint=f"upload it: '{upload}'")
    if dataset.task is not spec.task:
        raise InvalidError.field("/spec/task", f"dataset {name} is for {dataset.task}, the job is for {spec.task}")
    _require_purpose(dataset, spec, now)
    where: DatasetVersionFilter = {"dataset": dataset.id}
    if number:
        where["number"] = int(number)
    else:
        where["state"] = VersionState.READY
    versions = repos.dataset_versions.all(where)
    version = max(versions, key=lambda candidate: candidate.number, default=None)
    if version is None:
        missing = f"dataset {name} has no version {number}" if number else f"dataset {name} has no ready version"
        raise InvalidError.field("/spec/dataset", missing, hint=f"list its versions: 'windlass dataset show {name}'")
    if version.state is not VersionState.READY:
        raise InvalidError.field(
            "/spec/dataset",
            f"{name}@{version.number} is {version.state}",
            hint=f"read its report: 'windlass dataset report {name}@{version.number}'",
        )
    for split in (Split.TRAIN, Split.VALIDATION):
        if version.usable_rows(split) == 0:
            skipped = version.skipped_rows.get(split, 0)
            stratify = " --stratify" if version.labels else ""
            raise InvalidError.field(
                "/spec/dataset",
                f"{name}@{version.number} has no usable rows in split {split}"
                + (f": {skipped_rows_message(split, skipped)}" if skipped else ""),
                hint=f"split it: 'windlass dataset clean {name}@{version.number} --drop-missing --dedupe"
                f" --split 0.8/0.2{stratify}' creates a new version",
            )
    return version


def usable_base(uow: ReadUnitOfWork, spec: JobSpec) -> CatalogueModel:
    """Return the ready base model that the spec names.

    Raises:
        InvalidError: it does not exist, is not ready, or is for another task.
    """
    base = uow.base_models.find({"name": spec.base_model})
    if base is None:
        names = ", ".join(model.name for model in uow.base_models.all()) or "none yet"
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
        tasks = ", ".join(base.tasks)
        raise InvalidError.field(
            "/spec/base_model", f"base model {base.name} can be tuned for {tasks}, not for {spec.task}"
        )
    return base


def require_same(field: str, name: str, retried: Job, *, same: bool) -> None:
    """Require that a name still means what a retried job used.

    Raises:
        InvalidError: the object was deleted, and another one has its name.
    """
    if not same:
        noun = field.replace("_", " ")
        raise InvalidError.field(
            f"/spec/{field}",
            f"job {retried.id} used another {noun} {name}, which was deleted and created again",
            hint=f"submit a new job to use the {noun} that has this name now",
        )


def require_below_ceiling(project: Project, spec: JobSpec) -> None:
    """Require that the priority of a job is not above the ceiling of its project.

    Raises:
        InvalidError: it is.
    """
    if spec.priority > project.priority_ceiling:
        raise InvalidError.field(
            "/spec/priority",
            f"{spec.priority} is above {project.priority_ceiling}, the priority ceiling of project {project.name}",
            hint="lower this job's priority, lower the priority of other jobs, or ask an admin to raise the ceiling",
        )
