"""Datasets and their versions: everything but the bytes' way in (``uploads``) and their parsing (a child process)."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from windlass.domain.datasets import (
    CleaningStep,
    Dataset,
    DatasetVersion,
    IngestOptions,
    Split,
    Upload,
    ValidationReport,
    VersionState,
)
from windlass.domain.errors import BadRequestError, ConflictError, LimitReachedError, NotFoundError
from windlass.domain.records import LineageEdge
from windlass.domain.specs import Task
from windlass.ports import ProjectData, UnitOfWork
from windlass.services.backing import ProjectUseCases
from windlass.services.idempotency import Idempotency
from windlass.services.projects import LIVE_JOBS, check_version

_ROW_BYTES = 4 << 20
_LONGEST_OFFSET = 15
_NO_CURSOR = "is not a cursor of this list"


def version_prefix(project: str, version: str) -> str:
    """Return where the object store keeps a version's files."""
    return f"projects/{project}/datasets/{version}"


@dataclass(frozen=True)
class Datasets(ProjectUseCases):
    """Create, look at, clean and delete datasets and versions of one project."""

    def create(self, name: str, task: Task, description: str) -> Dataset:
        """Make an empty dataset.

        Raises:
            ConflictError: the name is taken.
        """
        dataset = Dataset(
            id=self.backing.new_id("ds"),
            project=self.project,
            name=name,
            task=task,
            description=description,
            created_at=self.backing.clock.now(),
        )
        with self.backing.database.write() as work:
            work.of(self.project).datasets.add(dataset)
            self.audit(work, "dataset.create", dataset.id, self.project)
        return dataset

    def page(self, limit: int, after: str | None) -> list[Dataset]:
        """List datasets, newest first."""
        with self.backing.database.read() as work:
            return work.of(self.project).datasets.page(limit, after, newest_first=True)

    def get(self, name: str) -> Dataset:
        """Return the dataset of this name."""
        with self.backing.database.read() as work:
            return work.of(self.project).datasets.get(name=name)

    def latest(self, dataset: Dataset) -> int | None:
        """Return the number of the newest ready version."""
        with self.backing.database.read() as work:
            ready = work.of(self.project).dataset_versions.all(dataset=dataset.id, state=VersionState.READY)
        return max((version.number for version in ready), default=None)

    def update(self, name: str, version: int, description: str) -> Dataset:
        """Change the description."""
        with self.backing.database.write() as work:
            datasets = work.of(self.project).datasets
            dataset = datasets.get(name=name)
            check_version("dataset", dataset.version, version)
            saved = datasets.save(dataset.model_copy(update={"description": description}))
            self.audit(work, "dataset.update", dataset.id, self.project)
        return saved

    def delete(self, name: str, version: int) -> None:
        """Remove a dataset with all versions.

        Raises:
            ConflictError: a live job trains on one of them.
        """
        with self.backing.database.write() as work:
            inside = work.of(self.project)
            dataset = inside.datasets.get(name=name)
            check_version("dataset", dataset.version, version)
            for one in inside.dataset_versions.all(dataset=dataset.id):
                self._discard(work, one)
            for upload in inside.uploads.all(dataset=dataset.id):
                work.outbox.put("upload.purge", self.project, upload.id)
            inside.uploads.delete(dataset=dataset.id)
            inside.datasets.delete(id=dataset.id)
            self.audit(work, "dataset.delete", dataset.id, self.project)

    def versions(self, name: str, limit: int, after: str | None) -> list[DatasetVersion]:
        """List a dataset's versions, newest first."""
        with self.backing.database.read() as work:
            inside = work.of(self.project)
            dataset = inside.datasets.get(name=name)
            return inside.dataset_versions.page(limit, after, newest_first=True, dataset=dataset.id)

    def version(self, name: str, number: int) -> DatasetVersion:
        """Return one version."""
        with self.backing.database.read() as work:
            return _version(work.of(self.project), name, number)

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

    def rows(
        self, name: str, number: int, split: Split, limit: int, cursor: str | None
    ) -> tuple[list[Any], str | None]:
        """Return rows of a split in the internal form, and the cursor behind them (a byte offset, encoded).

        Raises:
            BadRequestError: the cursor is none of this split.
        """
        version = self.version(name, number)
        if split not in version.rows:
            raise NotFoundError(
                f"{name}@{number} has no split {split}", hint=f"it has {', '.join(version.rows) or 'none'}"
            )
        rows: list[Any] = []
        with self.backing.store.open(f"{version.prefix}/{split}.jsonl") as stream:
            _seek_row(stream, _decode_offset(cursor))
            while len(rows) < limit and (line := stream.readline(_ROW_BYTES)):
                rows.append(json.loads(line))
            more = bool(stream.read(1))
            at = stream.tell() - 1
        return rows, base64.urlsafe_b64encode(b"%d" % at).decode() if more else None

    def clean(
        self,
        name: str,
        number: int,
        steps: tuple[CleaningStep, ...],
        *,
        allow_overlap: bool,
        once: Idempotency | None,
        unfinished: int,
    ) -> DatasetVersion:
        """Make a new version from this one by recorded steps; it is processed after the reply.

        Raises:
            LimitReachedError: ``unfinished`` versions of the project wait, or are processed, already.
            ConflictError: the parent has no rows to clean: still processing, or its files could not be read.
        """
        with self.backing.database.write() as work:
            inside = work.of(self.project)
            if once and (known := once.subject(inside)):
                return inside.dataset_versions.get(id=known)
            parent = _version(inside, name, number)
            if parent.digest is None:
                raise ConflictError(
                    f"{name}@{number} is {parent.state} and holds no rows to clean",
                    hint="wait until it is processed; a version whose files could not be read must be uploaded again",
                )
            refuse_beyond(inside, unfinished)
            dataset = inside.datasets.get(name=name)
            options = IngestOptions(allow_overlap=allow_overlap)  # the internal form has no other columns or formats
            version = new_version(self, work, dataset, "clean", options, parent=parent, steps=steps)
            if once:
                once.remember(inside, self.project, version.id, self.backing.clock.now())
            self.audit(work, "dataset.clean", version.id, self.project)
        return version

    def delete_version(self, name: str, number: int, row_version: int) -> None:
        """Remove a version and its files.

        Raises:
            ConflictError: a live job trains on it, or a version is being made from it.
        """
        with self.backing.database.write() as work:
            inside = work.of(self.project)
            version = _version(inside, name, number)
            check_version("dataset version", version.version, row_version)
            child = inside.dataset_versions.find(parent=version.id, state=VersionState.PROCESSING)
            if child is not None:
                raise ConflictError(
                    f"{name}@{child.number} is being made from it", hint="wait until that is done, or delete that first"
                )
            self._discard(work, version)
            self.audit(work, "dataset-version.delete", version.id, self.project)

    def _discard(self, work: UnitOfWork, version: DatasetVersion) -> None:
        inside = work.of(self.project)
        users = inside.jobs.all(dataset_version=version.id, state=LIVE_JOBS)
        if users:
            raise ConflictError(
                f"job {users[0].id} trains on it",
                hint="wait for the job, or cancel it first",
                facts={"jobs": [j.id for j in users]},
            )
        inside.dataset_versions.delete(id=version.id)
        work.outbox.put("dataset.purge", self.project, version.id)
        if version.upload is not None:
            work.outbox.put("upload.purge", self.project, version.upload)


