"""Presigned requests for the files that a token may read or write, and the commit of a published folder.

A folder is published when it has a manifest. Its files are written first, each by a conditional write that keeps the
declared hash, and the manifest last. So a process that dies publishes nothing, and a URL that outlives the publication
cannot change it. Files are below the digest of their manifest: two publishers of one folder never write the same key
unless they publish the same content, and then each continues with the files that are stored already.
"""

import io
import re
from dataclasses import dataclass

from windlass.domain.artifacts import MANIFEST_NAME, SHA256_PATTERN, Manifest
from windlass.domain.errors import ConflictError, ForbiddenError, NotFoundError
from windlass.domain.storage_layout import (
    artifacts_prefix,
    checkpoints_prefix,
    dataset_version_prefix,
    published_file_key,
)
from windlass.domain.transfers import FileReply, FileUploadReply, FolderFile, FolderReply, SignedPut, TransferGrant
from windlass.ports import UrlSigner
from windlass.services.attempts import run_and_job
from windlass.services.base import ServiceDependencies


def run_grant(deps: ServiceDependencies, run_id: str) -> TransferGrant:
    """Return what the processes of a run may read and write; a run that has ended writes nothing."""
    with deps.database.read() as uow:
        run, job = run_and_job(uow, run_id)
        base_model = uow.base_models.get({"id": job.base_model}).prefix
    checkpoints, artifacts = checkpoints_prefix(job), artifacts_prefix(job)
    writable = not run.state.ended
    return TransferGrant(
        subject=run.id,
        read=(dataset_version_prefix(run.project, job.dataset_version), base_model, checkpoints, artifacts),
        write=(checkpoints, artifacts) if writable else (),
        delete=(checkpoints,) if writable else (),
    )


