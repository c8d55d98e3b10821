"""Resumable uploads: bytes go to a staging area, from which a commit creates a dataset version."""

import io
from contextlib import suppress
from dataclasses import dataclass

from windlass.domain.artifacts import FileEntry
from windlass.domain.datasets import Dataset, DatasetVersion, Upload, UploadFile, UploadState
from windlass.domain.errors import (
    ChecksumMismatchError,
    ConflictError,
    FieldProblem,
    InvalidError,
    LimitReachedError,
    NotFoundError,
    TooLargeError,
)
from windlass.domain.ingest import IngestOptions
from windlass.domain.storage_layout import project_prefix, upload_key
from windlass.domain.transfers import StagedPart
from windlass.ports import ReadProjectData
from windlass.services.base import ProjectService, stored_bytes
from windlass.services.datasets import new_version
from windlass.services.idempotency import Idempotency
from windlass.services.object_limits import require_below_limit, require_room_for_version, require_versions_below

_PART_BYTES = 32 << 20
_SIGNED_PARTS = 16
"""Parts that one request signs."""


@dataclass(frozen=True)
class Uploads(ProjectService):
    """Open, fill, commit and abort uploads of one project."""

    def open(
        self, dataset: str, files: tuple[UploadFile, ...], options: IngestOptions, idempotency_key: Idempotency | None
    ) -> Upload:
        """Open an upload into a dataset.

        Raises:
            InvalidError: two files have the same name.
            TooLargeError: the files exceed the limit of an upload.
            LimitReachedError: the project has too many open uploads, or would store too many bytes.
            NotFoundError: no such dataset.
        """
        names = [file.name for file in files]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            raise InvalidError.field("/files", f"has duplicate file names: {', '.join(duplicates)}")
        total = sum(file.entry.bytes for file in files)
        if total > self.deps.limits.upload_bytes:
            raise TooLargeError(
                f"the files have {total} bytes, the limit of an upload is {self.deps.limits.upload_bytes}",
                hint="split the data into several uploads",
                fields=[FieldProblem("/files", "exceed the size limit")],
            )
        stored = stored_bytes(self.deps.store, project_prefix(self.project))
        with self.deps.database.write() as uow:
            repos = uow.project(self.project)
            if idempotency_key and (existing_id := idempotency_key.find_subject(repos)):
                return repos.uploads.get({"id": existing_id})
            limit, setting = self.deps.limits.open_uploads, "WINDLASS_LIMIT_MAX_OPEN_UPLOADS"
            opened = repos.uploads.count({"state": UploadState.OPEN})
            require_below_limit("open uploads", "the project", opened, limit, setting)
            target = repos.datasets.get({"name": dataset})
            require_versions_below(repos, target, self.deps.limits.versions_per_dataset)
            announced = [self._with_lengths(upload) for upload in repos.uploads.all({"state": UploadState.OPEN})]
            missing = sum(file.entry.bytes - file.received for upload in announced for file in upload.files)
            if stored + missing + total > self.deps.limits.stored_bytes:
                raise LimitReachedError(
                    f"the project has {stored} bytes of files and {missing} bytes to be uploaded;"
                    f" with these {total} bytes it exceeds its limit of {self.deps.limits.stored_bytes}",
                    hint="delete datasets, model versions or ended jobs, or ask an admin to raise the limit",
                    fields=[FieldProblem("/files", "exceed the storage limit of the project")],
                    context={"stored": stored, "announced": missing, "limit": self.deps.limits.stored_bytes},
                )
            upload = Upload(
                id=self.deps.new_id("up"),
                project=self.project,
                dataset=target.id,
                files=files,
                options=options,
                state=UploadState.OPEN,
                created_at=self.deps.clock.now(),
            )
            repos.uploads.add(upload)
            uow.outbox.put("upload.expire", self.project, upload.id, after=self.deps.limits.upload_ttl)
            if idempotency_key:
                idempotency_key.store(repos, self.project, upload.id, self.deps.clock.now())
            self.audit(uow, "upload.create", upload.id, dataset, self.project, after=upload)
        return upload

    def get(self, upload_id: str) -> tuple[Upload, Dataset, DatasetVersion | None]:
        """Return an upload with its received lengths, its dataset and its dataset version, None before the commit."""
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            upload = repos.uploads.get({"id": upload_id})
            version = repos.dataset_versions.find({"id": upload.dataset_version}) if upload.dataset_version else None
            return self._with_lengths(upload), repos.datasets.get({"id": upload.dataset}), version

    def _with_lengths(self, upload: Upload) -> Upload:
        if upload.state is not UploadState.OPEN:
            complete = tuple(file.model_copy(update={"received": file.entry.bytes}) for file in upload.files)
            return upload.model_copy(
                update={"files": complete if upload.state is UploadState.COMMITTED else upload.files}
            )
        received = tuple(
            file.model_copy(update={"received": self.deps.store.size(upload_key(upload, file.name))})
            for file in upload.files
        )
        return upload.model_copy(update={"files": received})

    def target(self, upload_id: str, name: str) -> tuple[str, FileEntry]:
        """Return a file's object key, and its expected length and sha256.

        Raises:
            ConflictError: the upload is closed.
        """
        with self.deps.database.read() as uow:
            upload = _open_upload(uow.project(self.project), upload_id)
        file = next((file for file in upload.files if file.name == name), None)
        if file is None:
            raise NotFoundError(f"upload {upload_id} announced no file {name}")
        return upload_key(upload, name), file.entry

    def append(self, upload_id: str, key: str, expected: FileEntry, offset: int, chunk: bytes) -> int:
        """Append a chunk at ``offset`` and return the received length in bytes. Raises as ``ObjectStore.append``.

        Raises:
            NotFoundError: the upload was deleted with its dataset or project.
            ConflictError: the upload was aborted.
        """
        received = self.deps.store.append(key, offset, io.BytesIO(chunk), expected.bytes)
        self.deps.upload_hashes.update(key, offset, chunk)
        with self.deps.database.read() as uow:
            upload = uow.project(self.project).uploads.find({"id": upload_id})
        if upload is None or upload.state is UploadState.ABORTED:
            self.deps.store.delete(key)  # the purge may have run before this append
            if upload is None:
                raise NotFoundError(f"no upload {upload_id}")
            raise ConflictError(f"upload {upload_id} is {upload.state}", hint="open a new upload")
        return received

    @property
    def takes_parts(self) -> bool:
        """Whether clients send the bytes of their files to the object store instead of to this server."""
        if self.deps.data_keys is not None and self.deps.data_keys.encrypts(self.project):
            return False  # clients have no key
        return self.deps.signer is not None and self.deps.signer.reaches_clients

    def sign_parts(self, upload_id: str, name: str) -> tuple[StagedPart, ...]:
        """Return the next parts of a file, which a client sends to the object store.

        Raises:
            ConflictError: the upload is closed, or clients do not reach the object store.
        """
        key, expected = self.target(upload_id, name)
        signer = self.deps.signer
        if signer is None or not self.takes_parts:
            raise ConflictError(
                "clients do not write to the object store", hint="send the bytes to the url of the file"
            )
        offsets = range(self.deps.store.size(key), expected.bytes, _PART_BYTES)[:_SIGNED_PARTS]
        lengths = [min(_PART_BYTES, expected.bytes - offset) for offset in offsets]
        return tuple(
            StagedPart(offset=offset, bytes=length, put=signer.stage(key, offset, length))
            for offset, length in zip(offsets, lengths, strict=True)
        )

    def commit(self, upload_id: str) -> DatasetVersion:
        """Create a dataset version from the received files; idempotent.

        It takes no longer for large files: the data process verifies their hashes when it reads them.

        Raises:
            ConflictError: bytes are missing; the error names the file and its received length.
            ChecksumMismatchError: a file differs from the declared sha256, as far as its hash is known; its bytes are
                deleted, send it again.
            LimitReachedError: the project has too many versions in processing; commit again later.
        """
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            upload = repos.uploads.get({"id": upload_id})
            if upload.state is UploadState.COMMITTED and upload.dataset_version:
                return repos.dataset_versions.get({"id": upload.dataset_version})
            upload = _open_upload(repos, upload_id)
        for number, file in enumerate(upload.files):
            self._check(number, file, upload_key(upload, file.name))
        with self.deps.database.write() as uow:
            repos = uow.project(self.project)
            upload = repos.uploads.get({"id": upload_id})
            if upload.dataset_version:
                return repos.dataset_versions.get({"id": upload.dataset_version})
            upload = _open_upload(repos, upload_id)
            dataset = repos.datasets.get({"id": upload.dataset})
            require_room_for_version(repos, dataset, self.deps.limits)
            version = new_version(self, uow, dataset, "upload", upload.options, upload=upload)
            update = {"state": UploadState.COMMITTED, "dataset_version": version.id}
            saved = repos.uploads.save(upload.model_copy(update=update))
            name = f"{dataset.name}@{version.number}"
            self.audit(uow, "upload.commit", upload_id, name, self.project, before=upload, after=saved)
        return version

    def _check(self, number: int, file: UploadFile, key: str) -> None:
        received = self.deps.store.size(key)
        if received < file.entry.bytes:
            raise incomplete_file(number, file.name, received, file.entry.bytes)
        if not file.entry.bytes:
            with suppress(ConflictError):  # of an earlier commit
                self.deps.store.put(key, io.BytesIO())  # no request has sent its bytes
        actual = self.deps.upload_hashes.sha256(key, received) or file.entry.sha256
        self.deps.upload_hashes.discard(key)
        if actual != file.entry.sha256:
            self.deps.store.delete(key)
            raise ChecksumMismatchError(
                f"{file.name} has sha256 {actual}, expected {file.entry.sha256}; its bytes were deleted",
                hint="send the file again from the beginning, or abort and announce the correct sha256",
                fields=[FieldProblem(f"/files/{number}/sha256", "does not match the bytes")],
            )

    def abort(self, upload_id: str) -> None:
        """Close an open upload and delete its bytes; idempotent.

        Raises:
            ConflictError: the upload is committed; delete the dataset version instead.
        """
        with self.deps.database.write() as uow:
            repos = uow.project(self.project)
            upload = repos.uploads.get({"id": upload_id})
            if upload.state is UploadState.ABORTED:
                return
            _open_upload(repos, upload_id)
            saved = repos.uploads.save(upload.model_copy(update={"state": UploadState.ABORTED}))
            uow.outbox.put("upload.purge", self.project, upload_id)
            name = repos.datasets.get({"id": upload.dataset}).name
            self.audit(uow, "upload.abort", upload_id, name, self.project, before=upload, after=saved)


def incomplete_file(number: int, name: str, received: int, declared: int) -> ConflictError:
    """Return the error for the n-th declared file, of which bytes are missing."""
    return ConflictError(
        f"{name} is not complete: {received} of {declared} bytes have arrived",
        hint=f"send the rest with the header Upload-Offset: {received}",
        fields=[FieldProblem(f"/files/{number}", "is not complete")],
        context={"received": received},
    )


def _open_upload(repos: ReadProjectData, upload_id: str) -> Upload:
    upload = repos.uploads.get({"id": upload_id})
    if upload.state is not UploadState.OPEN:
        raise ConflictError(f"upload {upload_id} is {upload.state}", hint="open a new upload")
    return upload
