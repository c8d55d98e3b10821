"""Datasets and their versions. ``uploads`` receives the files, a child process parses them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from windlass.domain.datasets import (
    CleaningStep,
    Dataset,
    DatasetVersion,
    Split,
    Upload,
    ValidationReport,
    VersionState,
)
from windlass.domain.erasures import ErasureState
from windlass.domain.errors import ConflictError, NotFoundError
from windlass.domain.ingest import IngestOptions
from windlass.domain.jobs import UNFINISHED_STATES
from windlass.domain.records import Deletion, LineageEdge
from windlass.domain.reports import JobWarning
from windlass.domain.specs import Task
from windlass.domain.storage_layout import dataset_version_prefix, upload_prefix
from windlass.kit.numbers import count
from windlass.ports import ReadProjectData, UnitOfWork
from windlass.services.base import ProjectService, stored_bytes
from windlass.services.dataset_rows import ALL_ROWS, RowFilter, RowPage, read_page
from windlass.services.idempotency import Idempotency
from windlass.services.object_limits import require_below_limit, require_room_for_version
from windlass.services.projects import check_version

_MAX_ANCESTORS = 100


@dataclass(frozen=True)
class Datasets(ProjectService):
    """Create, read, clean and delete datasets and versions of one project."""

    def create(
        self,
        name: str,
        task: Task,
        description: str,
        purposes: tuple[str, ...] = (),
        consent_until: datetime | None = None,
    ) -> Dataset:
        """Create an empty dataset.

        Raises:
            ConflictError: the name is taken.
            LimitReachedError: the project has too many datasets.
        """
        dataset = Dataset(
            id=self.deps.new_id("ds"),
            project=self.project,
            name=name,
            task=task,
            description=description,
            purposes=purposes,
            consent_until=consent_until,
            created_at=self.deps.clock.now(),
        )
        limit = self.deps.limits.datasets
        with self.deps.database.write(self.project) as uow:
            datasets = uow.project(self.project).datasets
            datasets.add(dataset)
            require_below_limit("datasets", "the project", datasets.count() - 1, limit, "WINDLASS_LIMIT_MAX_DATASETS")
            self.audit(uow, "dataset.create", dataset.id, name, self.project, after=dataset)
        return dataset

    def page(self, limit: int, after: str | None) -> list[Dataset]:
        """List datasets, newest first."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).datasets.page(limit, after, newest_first=True)

    def get(self, name: str) -> Dataset:
        """Return the dataset of this name."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).datasets.get({"name": name})

    def latest(self, dataset: Dataset) -> int | None:
        """Return the number of the newest ready version."""
        with self.deps.database.read() as uow:
            ready = uow.project(self.project).dataset_versions.all({"dataset": dataset.id, "state": VersionState.READY})
        return max((version.number for version in ready), default=None)

    def update(self, name: str, version: int, changes: Mapping[str, object]) -> Dataset:
        """Change the description, the purposes or the end of the consent; models and accepted jobs keep theirs."""
        with self.deps.database.write() as uow:
            datasets = uow.project(self.project).datasets
            dataset = datasets.get({"name": name})
            check_version("dataset", dataset.version, version)
            saved = datasets.save(dataset.model_copy(update=changes))
            self.audit(uow, "dataset.update", dataset.id, name, self.project, before=dataset, after=saved)
        return saved

    def delete(self, name: str, version: int, *, dry_run: bool = False) -> Deletion:
        """Delete a dataset with all versions; ``dry_run`` only returns what that would remove.

        Raises:
            ConflictError: a live job trains on one of them.
        """
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            dataset, versions = _deletable(repos, name, version)
            uploads = repos.uploads.all({"dataset": dataset.id})
            consequences = _uses(repos, versions)
        prefixes = [version.prefix for version in versions]
        prefixes += [upload_prefix(self.project, upload.id) for upload in uploads]
        deletion = Deletion(
            kind="dataset",
            id=dataset.id,
            name=name,
            contains={"dataset version": len(versions)} if versions else {},
            stored_bytes=stored_bytes(self.deps.store, *prefixes),
            consequences=consequences,
        )
        if not dry_run:
            with self.deps.database.write() as uow:
                repos = uow.project(self.project)
                dataset, versions = _deletable(repos, name, version)
                discard_dataset(uow, dataset, versions)
                self.audit(uow, "dataset.delete", dataset.id, name, self.project, before=dataset)
        return deletion

    def versions(self, name: str, limit: int, after: str | None) -> list[DatasetVersion]:
        """List a dataset's versions, newest first."""
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            dataset = repos.datasets.get({"name": name})
            return repos.dataset_versions.page(limit, after, {"dataset": dataset.id}, newest_first=True)

    def version(self, name: str, number: int) -> DatasetVersion:
        """Return one version."""
        with self.deps.database.read() as uow:
            return _version(uow.project(self.project), name, number)

    def report(self, name: str, number: int) -> tuple[DatasetVersion, ValidationReport]:
        """Return a version with its validation report.

        Raises:
            ConflictError: it is still being processed, or its processing failed.
        """
        version = self.version(name, number)
        if version.report is None:
            raise ConflictError(
                f"{name}@{number} is {version.state}, it has no report"
                + (f": {version.problem}" if version.problem else ""),
                hint="wait until the version is ready or rejected",
            )
        return version, version.report

    def report_html(self, name: str, number: int) -> bytes:
        """Return the validation report as an HTML page. Raises as ``report``."""
        version, _ = self.report(name, number)
        with self.deps.store.open(self.deps.store.published_file(version.prefix, "report.html")) as stream:
            return stream.read()

    def rows(
        self, name: str, number: int, split: Split, limit: int, cursor: str | None, wanted: RowFilter = ALL_ROWS
    ) -> RowPage:
        """Return rows of a split in the internal format; see ``dataset_rows.read_page``.

        Raises:
            BadRequestError: the cursor does not belong to this split.
        """
        version = self.version(name, number)
        if split not in version.rows:
            raise NotFoundError(
                f"{name}@{number} has no split {split}", hint=f"it has {', '.join(version.rows) or 'none'}"
            )
        with self.deps.store.open(self.deps.store.published_file(version.prefix, f"{split}.jsonl")) as stream:
            return read_page(stream, limit, cursor, wanted)

    def clean(
        self,
        name: str,
        number: int,
        steps: tuple[CleaningStep, ...],
        *,
        allow_overlap: bool,
        idempotency_key: Idempotency | None,
    ) -> DatasetVersion:
        """Create a new version from this one with cleaning steps; it is processed after the reply.

        Raises:
            LimitReachedError: the dataset has too many versions, or too many of the project are not processed yet.
            ConflictError: the parent has no rows: it is still processing, or its files could not be read.
        """
        with self.deps.database.write() as uow:
            repos = uow.project(self.project)
            if idempotency_key and (existing_id := idempotency_key.find_subject(repos)):
                return repos.dataset_versions.get({"id": existing_id})
            parent = _version(repos, name, number)
            if parent.digest is None:
                raise ConflictError(
                    f"{name}@{number} is {parent.state} and has no rows to clean",
                    hint="wait until it is processed; a version whose files could not be read must be uploaded again",
                )
            dataset = repos.datasets.get({"name": name})
            require_room_for_version(repos, dataset, self.deps.limits)
            if repos.erasures.find({"dataset": dataset.id, "state": ErasureState.ERASING}) is not None:
                raise ConflictError(f"rows are being erased from dataset {name}", hint="wait for its new version")
            options = IngestOptions(allow_overlap=allow_overlap)  # the other options concern uploaded files
            version = new_version(self, uow, dataset, "clean", options, parent=parent, steps=steps)
            if idempotency_key:
                idempotency_key.store(repos, self.project, version.id, self.deps.clock.now())
            self.audit(uow, "dataset.clean", version.id, f"{name}@{version.number}", self.project, after=version)
        return version

    def delete_version(self, name: str, number: int, row_version: int, *, dry_run: bool = False) -> Deletion:
        """Delete a version and its files; ``dry_run`` only returns what that would remove.

        Raises:
            ConflictError: a live job trains on it, or a version is being created from it.
        """
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            version = _deletable_version(repos, name, number, row_version)
            consequences = _uses(repos, [version])
        prefixes = [version.prefix]
        if version.upload is not None:
            prefixes.append(upload_prefix(self.project, version.upload))
        deletion = Deletion(
            kind="dataset version",
            id=version.id,
            name=f"{name}@{number}",
            stored_bytes=stored_bytes(self.deps.store, *prefixes),
            consequences=consequences,
        )
        if not dry_run:
            with self.deps.database.write() as uow:
                discard_version(uow, _deletable_version(uow.project(self.project), name, number, row_version))
                self.audit(uow, "dataset-version.delete", version.id, f"{name}@{number}", self.project, before=version)
        return deletion


