"""Carries out what was intended about bytes: datasets to process, base models to import, prefixes to purge."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from windlass.domain.artifacts import MANIFEST_NAME, Manifest
from windlass.domain.datasets import DataRequest, DatasetVersion, UploadState, VersionState
from windlass.domain.errors import InvalidError, NotFoundError, UnavailableError, WindlassError
from windlass.domain.models import BaseModelState, CatalogueModel
from windlass.domain.records import Intent
from windlass.domain.specs import Task
from windlass.ports import DataProcessor, ModelImporter, UnitOfWork
from windlass.services.backing import SYSTEM, Backing, record
from windlass.services.datasets import version_prefix
from windlass.services.uploads import staging_key


@dataclass(frozen=True)
class Processing:
    """Starts and follows the child processes that read bytes which this process must not.

    ``slots`` data processes run at once, since each may take gigabytes. Versions beyond that wait in state
    ``processing``; a free slot goes to the project that runs fewest, and within it to the oldest version.
    """

    backing: Backing
    processor: DataProcessor
    importer: ModelImporter
    reserve_bytes: int = 0
    """What processing leaves free on the disk."""
    slots: int = 2
    _turn: threading.Lock = field(default_factory=threading.Lock)
    """Held while versions are started or dropped, so that nothing is started that was just deleted."""

    def carry_out(self, intent: Intent) -> None:
        """Do what an intent about tenants' bytes asks for."""
        match intent.kind:
            case "dataset.process":
                self.start_dataset(intent.subject)
            case "base-model.import":
                self.start_import(intent.subject)
            case "upload.expire":
                self.expire_upload(intent.project, intent.subject)
            case _:
                self.purge(intent.kind, intent.project, intent.subject)

    def watch(self) -> bool:
        """Look at every process; nothing that another loop waits for comes of it."""
        self.watch_datasets()
        self.watch_imports()
        return False

    def start_dataset(self, version_id: str) -> None:
        """Begin to process a version if a slot is free; else a later look at the queue does."""
        with self.backing.database.read() as work:
            version = work.everywhere().dataset_versions.find(id=version_id)
        if version is not None and version.state is VersionState.PROCESSING:
            self.watch_datasets()

    def watch_datasets(self) -> None:
        """Flip every version whose processing has ended, and give free slots to those that wait.

        Raises:
            WindlassError: of the first version that cannot be dealt with; the others were.
        """
        failures: list[Exception] = []
        with self._turn:
            with self.backing.database.read() as work:
                versions = work.everywhere().dataset_versions.all(state=VersionState.PROCESSING)
            waiting: list[DatasetVersion] = []
            running: list[DatasetVersion] = []
            for version in versions:
                try:
                    if self._look(version):
                        running.append(version)
                except NotFoundError:
                    waiting.append(version)
                except (WindlassError, OSError) as error:
                    failures.append(error)
            while waiting and len(running) < self.slots:
                version = _fairest(waiting, running)
                waiting.remove(version)
                try:
                    if self._start(version):
                        running.append(version)
                except (WindlassError, OSError) as error:
                    failures.append(error)
        if failures:
            raise failures[0]

    def _look(self, version: DatasetVersion) -> bool:
        """Tell whether the version's process runs; carry its end over.

        Raises:
            NotFoundError: it has none yet.
        """
        try:
            result = self.processor.poll(version.id)
        except UnavailableError as error:
            self.backing.store.delete(version.prefix)  # half of a version is worth nothing and fills the disk
            self._flip(version, {"state": VersionState.FAILED, "problem": error.message})
            return False
        if result is None:
            return True
        update = {
            "state": VersionState.READY if result.accepted else VersionState.REJECTED,
            "report": result.report,
            "rows": result.rows,
            "labels": result.labels,
            "digest": result.digest,
            "problem": "",
        }
        self._flip(version, update)
        return False

    def _start(self, version: DatasetVersion) -> bool:
        """Tell whether the version's process could be started; a version says why it is not."""
        try:
            with self.backing.database.read() as work:
                if work.everywhere().dataset_versions.find(id=version.id) is None:
                    return False
                request = self._request(work, version)
        except NotFoundError as error:
            self._flip(version, {"state": VersionState.FAILED, "problem": f"its source is gone: {error.message}"})
            return False
        try:
            self.processor.start(version.id, request)
        except (OSError, UnavailableError) as error:
            problem = f"its process cannot be started: {error}"
            if problem != version.problem:
                with self.backing.database.write() as work:
                    work.of(version.project).dataset_versions.save(version.model_copy(update={"problem": problem}))
            raise
        return True

    def _request(self, work: UnitOfWork, version: DatasetVersion) -> DataRequest:
        inside, store = work.of(version.project), self.backing.store
        if version.origin == "upload":
            upload = inside.uploads.get(id=version.upload)
            inputs = tuple((str(store.local_path(staging_key(upload, f.name))), f.split) for f in upload.files)
            names = tuple(file.name for file in upload.files)
        else:
            parent = inside.dataset_versions.get(id=version.parent)
            inputs = tuple((str(store.local_path(f"{parent.prefix}/{split}.jsonl")), split) for split in parent.rows)
            names = tuple(f"{split}.jsonl" for split in parent.rows)
        tokenizer = _tokenizer(work, version.task)
        return DataRequest(
            operation="ingest" if version.origin == "upload" else "clean",
            task=version.task,
            title=f"{inside.datasets.get(id=version.dataset).name}, version {version.number}",
            options=version.options,
            inputs=inputs,
            names=names,
            steps=version.steps,
            output=str(store.local_path(version.prefix)),
            tokenizer=str(store.local_path(tokenizer)) if tokenizer else None,
            reserve_bytes=self.reserve_bytes,
        )

    def _flip(self, version: DatasetVersion, update: Mapping[str, object]) -> None:
        with self.backing.database.write() as work:
            versions = work.of(version.project).dataset_versions
            now = versions.find(id=version.id)
            if now is not None:
                versions.save(now.model_copy(update=update))
            if version.upload is not None:
                work.outbox.put("upload.purge", version.project, version.upload)
        self.processor.forget(version.id)

    def start_import(self, model_id: str) -> None:
        """Begin to import a base model."""
        with self.backing.database.read() as work:
            entry = work.base_models.find(id=model_id)
        if entry is not None and entry.state is BaseModelState.IMPORTING:
            self.importer.start(entry.id, Path(entry.path), self.backing.store.local_path(entry.prefix))

    def watch_imports(self) -> None:
        """Flip every base model whose import has ended."""
        with self.backing.database.read() as work:
            entries = work.base_models.all(state=BaseModelState.IMPORTING)
        failures: list[Exception] = []
        for entry in entries:
            try:
                self._look_at_import(entry)
            except (WindlassError, OSError, ValidationError) as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _look_at_import(self, entry: CatalogueModel) -> None:
        try:
            found = self.importer.poll(entry.id)
        except NotFoundError:
            return
        except (InvalidError, UnavailableError) as error:
            self._flip_model(entry, {"state": BaseModelState.FAILED, "problem": error.message})
            return
        if found is None:
            return
        with self.backing.store.open(f"{entry.prefix}/{MANIFEST_NAME}") as stream:
            manifest = Manifest.model_validate_json(stream.read())
        update = {
            "state": BaseModelState.READY,
            "tasks": found.tasks,
            "parameters": found.parameters,
            "bytes": manifest.bytes,
            "digest": manifest.digest(),
        }
        self._flip_model(entry, update)

    def _flip_model(self, entry: CatalogueModel, update: Mapping[str, object]) -> None:
        with self.backing.database.write() as work:
            if work.base_models.find(id=entry.id) is not None:
                work.base_models.save(entry.model_copy(update=update))
        self.importer.forget(entry.id)

    def expire_upload(self, project: str, upload_id: str) -> None:
        """Close an upload that nobody has committed in its time, and drop its bytes."""
        with self.backing.database.write() as work:
            uploads = work.of(project).uploads
            upload = uploads.find(id=upload_id)
            if upload is not None and upload.state is UploadState.OPEN:
                uploads.save(upload.model_copy(update={"state": UploadState.ABORTED}))
                work.outbox.put("upload.purge", project, upload_id)
                record(self.backing, work, SYSTEM, "upload.expire", upload_id, project)

    def purge(self, kind: str, project: str, subject: str) -> None:
        """Delete what no row names any more."""
        prefixes = {
            "upload.purge": f"projects/{project}/uploads/{subject}",
            "dataset.purge": version_prefix(project, subject),
            "project.purge": f"projects/{project}",
            "artifact.purge": subject,
        }
        if kind != "dataset.purge":
            self.backing.store.delete(prefixes[kind])
            return
        with self._turn:
            self.processor.forget(subject)
            self.backing.store.delete(prefixes[kind])


def _fairest(waiting: Sequence[DatasetVersion], running: Sequence[DatasetVersion]) -> DatasetVersion:
    """Return whose turn it is: ids sort by age."""
    load = Counter(version.project for version in running)
    return min(waiting, key=lambda version: (load[version.project], version.id))


def _tokenizer(work: UnitOfWork, task: Task) -> str | None:
    """Return the key of a tokenizer that counts as a base model of this task would."""
    for entry in work.base_models.all(state=BaseModelState.READY):
        if task in entry.tasks:
            return f"{entry.prefix}/tokenizer.json"
    return None
