"""Handles the outbox intents that concern files: datasets to process, base models to import, prefixes to purge."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import ValidationError

from windlass.domain.datasets import DataRequest, DatasetVersion, UploadState, VersionState
from windlass.domain.errors import InvalidError, NotFoundError, UnavailableError, WindlassError
from windlass.domain.models import BaseModelState, CatalogueModel, ImportRequest, ModelSourceFile
from windlass.domain.records import Intent
from windlass.domain.specs import Task
from windlass.domain.storage_layout import (
    base_model_prefix,
    base_model_upload_key,
    base_model_upload_prefix,
    dataset_version_prefix,
    upload_key,
    upload_prefix,
)
from windlass.kit.backoff import Backoff
from windlass.ports import DataProcessor, ModelImporter, ReadUnitOfWork, TaskFailedError
from windlass.services.base import SYSTEM, WorkerDependencies, record_audit

_MAX_PROCESS_DEATHS = 3
_BACKOFF = Backoff(first=5.0, maximum=60.0)


@dataclass
class Processing:
    """Starts and polls the child processes that parse untrusted files; this process never parses them.

    At most ``slots`` data processes run at once, since each may need gigabytes of memory. Further versions wait in
    state ``processing``. A free slot goes to the project with the fewest running processes and its oldest version.
    Where there are several projects, one of them never gets all slots: its processes may run for a long time.

    Another worker may delete a version or model while this one starts its process. The process is started first, and
    the row is read again afterwards: either this finds the row gone, or the purge is later and finds the process.

    A process that dies is started again after a delay, since the cause may be a fault of the machine. An upload is kept
    until its version is ready or rejected, or has failed ``_MAX_PROCESS_DEATHS`` times.
    """

    deps: WorkerDependencies
    processor: DataProcessor
    importer: ModelImporter
    min_free_disk_bytes: int = 0
    """Disk space in bytes that processing leaves free."""
    max_labels: int = 2000
    """Maximum number of distinct labels of a dataset."""
    slots: int = 2
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while versions and imports are started or purged by this worker."""
    _next_start_at: dict[str, datetime] = field(default_factory=dict)
    """When a version whose process has died may start again."""

    def handle(self, intent: Intent) -> None:
        """Handle an intent that concerns tenants' files."""
        match intent.kind:
            case "dataset.process":
                self.start_dataset(intent.subject)
            case "base-model.import":
                self.start_import(intent.subject)
            case "base-model.expire":
                self.expire_model(intent.subject)
            case "upload.expire":
                self.expire_upload(intent.project, intent.subject)
            case _:
                self.purge(intent.kind, intent.project, intent.subject)

    def poll(self) -> bool:
        """Poll every process; return whether any runs or waits, so that it must be polled again."""
        processing = self.poll_datasets()
        return self.poll_imports() or processing

    def start_dataset(self, version_id: str) -> None:
        """Start to process a version if a slot is free; otherwise a later poll starts it."""
        with self.deps.database.read() as uow:
            version = uow.all_projects().dataset_versions.find({"id": version_id})
        if version is not None and version.state is VersionState.PROCESSING:
            self.poll_datasets()

    def poll_datasets(self) -> bool:
        """Update every version whose process has ended, and start waiting versions in free slots.

        Returns whether any version is still processed or waits.

        Raises:
            WindlassError, OSError: the first error; the other versions are handled.
        """
        errors: list[Exception] = []
        with self._lock:
            with self.deps.database.read() as uow:
                versions = uow.all_projects().dataset_versions.all({"state": VersionState.PROCESSING})
                share = max(1, self.slots - 1) if uow.projects.count() > 1 else self.slots
            waiting: list[DatasetVersion] = []
            running: list[DatasetVersion] = []
            for version in versions:
                try:
                    if self._poll_version(version):
                        running.append(version)
                except NotFoundError:
                    waiting.append(version)
                except (WindlassError, OSError) as error:
                    errors.append(error)
            now = self.deps.clock.now()
            self._next_start_at = {key: at for key, at in self._next_start_at.items() if at > now}
            startable = [version for version in waiting if version.id not in self._next_start_at]
            while len(running) < self.slots and (chosen := _next_version(startable, running, share)):
                startable.remove(chosen)
                try:
                    if self._start_version(chosen):
                        running.append(chosen)
                except (WindlassError, OSError) as error:
                    errors.append(error)
        if errors:
            raise errors[0]
        return bool(running or waiting)

    def _poll_version(self, version: DatasetVersion) -> bool:
        """Return whether the version's process runs; store the result of an ended one.

        Raises:
            NotFoundError: the version has no process yet.
        """
        try:
            result = self.processor.poll(version.id)
        except TaskFailedError as error:
            self._on_process_death(version, str(error))
            return False
        if result is None:
            problem = self.processor.problem(version.id)
            if problem or not version.process_deaths:  # else the problem says why it is processed again
                self._set_problem(version, problem)
            return True
        update = {
            "state": VersionState.READY if result.accepted else VersionState.REJECTED,
            "report": result.report,
            "steps": (*version.steps, *result.automatic_steps),
            "rows": result.rows,
            "labels": result.labels,
            "digest": result.digest,
            "problem": "",
        }
        self._update_version(version, update)
        return False

    def _on_process_death(self, version: DatasetVersion, message: str) -> None:
        """Let a later poll start the process again; after ``_MAX_PROCESS_DEATHS`` the version fails."""
        deaths = version.process_deaths + 1
        self.deps.store.delete(version.prefix)  # an incomplete version is of no use
        if deaths >= _MAX_PROCESS_DEATHS:
            update = {"state": VersionState.FAILED, "problem": message, "process_deaths": deaths}
            self._update_version(version, update)
            return
        with self.deps.database.write() as uow:
            versions = uow.project(version.project).dataset_versions
            current = versions.find({"id": version.id})
            if current is not None:
                problem = f"attempt {deaths} of {_MAX_PROCESS_DEATHS} failed and is repeated: {message}"
                versions.save(current.model_copy(update={"problem": problem, "process_deaths": deaths}))
        self._next_start_at[version.id] = self.deps.clock.now() + timedelta(seconds=_BACKOFF.delay(deaths))
        self.processor.delete(version.id)

    def _start_version(self, version: DatasetVersion) -> bool:
        """Start the version's process; return whether it was started. A failure sets the version's ``problem``."""
        try:
            request = self._request(version)
            if request is None:
                return False
        except NotFoundError as error:
            self._update_version(
                version, {"state": VersionState.FAILED, "problem": f"its source is gone: {error.message}"}
            )
            return False
        try:
            self.processor.start(version.id, request)
        except (OSError, UnavailableError) as error:
            self._set_problem(version, f"its process cannot be started: {error}")
            raise
        with self.deps.database.read() as uow:
            exists = uow.all_projects().dataset_versions.find({"id": version.id}) is not None
        if not exists:
            self.processor.delete(version.id)
            self.deps.store.delete(version.prefix)
        return exists

    def _set_problem(self, version: DatasetVersion, problem: str) -> None:
        """Set why a version is not processed now."""
        if problem == version.problem:
            return
        with self.deps.database.write() as uow:
            versions = uow.project(version.project).dataset_versions
            current = versions.find({"id": version.id})
            if current is not None and current.state is VersionState.PROCESSING:
                versions.save(current.model_copy(update={"problem": problem}))

    def _request(self, version: DatasetVersion) -> DataRequest | None:
        """Return what the version's process does, None if the version is deleted.

        Raises:
            NotFoundError: its upload or its parent is gone.
        """
        store = self.deps.store
        with self.deps.database.read() as uow:
            repos = uow.project(version.project)
            if repos.dataset_versions.find({"id": version.id}) is None:
                return None
            dataset = repos.datasets.get({"id": version.dataset})
            upload = repos.uploads.get({"id": version.upload or ""}) if version.origin == "upload" else None
            parent = None if upload else repos.dataset_versions.get({"id": version.parent or ""})
            erasure = repos.erasures.find({"id": version.erasure}) if version.erasure else None
            if version.erasure and (erasure is None or erasure.query is None):
                raise NotFoundError(f"no open erasure {version.erasure}")  # without its query nothing would be erased
            base_model = _base_model_of(uow, version.task)
        tokenizer = None
        if base_model is not None:
            tokenizer = store.uri(store.published_file(base_model.prefix, "tokenizer.json", base_model.digest))
        if upload is not None:
            inputs = tuple((store.uri(upload_key(upload, f.name)), f.split) for f in upload.files)
            names = tuple(file.name for file in upload.files)
            entries = tuple(file.entry for file in upload.files)
        elif parent is not None:
            names, entries = tuple(f"{split}.jsonl" for split in parent.rows), ()
            keys = (store.published_file(parent.prefix, name) for name in names)
            inputs = tuple(zip(map(store.uri, keys), parent.rows, strict=True))
        return DataRequest(
            operation="ingest" if upload else "clean",
            task=version.task,
            title=f"{dataset.name}, version {version.number}",
            options=version.options,
            inputs=inputs,
            names=names,
            entries=entries,
            steps=version.steps,
            erase=erasure.query if erasure else None,
            output=store.uri(version.prefix),
            tokenizer=tokenizer,
            max_labels=self.max_labels,
            min_free_disk_bytes=self.min_free_disk_bytes,
        )

    def _update_version(self, version: DatasetVersion, update: Mapping[str, object]) -> None:
        with self.deps.database.write() as uow:
            versions = uow.project(version.project).dataset_versions
            current = versions.find({"id": version.id})
            if current is not None:
                versions.save(current.model_copy(update=update))
            if version.upload is not None:
                uow.outbox.put("upload.purge", version.project, version.upload)
        self.processor.delete(version.id)

    def start_import(self, model_id: str) -> None:
        """Start to import a base model."""
        with self._lock:
            with self.deps.database.read() as uow:
                entry = uow.base_models.find({"id": model_id})
            if entry is None or entry.state is not BaseModelState.IMPORTING:
                return
            self.importer.start(entry.id, self._import_request(entry))
        with self.deps.database.read() as uow:
            exists = uow.base_models.find({"id": model_id}) is not None
        if not exists:
            self.purge("base-model.purge", "", model_id)

    def _import_request(self, entry: CatalogueModel) -> ImportRequest:
        uri = self.deps.store.uri
        files = (
            ModelSourceFile(path=file.path, uri=uri(base_model_upload_key(entry.id, number)), entry=file.entry)
            for number, file in enumerate(entry.files)
        )
        return ImportRequest(target=uri(entry.prefix), path=entry.path, files=tuple(files))

    def poll_imports(self) -> bool:
        """Update every base model whose import has ended; return whether any was being imported."""
        with self.deps.database.read() as uow:
            entries = uow.base_models.all({"state": BaseModelState.IMPORTING})
        errors: list[Exception] = []
        for entry in entries:
            try:
                self._poll_import(entry)
            except (WindlassError, OSError, ValidationError) as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return bool(entries)

    def _poll_import(self, entry: CatalogueModel) -> None:
        try:
            imported = self.importer.poll(entry.id)
        except NotFoundError:  # its server was killed before the start, or the machine restarted
            self.start_import(entry.id)
            return
        except InvalidError as error:
            self._update_model(entry, {"state": BaseModelState.FAILED, "problem": error.message})
            return
        except TaskFailedError as error:
            self._update_model(entry, {"state": BaseModelState.FAILED, "problem": str(error)})
            return
        if imported is None:
            self._set_model_problem(entry, self.importer.problem(entry.id))
            return
        self._update_model(entry, {"state": BaseModelState.READY, "problem": ""} | dict(imported))

    def _set_model_problem(self, entry: CatalogueModel, problem: str) -> None:
        """Set why a base model is not imported now."""
        if problem == entry.problem:
            return
        with self.deps.database.write() as uow:
            current = uow.base_models.find({"id": entry.id})
            if current is not None and current.state is BaseModelState.IMPORTING:
                uow.base_models.save(current.model_copy(update={"problem": problem}))

    def _update_model(self, entry: CatalogueModel, update: Mapping[str, object]) -> None:
        with self.deps.database.write() as uow:
            current = uow.base_models.find({"id": entry.id})
            if current is not None:
                uow.base_models.save(current.model_copy(update=update))
            if entry.files:
                uow.outbox.put("artifact.purge", "", base_model_upload_prefix(entry.id))
        self.importer.delete(entry.id)

    def expire_model(self, model_id: str) -> None:
        """Delete a model whose files have not arrived before their expiry."""
        with self.deps.database.write() as uow:
            entry = uow.base_models.find({"id": model_id})
            if entry is not None and entry.state is BaseModelState.UPLOADING:
                uow.base_models.delete({"id": model_id})
                uow.outbox.put("artifact.purge", "", base_model_upload_prefix(model_id))
                record_audit(self.deps, uow, SYSTEM, "base-model.expire", model_id, entry.name, project=None)

    def expire_upload(self, project: str, upload_id: str) -> None:
        """Abort an upload that was not committed before its expiry, and purge its files."""
        with self.deps.database.write() as uow:
            uploads = uow.project(project).uploads
            upload = uploads.find({"id": upload_id})
            if upload is not None and upload.state is UploadState.OPEN:
                uploads.save(upload.model_copy(update={"state": UploadState.ABORTED}))
                uow.outbox.put("upload.purge", project, upload_id)
                name = uow.project(project).datasets.get({"id": upload.dataset}).name
                record_audit(self.deps, uow, SYSTEM, "upload.expire", upload_id, name, project=project)

    def purge(self, kind: str, project: str, subject: str) -> None:
        """Delete the files of a deleted row; first end the process that may still write them."""
        match kind:
            case "dataset.purge":
                with self._lock:
                    self.processor.delete(subject)
                prefixes = [dataset_version_prefix(project, subject)]
            case "base-model.purge":
                with self._lock:
                    self.importer.delete(subject)
                prefixes = [base_model_prefix(subject), base_model_upload_prefix(subject)]
            case "upload.purge":
                prefixes = [upload_prefix(project, subject)]
            case _:
                prefixes = [subject]
        for prefix in prefixes:
            self.deps.store.delete(prefix)


def _next_version(
    waiting: Sequence[DatasetVersion], running: Sequence[DatasetVersion], share: int
) -> DatasetVersion | None:
    """Return the version to start next, None when every project that waits runs ``share`` processes.

    Ids sort by creation time.
    """
    load = Counter(version.project for version in running)
    startable = [version for version in waiting if load[version.project] < share]
    return min(startable, key=lambda version: (load[version.project], version.id), default=None)


def _base_model_of(uow: ReadUnitOfWork, task: Task) -> CatalogueModel | None:
    """Return a base model for this task, whose tokenizer counts the tokens of datasets; None without one."""
    ready = uow.base_models.all({"state": BaseModelState.READY})
    return next((entry for entry in ready if task in entry.tasks), None)
