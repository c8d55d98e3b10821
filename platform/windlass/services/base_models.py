"""The catalogue of base models. A task imports a new model asynchronously (outbox)."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from windlass.domain.artifacts import FileEntry, check_relative_path
from windlass.domain.errors import ConflictError, FieldProblem, InvalidError, NotFoundError, TooLargeError
from windlass.domain.jobs import UNFINISHED_STATES
from windlass.domain.models import BaseModelState, CatalogueModel, DeclaredFile
from windlass.domain.records import Deletion
from windlass.domain.storage_layout import base_model_prefix, base_model_upload_key
from windlass.ports import ReadUnitOfWork
from windlass.services.base import BaseService, stored_bytes
from windlass.services.object_limits import require_below_limit
from windlass.services.uploads import incomplete_file


@dataclass(frozen=True)
class BaseModels(BaseService):
    """Operations on base models; write access is for platform admins."""

    def page(self, limit: int, after: str | None) -> list[CatalogueModel]:
        """List the catalogue."""
        with self.deps.database.read() as uow:
            return uow.base_models.page(limit, after)

    def get(self, name: str) -> CatalogueModel:
        """Return the entry of this name."""
        with self.deps.database.read() as uow:
            return uow.base_models.get({"name": name})

    def add(
        self, name: str, licence: str, source: str, *, path: str = "", files: Sequence[DeclaredFile] = ()
    ) -> CatalogueModel:
        """Add a model from the server's disk, or with files to be uploaded. It is ready after its import.

        Raises:
            InvalidError: the path is not absolute or not where the importer reads, or a file cannot be declared so.
            TooLargeError: the files exceed the limit of an upload.
            ConflictError: a model of this name is ready, being imported or being uploaded.
            LimitReachedError: the catalogue has too many models.
        """
        if files:
            _check_files(files, self.deps.limits.upload_bytes)
        else:
            _check_path(path)
            self.deps.check_model_source(Path(path))
        key = self.deps.new_id("bm")
        entry = CatalogueModel(
            id=key,
            name=name,
            licence=licence,
            source=source,
            path=path,
            files=tuple(files),
            prefix=base_model_prefix(key),
            state=BaseModelState.UPLOADING if files else BaseModelState.IMPORTING,
            created_at=self.deps.clock.now(),
        )
        with self.deps.database.write() as uow:
            uow.platform()
            failed = uow.base_models.find({"name": name, "state": BaseModelState.FAILED})
            if failed is not None:
                uow.base_models.delete({"id": failed.id})
                uow.outbox.put("base-model.purge", "", failed.id)
            uow.base_models.add(entry)
            number, limit = uow.base_models.count() - 1, self.deps.limits.base_models
            require_below_limit("base models", "the catalogue", number, limit, "WINDLASS_LIMIT_MAX_BASE_MODELS")
            if files:
                uow.outbox.put("base-model.expire", "", key, after=self.deps.limits.upload_ttl)
            else:
                uow.outbox.put("base-model.import", "", key)
            self.audit(uow, "base-model.create", key, name, after=entry)
        return entry

    def received(self, entry: CatalogueModel) -> list[int]:
        """Return how many bytes of each declared file have arrived; it reads the store."""
        if entry.state is not BaseModelState.UPLOADING:
            return [file.entry.bytes for file in entry.files]
        keys = (base_model_upload_key(entry.id, number) for number in range(len(entry.files)))
        return [self.deps.store.size(key) for key in keys]

    def target(self, name: str, path: str) -> tuple[str, FileEntry]:
        """Return the object key of a declared file, and its declared length and hash.

        Raises:
            NotFoundError: no such model, or it declared no such file.
            ConflictError: its upload has ended.
        """
        entry = self.get(name)
        if entry.state is not BaseModelState.UPLOADING:
            raise ConflictError(f"base model {name} is {entry.state}", hint="delete it, and add it again")
        for number, file in enumerate(entry.files):
            if file.path == path:
                return base_model_upload_key(entry.id, number), file.entry
        raise NotFoundError(f"base model {name} has declared no file {path}")

    def append(self, key: str, expected: FileEntry, offset: int, chunk: bytes) -> int:
        """Append a chunk to a declared file and return its received length. Raises as ``ObjectStore.append``."""
        return self.deps.store.append(key, offset, io.BytesIO(chunk), expected.bytes)

    def commit(self, name: str) -> CatalogueModel:
        """Import a model whose files have arrived; idempotent. The import verifies their hashes.

        Raises:
            ConflictError: bytes are missing; the error names the file and its received length.
        """
        entry = self.get(name)
        if entry.state is not BaseModelState.UPLOADING:
            return entry
        for number, (file, received) in enumerate(zip(entry.files, self.received(entry), strict=True)):
            if received < file.entry.bytes:
                raise incomplete_file(number, file.path, received, file.entry.bytes)
        with self.deps.database.write() as uow:
            uow.platform()
            current = uow.base_models.get({"id": entry.id})
            if current.state is not BaseModelState.UPLOADING:
                return current
            saved = uow.base_models.save(current.model_copy(update={"state": BaseModelState.IMPORTING}))
            uow.outbox.put("base-model.import", "", entry.id)
            self.audit(uow, "base-model.import", entry.id, name, before=current, after=saved)
        return saved

    def delete(self, name: str, *, dry_run: bool = False) -> Deletion:
        """Delete a model and its files from the catalogue; ``dry_run`` only returns what that would remove.

        Raises:
            ConflictError: a live job uses it.
        """
        with self.deps.database.read() as uow:
            entry = _deletable(uow, name)
            used = bool(uow.platform().jobs_from(entry.id).page(1, None))
        deletion = Deletion(
            kind="base model",
            id=entry.id,
            name=name,
            stored_bytes=stored_bytes(self.deps.store, entry.prefix),
            consequences=("jobs that started from it cannot be retried; their models stay",) if used else (),
        )
        if not dry_run:
            with self.deps.database.write() as uow:
                uow.platform()
                _deletable(uow, name)
                uow.base_models.delete({"id": entry.id})
                uow.outbox.put("base-model.purge", "", entry.id)
                self.audit(uow, "base-model.delete", entry.id, name, before=entry)
        return deletion


def _check_path(path: str) -> None:
    if not Path(path).is_absolute():
        raise InvalidError.field("/path", f"{path} is not an absolute path", hint="give the path from the root /")


def _check_files(files: Sequence[DeclaredFile], limit: int) -> None:
    paths = [file.path for file in files]
    for number, path in enumerate(paths):
        try:
            check_relative_path(path)
        except ValueError as error:
            raise InvalidError.field(
                f"/files/{number}/path", str(error), hint="give it relative to the folder"
            ) from error
        if path in paths[:number]:
            raise InvalidError.field(f"/files/{number}/path", f"{path} is declared twice", hint="declare it once")
    empty = next((number for number, file in enumerate(files) if not file.entry.bytes), None)
    if empty is not None:
        raise InvalidError.field(f"/files/{empty}/bytes", f"{paths[empty]} is empty", hint="leave it out")
    total = sum(file.entry.bytes for file in files)
    if total > limit:
        raise TooLargeError(
            f"the files have {total} bytes, the limit of an upload is {limit}",
            hint="ask an admin to raise WINDLASS_LIMIT_UPLOAD_BYTES",
            fields=[FieldProblem("/files", "exceed the size limit")],
        )


def _deletable(uow: ReadUnitOfWork, name: str) -> CatalogueModel:
    """Return a base model that may be deleted. Raises as ``BaseModels.delete``."""
    entry = uow.base_models.get({"name": name})
    jobs = uow.platform().jobs_from(entry.id).all({"state": UNFINISHED_STATES})
    if jobs:
        raise ConflictError(
            f"job {jobs[0].id} uses base model {name}",
            hint=f"wait for the job, or cancel it: `windlass job cancel {jobs[0].id}`",
        )
    return entry
