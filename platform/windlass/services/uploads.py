"""Uploads: bytes arrive in a staging area, resumable; a commit checks length and sha256 and makes a dataset version."""

from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO

from windlass.domain.artifacts import FileEntry
from windlass.domain.datasets import Dataset, DatasetVersion, IngestOptions, Upload, UploadFile, UploadState
from windlass.domain.errors import (
    ChecksumMismatchError,
    ConflictError,
    FieldProblem,
    InvalidError,
    NotFoundError,
    TooLargeError,
)
from windlass.ports import ProjectData
from windlass.services.backing import ProjectUseCases
from windlass.services.datasets import new_version, refuse_beyond
from windlass.services.idempotency import Idempotency


def staging_key(upload: Upload, name: str) -> str:
    """Return where a file of an upload waits; the key is made of our numbers, not of the user's name."""
    number = next(i for i, file in enumerate(upload.files) if file.name == name)
    return f"projects/{upload.project}/uploads/{upload.id}/{number}"


@dataclass(frozen=True)
class Uploads(ProjectUseCases):
    """Open, fill, commit and abort uploads of one project."""

    largest: int
    kept: timedelta
    """How long an upload may stay open."""
    unfinished: int
    """How many versions of the project may be in processing at once."""

    def open(
        self, dataset: str, files: tuple[UploadFile, ...], options: IngestOptions, once: Idempotency | None
    ) -> Upload:
        """Begin an upload into a dataset.

        Raises:
            InvalidError: a file name twice.
            TooLargeError: more bytes than one upload may bring.
            NotFoundError: no such dataset.
        """
        names = [file.name for file in files]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidError.field("/files", f"names a file twice: {', '.join(twice)}")
        total = sum(file.entry.bytes for file in files)
        if total > self.largest:
            raise TooLargeError(
                f"the files have {total} bytes, an upload may bring {self.largest}",
                hint="split the data into several uploads",
                fields=[FieldProblem("/files", "are too large together")],
            )
        with self.backing.database.write() as work:
            inside = work.of(self.project)
            if once and (known := once.subject(inside)):
                return inside.uploads.get(id=known)
            upload = Upload(
                id=self.backing.new_id("up"),
                project=self.project,
                dataset=inside.datasets.get(name=dataset).id,
                files=files,
                options=options,
                state=UploadState.OPEN,
                created_at=self.backing.clock.now(),
            )
            inside.uploads.add(upload)
            work.outbox.put("upload.expire", self.project, upload.id, after=self.kept)
            if once:
                once.remember(inside, self.project, upload.id, self.backing.clock.now())
            self.audit(work, "upload.create", upload.id, self.project)
        return upload

    def get(self, upload_id: str) -> tuple[Upload, Dataset, DatasetVersion | None]:
        """Return an upload with what has arrived, its dataset and the version that it became."""
        with self.backing.database.read() as work:
            inside = work.of(self.project)
            upload = inside.uploads.get(id=upload_id)
            made = inside.dataset_versions.find(id=upload.dataset_version) if upload.dataset_version else None
            return self._with_lengths(upload), inside.datasets.get(id=upload.dataset), made

    def _with_lengths(self, upload: Upload) -> Upload:
        if upload.state is not UploadState.OPEN:
            full = tuple(file.model_copy(update={"received": file.entry.bytes}) for file in upload.files)
            return upload.model_copy(update={"files": full if upload.state is UploadState.COMMITTED else upload.files})
        arrived = tuple(
            file.model_copy(update={"received": self.backing.store.size(staging_key(upload, file.name))})
            for file in upload.files
        )
        return upload.model_copy(update={"files": arrived})

    def target(self, upload_id: str, name: str) -> tuple[str, FileEntry]:
        """Return where the bytes of a file go, and how many and which are due.

        Raises:
            ConflictError: the upload is closed.
        """
        with self.backing.database.read() as work:
            upload = _open_upload(work.of(self.project), upload_id)
        file = next((file for file in upload.files if file.name == name), None)
        if file is None:
            raise NotFoundError(f"upload {upload_id} announced no file {name}")
        return staging_key(upload, name), file.entry

    def append(self, upload_id: str, key: str, due: FileEntry, offset: int, piece: BinaryIO) -> int:
        """Add a piece at ``offset`` and return how many bytes have arrived. Raises as ``ObjectStore.append``.

        Raises:
            NotFoundError: the upload was deleted, with its dataset or project.
            ConflictError: it was aborted.
        """
        arrived = self.backing.store.append(key, offset, piece, due.bytes)
        with self.backing.database.read() as work:
            upload = work.of(self.project).uploads.find(id=upload_id)
        if upload is None or upload.state is UploadState.ABORTED:
            self.backing.store.delete(key)  # the purge may have been here before this piece was
            if upload is None:
                raise NotFoundError(f"no upload {upload_id}")
            raise ConflictError(f"upload {upload_id} is {upload.state}", hint="open a new upload")
        return arrived

    def commit(self, upload_id: str) -> DatasetVersion:
        """Check what arrived and make a dataset version of it; committing again returns the same version.

        Raises:
            ConflictError: bytes are missing; says of which file and how many.
            ChecksumMismatchError: a file is not the announced one; it is dropped and can be sent again.
            LimitReachedError: too many versions are in processing; commit again later.
        """
        with self.backing.database.read() as work:
            inside = work.of(self.project)
            upload = inside.uploads.get(id=upload_id)
            if upload.state is UploadState.COMMITTED and upload.dataset_version:
                return inside.dataset_versions.get(id=upload.dataset_version)
            upload = _open_upload(inside, upload_id)
        for number, file in enumerate(upload.files):
            self._check(number, file, staging_key(upload, file.name))
        with self.backing.database.write() as work:
            inside = work.of(self.project)
            upload = inside.uploads.get(id=upload_id)
            if upload.dataset_version:
                return inside.dataset_versions.get(id=upload.dataset_version)
            upload = _open_upload(inside, upload_id)
            refuse_beyond(inside, self.unfinished)
            dataset = inside.datasets.get(id=upload.dataset)
            version = new_version(self, work, dataset, "upload", upload.options, upload=upload)
            inside.uploads.save(
                upload.model_copy(update={"state": UploadState.COMMITTED, "dataset_version": version.id})
            )
            self.audit(work, "upload.commit", upload_id, self.project)
        return version

    def _check(self, number: int, file: UploadFile, key: str) -> None:
        received = self.backing.store.size(key)
        if received < file.entry.bytes:
            raise ConflictError(
                f"{file.name} is not complete: {received} of {file.entry.bytes} bytes have arrived",
                hint=f"send the rest with the header Upload-Offset: {received}",
                fields=[FieldProblem(f"/files/{number}", "is not complete")],
                facts={"received": received},
            )
        # An empty file has no staging object; its hash is that of no bytes.
        actual = self.backing.store.entry(key) if received else FileEntry(bytes=0, sha256=_EMPTY)
        if actual != file.entry:
            self.backing.store.delete(key)
            raise ChecksumMismatchError(
                f"{file.name} has sha256 {actual.sha256}, announced was {file.entry.sha256}; it was dropped",
                hint="send the file again from the beginning, or abort and announce the right hash",
                fields=[FieldProblem(f"/files/{number}/sha256", "does not match the bytes")],
            )

    def abort(self, upload_id: str) -> None:
        """Close an open upload and drop its bytes; aborting again is a no-op.

        Raises:
            ConflictError: it is committed; delete the dataset version instead.
        """
        with self.backing.database.write() as work:
            inside = work.of(self.project)
            upload = inside.uploads.get(id=upload_id)
            if upload.state is UploadState.ABORTED:
                return
            _open_upload(inside, upload_id)
            inside.uploads.save(upload.model_copy(update={"state": UploadState.ABORTED}))
            work.outbox.put("upload.purge", self.project, upload_id)
            self.audit(work, "upload.abort", upload_id, self.project)


_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def _open_upload(inside: ProjectData, upload_id: str) -> Upload:
    upload = inside.uploads.get(id=upload_id)
    if upload.state is not UploadState.OPEN:
        raise ConflictError(f"upload {upload_id} is {upload.state}", hint="open a new upload")
    return upload