def discard_version(uow: UnitOfWork, version: DatasetVersion) -> None:
    """Delete the row of a version, and its files after the commit."""
    uow.project(version.project).dataset_versions.delete({"id": version.id})
    uow.outbox.put("dataset.purge", version.project, version.id)
    if version.upload is not None:
        uow.outbox.put("upload.purge", version.project, version.upload)


def discard_dataset(uow: UnitOfWork, dataset: Dataset, versions: list[DatasetVersion]) -> None:
    """Delete the rows of a dataset with its versions and uploads, and their files after the commit."""
    repos = uow.project(dataset.project)
    for version in versions:
        discard_version(uow, version)
    for upload in repos.uploads.all({"dataset": dataset.id}):
        uow.outbox.put("upload.purge", dataset.project, upload.id)
    repos.uploads.delete({"dataset": dataset.id})
    repos.datasets.delete({"id": dataset.id})


def _version(repos: ReadProjectData, name: str, number: int) -> DatasetVersion:
    dataset = repos.datasets.get({"name": name})
    version = repos.dataset_versions.find({"dataset": dataset.id, "number": number})
    if version is None:
        raise NotFoundError(f"no version {number} of dataset {name}")
    return version


def all_steps(repos: ReadProjectData, version_id: str | None) -> tuple[CleaningStep, ...]:
    """Return the steps from the uploaded rows to a version, in order.

    Steps before a deleted version are not known, and those of more than ``_MAX_ANCESTORS`` ancestors are left out.
    """
    steps: tuple[CleaningStep, ...] = ()
    for version in _with_ancestors(repos, version_id):
        steps = (*version.steps, *steps)
    return steps