def _version(inside: ProjectData, name: str, number: int) -> DatasetVersion:
    dataset = inside.datasets.get(name=name)
    found = inside.dataset_versions.find(dataset=dataset.id, number=number)
    if found is None:
        raise NotFoundError(f"no version {number} of dataset {name}")
    return found


def refuse_beyond(inside: ProjectData, unfinished: int) -> None:
    """Refuse another version while this many of the project are not processed.

    Raises:
        LimitReachedError: they are.
    """
    waiting = inside.dataset_versions.count(state=VersionState.PROCESSING)
    if waiting >= unfinished:
        raise LimitReachedError(
            f"{waiting} dataset versions of this project are in processing, which is as many as may be",
            hint="wait for some of them, or delete what you no longer need",
            facts={"unfinished": waiting, "limit": unfinished},
        )


def new_version(
    self: ProjectUseCases,
    work: UnitOfWork,
    dataset: Dataset,
    origin: Literal["upload", "clean"],
    options: IngestOptions,
    *,
    upload: Upload | None = None,
    parent: DatasetVersion | None = None,
    steps: tuple[CleaningStep, ...] = (),
) -> DatasetVersion:
    """Store the next version of a dataset with its lineage, and the intent to process it."""
    inside = work.of(self.project)
    key = self.backing.new_id("dsv")
    dataset = inside.datasets.save(dataset.model_copy(update={"last_number": dataset.last_number + 1}))
    version = DatasetVersion(
        id=key,
        project=self.project,
        dataset=dataset.id,
        number=dataset.last_number,
        state=VersionState.PROCESSING,
        task=dataset.task,
        origin=origin,
        upload=upload.id if upload else None,
        parent=parent.id if parent else None,
        options=options,
        steps=steps,
        prefix=version_prefix(self.project, key),
        created_by=self.caller.principal.user,
        created_at=self.backing.clock.now(),
    )
    inside.dataset_versions.add(version)
    source = f"dataset-version:{parent.id}" if parent else f"upload:{upload.id if upload else ''}"
    inside.lineage.add(
        LineageEdge(
            project=self.project,
            subject=f"dataset-version:{key}",
            relation="cleaned-from" if parent else "ingested-from",
            object=source,
        )
    )
    work.outbox.put("dataset.process", self.project, key)
    return version


def _decode_offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        text = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadRequestError.field("/query/cursor", _NO_CURSOR) from error
    if not text.isdigit() or len(text) > _LONGEST_OFFSET:
        raise BadRequestError.field("/query/cursor", _NO_CURSOR)
    return int(text)


def _seek_row(stream: BinaryIO, offset: int) -> None:
    """Go to a row's first byte: rows are lines, so the byte before it ends one."""
    stream.seek(max(0, offset - 1))
    if offset and stream.read(1) != b"\n":
        raise BadRequestError.field("/query/cursor", _NO_CURSOR)
