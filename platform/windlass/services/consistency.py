"""Compares the object store with the database: every file of every manifest, and objects that belong to nothing."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from windlass.domain.artifacts import MANIFEST_NAME, Manifest
from windlass.domain.errors import ChecksumMismatchError, NotFoundError
from windlass.domain.jobs import DomainModel
from windlass.domain.models import BaseModelState
from windlass.domain.storage_layout import checkpoints_prefix
from windlass.ports import ObjectStore, WorkerDatabase, WorkerReadUnitOfWork

_CHUNK = 1 << 20
_TOMBSTONES = 1_000_000
_PROJECTS = "projects"


class StoreProblem(DomainModel):
    """A file that is missing or differs from its manifest, or an object that belongs to nothing."""

    kind: Literal["missing", "changed", "orphan"]
    owner: str
    """What the file belongs to, such as ``dataset version dsv_...``; of an orphan: the prefix."""
    key: str
    """The object, or its folder."""
    problem: str


class StoreReport(DomainModel):
    """Result of a check."""

    folders: int
    """Published folders whose manifests were compared."""
    files: int
    bytes: int
    hashed: bool
    """Whether the content was compared, too."""
    problems: tuple[StoreProblem, ...]


@dataclass(frozen=True)
class _Folder:
    """A published folder that the database names."""

    owner: str
    prefix: str
    manifest: Manifest | None = None
    """As stored in the database; None: only its digest is."""
    digest: str | None = None
    """Of all files, or of the rows only."""


@dataclass(frozen=True)
class StoreCheck:
    """Checks the object store of a control plane; it only reads."""

    database: WorkerDatabase
    store: ObjectStore

    def run(self, *, hashes: bool = False, progress: Callable[[int, int], None] = lambda *_: None) -> StoreReport:
        """Check every published folder, then look for orphans.

        A folder or an orphan that was deleted during the check is not reported.

        Args:
            hashes: also read every file and compare its SHA-256.
            progress: called with the number of checked folders and of all folders.
        """
        with self.database.read() as uow:
            folders = list(_folders(uow))
        problems: list[StoreProblem] = []
        files = size = 0
        for number, folder in enumerate(folders, start=1):
            manifest, found = self._check_folder(folder, hashes=hashes)
            problems += found
            if manifest is not None:
                files, size = files + len(manifest.files), size + manifest.bytes
            progress(number, len(folders))
        orphans = list(self._orphans())
        with self.database.read() as uow:
            current = {folder.prefix for folder in _folders(uow)}
        gone = {folder.prefix for folder in folders} - current
        problems = [each for each in problems if not any(each.key.startswith(f"{prefix}/") for prefix in gone)]
        return StoreReport(folders=len(folders), files=files, bytes=size, hashed=hashes, problems=(*problems, *orphans))

    def _check_folder(self, folder: _Folder, *, hashes: bool) -> tuple[Manifest | None, list[StoreProblem]]:
        key = f"{folder.prefix}/{MANIFEST_NAME}"
        try:
            with self.store.open(key) as stream:
                manifest = Manifest.read(stream, folder.prefix)
        except NotFoundError:
            return folder.manifest, [_problem("missing", folder, key, "the manifest does not exist")]
        except ChecksumMismatchError as error:
            return folder.manifest, [_problem("changed", folder, key, error.message)]
        if not _is_expected(folder, manifest):
            return manifest, [_problem("changed", folder, key, "the manifest is not that of the database")]
        problems = []
        for path, entry in manifest.files.items():
            name = self.store.published_file(folder.prefix, path, manifest.digest())
            try:
                with self.store.open(name) as stream:
                    length, digest = _measure(stream) if hashes else (self.store.size(name), entry.sha256)
            except NotFoundError:
                problems.append(_problem("missing", folder, name, "the file does not exist"))
                continue
            except ChecksumMismatchError as error:  # an encrypted file
                problems.append(_problem("changed", folder, name, error.message))
                continue
            if length != entry.bytes:
                problems.append(_problem("changed", folder, name, f"it has {length} bytes, not {entry.bytes}"))
            elif digest != entry.sha256:
                problems.append(_problem("changed", folder, name, "its SHA-256 is another one"))
        return manifest, problems

    def _orphans(self) -> Iterator[StoreProblem]:
        """Yield the folders of objects that no row of the database names, and that no deletion is about to remove."""
        seen: dict[str, str] = {}
        for root in (_PROJECTS, "base-models", "base-model-uploads"):
            for key in self.store.keys(root):
                seen.setdefault(_owner_prefix(key), key)
        with self.database.read() as uow:
            known = _known_prefixes(uow)
        for prefix in sorted(seen):
            project = "/".join(prefix.split("/")[:2])  # of one that was deleted
            if known.isdisjoint({prefix, project}) and next(self.store.keys(prefix), None) is not None:
                yield StoreProblem(kind="orphan", owner=prefix, key=seen[prefix], problem="no object of the database")


def _problem(kind: Literal["missing", "changed"], folder: _Folder, key: str, problem: str) -> StoreProblem:
    return StoreProblem(kind=kind, owner=folder.owner, key=key, problem=problem)


def _is_expected(folder: _Folder, manifest: Manifest) -> bool:
    if folder.manifest is not None:
        return manifest == folder.manifest
    rows = {name: entry for name, entry in manifest.files.items() if name.endswith(".jsonl")}
    return folder.digest in {None, manifest.digest(), Manifest(files=rows).digest()}


def _measure(stream: BinaryIO) -> tuple[int, str]:
    digest, length = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
        length += len(chunk)
    return length, digest.hexdigest()


def _folders(uow: WorkerReadUnitOfWork) -> Iterator[_Folder]:
    repos = uow.all_projects()
    for data in repos.dataset_versions.all():
        if data.digest is not None:
            yield _Folder(f"dataset version {data.id}", data.prefix, digest=data.digest)
    for version in repos.model_versions.all():
        yield _Folder(f"model version {version.id}", version.prefix, version.manifest)
    jobs = {job.id: job for job in repos.jobs.all()}
    for checkpoint in repos.checkpoints.all():
        if (job := jobs.get(checkpoint.job)) is not None:
            prefix = f"{checkpoints_prefix(job)}/{checkpoint.attempt}/{checkpoint.step}"
            yield _Folder(f"checkpoint of job {job.id} at step {checkpoint.step}", prefix, checkpoint.manifest)
    for base in uow.base_models.all({"state": BaseModelState.READY}):
        if base.digest is not None:
            yield _Folder(f"base model {base.id}", base.prefix, digest=base.digest)


def _owner_prefix(key: str) -> str:
    """Return the part of a key that names its owner: ``projects/<id>/<kind>/<id>``, else ``<kind>/<id>``."""
    parts = key.split("/")
    return "/".join(parts[: 4 if parts[0] == _PROJECTS else 2])


def _known_prefixes(uow: WorkerReadUnitOfWork) -> set[str]:
    repos = uow.all_projects()
    tombstones = uow.tombstones.all(_TOMBSTONES)
    known = {f"projects/{job.project}/jobs/{job.id}" for job in repos.jobs.all()}
    known |= {f"projects/{data.project}/datasets/{data.id}" for data in repos.dataset_versions.all()}
    known |= {f"projects/{upload.project}/uploads/{upload.id}" for upload in repos.uploads.all()}
    known |= {f"projects/{each.project}/jobs/{each.job}" for each in tombstones if each.job is not None}
    known |= {f"projects/{each.project}" for each in tombstones if each.job is None}
    for base in uow.base_models.all():
        known |= {f"base-models/{base.id}", f"base-model-uploads/{base.id}"}
    known |= {_owner_prefix(subject) for subject in uow.outbox.subjects("artifact.purge")}
    purged = {*uow.outbox.subjects("dataset.purge"), *uow.outbox.subjects("upload.purge")}
    for project in uow.projects.all():
        known |= {f"projects/{project.id}/{kind}/{each}" for each in purged for kind in ("datasets", "uploads")}
    return known