def training_warnings(repos: ReadProjectData, version: DatasetVersion) -> tuple[JobWarning, ...]:
    """Return what of a version, and of the upload that it was cleaned from, a job does not use."""
    versions = _with_ancestors(repos, version.id)
    unused = (warning for each in versions for warning in each.unused_columns_warnings)
    return (*version.skipped_rows_warnings, *unused)


def _with_ancestors(repos: ReadProjectData, version_id: str | None) -> Iterator[DatasetVersion]:
    """Yield a version and the versions that it was cleaned from, the upload last; ends at a deleted one."""
    for _ in range(_MAX_ANCESTORS):
        version = repos.dataset_versions.find({"id": version_id}) if version_id else None
        if version is None:
            return
        yield version
        version_id = version.parent


def _deletable(repos: ReadProjectData, name: str, version: int) -> tuple[Dataset, list[DatasetVersion]]:
    """Return a dataset that may be deleted, and its versions. Raises as ``Datasets.delete``."""
    dataset = repos.datasets.get({"name": name})
    check_version("dataset", dataset.version, version)
    versions = repos.dataset_versions.all({"dataset": dataset.id})
    _require_unused(repos, name, versions)
    return dataset, versions


def _deletable_version(repos: ReadProjectData, name: str, number: int, row_version: int) -> DatasetVersion:
    """Return a dataset version that may be deleted. Raises as ``Datasets.delete_version``."""
    version = _version(repos, name, number)
    check_version("dataset version", version.version, row_version)
    child = repos.dataset_versions.find({"parent": version.id, "state": VersionState.PROCESSING})
    if child is not None:
        raise ConflictError(
            f"{name}@{child.number} is being created from {name}@{number}",
            hint="wait for that version, or delete it first",
        )
    _require_unused(repos, name, [version])
    return version


def _require_unused(repos: ReadProjectData, name: str, versions: list[DatasetVersion]) -> None:
    numbers = {version.id: version.number for version in versions}
    users = repos.jobs.all({"dataset_version": list(numbers), "state": UNFINISHED_STATES})
    if users:
        raise ConflictError(
            f"job {users[0].id} trains on {name}@{numbers[users[0].dataset_version]}",
            hint=f"wait for the job, or cancel it: `windlass job cancel {users[0].id}`",
            context={"jobs": [j.id for j in users]},
        )


def _uses(repos: ReadProjectData, versions: list[DatasetVersion]) -> tuple[str, ...]:
    """Return what is left without its data when the versions are deleted."""
    objects = [f"dataset-version:{version.id}" for version in versions]
    jobs = [edge for edge in repos.lineage.all({"object": objects}) if edge.relation == "trains-on"]
    deleted = {version.id for version in versions}
    consequences = []
    if jobs:
        consequences.append(f"{count(len(jobs), 'ended job')} trained on it and cannot be retried")
    served = [(endpoint.name, target) for endpoint in repos.endpoints.all() for target in endpoint.live]
    trained = repos.model_versions.all({"id": [target.model_version for _, target in served]})
    affected = {version.id for version in trained if version.dataset_version in deleted}
    consequences += [
        f"{target.model}@{target.number}, which endpoint {name} serves, stays without the data it was trained on"
        for name, target in served
        if target.model_version in affected
    ]
    return tuple(consequences)


def new_version(  # noqa: PLR0913 - the origin of a version has several forms
    service: ProjectService,
    uow: UnitOfWork,
    dataset: Dataset,
    origin: Literal["upload", "clean"],
    options: IngestOptions,
    *,
    upload: Upload | None = None,
    parent: DatasetVersion | None = None,
    steps: tuple[CleaningStep, ...] = (),
    erasure: str | None = None,
) -> DatasetVersion:
    """Store the next version of a dataset with its lineage, and the intent to process it."""
    repos = uow.project(service.project)
    key = service.deps.new_id("dsv")
    dataset = repos.datasets.save(dataset.model_copy(update={"last_number": dataset.last_number + 1}))
    version = DatasetVersion(
        id=key,
        project=service.project,
        dataset=dataset.id,
        number=dataset.last_number,
        state=VersionState.PROCESSING,
        task=dataset.task,
        origin=origin,
        upload=upload.id if upload else None,
        parent=parent.id if parent else None,
        erasure=erasure,
        options=options,
        steps=steps,
        prefix=dataset_version_prefix(service.project, key),
        created_by=service.caller.principal.user,
        created_at=service.deps.clock.now(),
    )
    repos.dataset_versions.add(version)
    source = f"dataset-version:{parent.id}" if parent else f"upload:{upload.id if upload else ''}"
    repos.lineage.add(
        LineageEdge(
            project=service.project,
            subject=f"dataset-version:{key}",
            relation="cleaned-from" if parent else "ingested-from",
            object=source,
        )
    )
    uow.outbox.put("dataset.process", service.project, key)
    return version