@dataclass(frozen=True)
class Transfers:
    """The operations of one token."""

    deps: ServiceDependencies
    grant: TransferGrant

    @property
    def signer(self) -> UrlSigner:
        """What signs requests.

        Raises:
            ConflictError: the object store of this server is a local folder.
        """
        if self.deps.signer is None:
            raise ConflictError(
                "the object store of this server is a folder", hint="processes on its machine read the files by path"
            )
        return self.deps.signer

    def open_folder(self, uri: str) -> FolderReply:
        """Return the manifest of a published folder and the requests for its files.

        Raises:
            NotFoundError: no folder is published there.
            ChecksumMismatchError: its manifest is not valid.
        """
        key = self._allowed(uri, self.grant.read)
        manifest = self._manifest(key)
        if manifest is None:
            raise NotFoundError(f"no folder is published at {uri}")
        keys = _file_keys(key, manifest)
        files = {path: self.signer.read(keys[path], entry.bytes) for path, entry in manifest.files.items()}
        return FolderReply(manifest=manifest, files=files)

    def open_file(self, uri: str) -> FileReply:
        """Return the requests for one file.

        Raises:
            NotFoundError: there is no such file.
        """
        return FileReply(parts=self.signer.read_file(self._allowed(uri, self.grant.read)))

    def published(self, uri: str) -> tuple[str, ...]:
        """Return the URIs of the folders that are published below a URI."""
        store, key = self.deps.store, self._allowed(uri, self.grant.read)
        suffix = f"/{MANIFEST_NAME}"
        folders = (stored.removesuffix(suffix) for stored in store.keys(key) if stored.endswith(suffix))
        return tuple(sorted(store.uri(folder) for folder in folders if folder != key))

    def delete(self, uri: str) -> None:
        """Delete all files at and below a URI."""
        self.deps.store.delete(self._allowed(uri, self.grant.delete))

    def begin(self, uri: str) -> None:
        """Check that a folder may be published.

        Raises:
            ConflictError: one is published already.
        """
        self._unpublished(uri)

    def write_file(self, uri: str, file: FolderFile) -> FileUploadReply:
        """Return how to store a file of a folder.

        Raises:
            ConflictError: another content is stored as this file of the manifest.
        """
        key, entry = self._file_key(uri, file), file.entry
        stored = self.signer.entry(key)
        if stored == entry:
            return FileUploadReply()
        if stored is not None:
            raise ConflictError(f"{file.path} is stored with another content", hint="publish a new version elsewhere")
        size, secret = self.signer.stored_length(key, entry.bytes), self.signer.secret(key)
        length = self.signer.part_length(size)
        if size <= length:
            return FileUploadReply(put=self.signer.write(key, entry), secret=secret)
        upload = self.signer.start_multipart(key, entry)
        return FileUploadReply(upload=upload, part_bytes=length, secret=secret)

    def write_parts(self, uri: str, file: FolderFile, upload: str, numbers: tuple[int, ...]) -> tuple[SignedPut, ...]:
        """Return the requests for parts of a file."""
        return self.signer.write_parts(self._file_key(uri, file), upload, numbers)

    def complete_file(self, uri: str, file: FolderFile, upload: str, etags: tuple[str, ...]) -> None:
        """Store a file from its parts; idempotent.

        Raises:
            ConflictError, NotFoundError: the parts are gone, or another content was stored; store the file again.
        """
        key = self._file_key(uri, file)
        try:
            self.signer.complete_multipart(key, upload, etags)
        except (ConflictError, NotFoundError):
            if self.signer.entry(key) != file.entry:
                raise

    def commit(self, uri: str, manifest: Manifest) -> None:
        """Publish a folder whose files are stored, and delete what other publishers stored for it; idempotent.

        Raises:
            ConflictError: another folder is published there, or a file is not stored as declared.
        """
        key, store = self._allowed(uri, self.grant.write), self.deps.store
        if self._manifest(key) != manifest:
            keys = _file_keys(key, manifest)
            for path, entry in manifest.files.items():
                if self.signer.entry(keys[path]) != entry:
                    raise ConflictError(f"{path} is not stored as declared", hint="publish the folder again")
            try:
                store.put(f"{key}/{MANIFEST_NAME}", io.BytesIO(manifest.model_dump_json().encode()))
            except ConflictError as error:
                if self._manifest(key) != manifest:
                    raise _taken(uri) from error
        self._delete_other_files(key, manifest.digest())

    def _delete_other_files(self, folder: str, digest: str) -> None:
        """Delete what other publishers have stored for a published folder, and what they have not stored completely."""
        store = self.deps.store
        for name in {_name_below(folder, key) for key in store.keys(folder)} - {digest}:
            if _is_digest(name):
                store.delete(f"{folder}/{name}")
        # Also those of the same content, of a publisher that died: the files of this manifest are stored.
        for key, upload in self.signer.unfinished_multiparts(folder):
            if _is_digest(_name_below(folder, key)):
                self.signer.abort_multipart(key, upload)

    def _manifest(self, key: str) -> Manifest | None:
        try:
            with self.deps.store.open(f"{key}/{MANIFEST_NAME}") as stream:
                return Manifest.read(stream, key)
        except NotFoundError:
            return None

    def _file_key(self, uri: str, file: FolderFile) -> str:
        return published_file_key(self._unpublished(uri), file.digest, file.path)

    def _unpublished(self, uri: str) -> str:
        key = self._allowed(uri, self.grant.write)
        if self.deps.store.size(f"{key}/{MANIFEST_NAME}"):
            raise _taken(uri)
        return key

    def _allowed(self, uri: str, prefixes: tuple[str, ...]) -> str:
        key = self.deps.store.key(uri)
        if any(key == prefix or key.startswith(f"{prefix}/") for prefix in prefixes):
            return key
        raise ForbiddenError(f"the token of {self.grant.subject} does not allow this at {uri}")


def _file_keys(folder: str, manifest: Manifest) -> dict[str, str]:
    """Return the keys of the files by their path."""
    digest = manifest.digest()
    return {path: published_file_key(folder, digest, path) for path in manifest.files}


def _name_below(folder: str, key: str) -> str:
    """Return the name that follows a folder in a key below it."""
    return key.removeprefix(f"{folder}/").partition("/")[0]


def _is_digest(name: str) -> bool:
    """Return whether files of a folder are below this name; else it may be a folder that is published below it."""
    return re.fullmatch(SHA256_PATTERN, name) is not None


def _taken(uri: str) -> ConflictError:
    return ConflictError(f"{uri} is published already", hint="publish a new version elsewhere")
