"""Carries out what was intended about bytes: datasets to process, base models to import, prefixes to purge."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from windlass.domain.artifacts import MANIFEST_NAME, Manifest
from windlass.domain.datasets import DataRequest, DatasetVersion, UploadState, VersionState
from windlass.domain.errors import InvalidError, NotFoundError, UnavailableError
from windlass.domain.models import BaseModelState, CatalogueModel
from windlass.domain.specs import Task
from windlass.ports import DataProcessor, ModelImporter, UnitOfWork
from windlass.services.backing import Backing
from windlass.services.datasets import version_prefix
from windlass.services.uploads import staging_key


@dataclass(frozen=True)
class Processing:
    """Starts and follows the child processes that read bytes which this process must not."""

    backing: Backing
    processor: DataProcessor
    importer: ModelImporter
    reserve_bytes: int = 0
    """What processing leaves free on the disk."""

    def start_dataset(self, version_id: str) -> None:
        """Begin to process a version; a version that is gone or done needs nothing."""
        with self.backing.database.read() as work:
            version = work.everywhere().dataset_versions.find(id=version_id)
            if version is None or version.state is not VersionState.PROCESSING:
                return
            request = self._request(work, version)
        self.processor.start(version.id, request)

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

    def watch_datasets(self) -> None:
        """Flip every version whose processing has ended."""
        with self.backing.database.read() as work:
            versions = work.everywhere().dataset_versions.all(state=VersionState.PROCESSING)
        for version in versions:
            try:
                result = self.processor.poll(version.id)
            except NotFoundError:
                continue  # its intent has not been carried out yet
            except UnavailableError as error:
                self.backing.store.delete(version.prefix)  # half of a version is worth nothing and fills the disk
                self._flip(version, {"state": VersionState.FAILED, "problem": error.message})
                continue
            if result is None:
                continue
            update = {
                "state": VersionState.READY if result.accepted else VersionState.REJECTED,
                "report": result.report,
                "rows": result.rows,
                "labels": result.labels,
                "digest": result.digest,
            }
            self._flip(version, update)

    def _flip(self, version: DatasetVersion, update: Mapping[str, object]) -> None:
        with self.backing.database.write() as work:
            versions = work.of(version.project).dataset_versions
            if versions.find(id=version.id) is not None:
                versions.save(version.model_copy(update=update))
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
        for entry in entries:
            try:
                found = self.importer.poll(entry.id)
            except NotFoundError:
                continue
            except (InvalidError, UnavailableError) as error:
                self._flip_model(entry, {"state": BaseModelState.FAILED, "problem": error.message})
                continue
            if found is None:
                continue
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

    def purge(self, kind: str, project: str, subject: str) -> None:
        """Delete what no row names any more."""
        prefixes = {
            "upload.purge": f"projects/{project}/uploads/{subject}",
            "dataset.purge": version_prefix(project, subject),
            "project.purge": f"projects/{project}",
            "artifact.purge": subject,
        }
        if kind == "dataset.purge":
            self.processor.forget(subject)
        self.backing.store.delete(prefixes[kind])


def _tokenizer(work: UnitOfWork, task: Task) -> str | None:
    """Return the key of a tokenizer that counts as a base model of this task would."""
    for entry in work.base_models.all(state=BaseModelState.READY):
        if task in entry.tasks:
            return f"{entry.prefix}/tokenizer.json"
    return None
