"""Folders with a manifest: sealed by the process that made them, verified by every reader (invariant I9)."""

import os
from pathlib import Path

from windlass.domain.artifacts import MANIFEST_NAME, Manifest, manifest_of, sha256_file
from windlass.domain.errors import ChecksumMismatchError, NotFoundError
from windlass.kit.files import sync_folder, write_atomic


def seal(folder: Path) -> Manifest:
    """Hash every file of ``folder`` and write its manifest; all of it is durable when this returns."""
    manifest = manifest_of(folder)
    for name in manifest.files:
        _sync_file(folder / name)
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
    write_atomic(folder / MANIFEST_NAME, manifest.model_dump_json())
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a published folder.

    Raises:
        NotFoundError: there is no manifest, so the folder was never published.
        ChecksumMismatchError: the manifest is too large or not valid.
    """
    try:
        with (folder / MANIFEST_NAME).open("rb") as stream:
            return Manifest.read(stream, folder.name)
    except FileNotFoundError:
        raise NotFoundError(f"{folder.name} has no {MANIFEST_NAME}: it was never published") from None


def verify(folder: Path, *, digest: str | None = None) -> Manifest:
    """Check that a folder has exactly the files of its manifest, with their lengths and hashes; return the manifest.

    Args:
        folder: a fetched folder.
        digest: digest of the manifest from a source that the writer of the folder cannot change.

    Raises:
        NotFoundError: the folder was never published.
        ChecksumMismatchError: the manifest has another digest, a file differs, is missing, is not listed, or is not a
            regular file; the message names it.
    """
    manifest = read_manifest(folder)
    if digest is not None and manifest.digest() != digest:
        raise ChecksumMismatchError(f"the manifest of {folder.name} has digest {manifest.digest()}, expected {digest}")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise ChecksumMismatchError(f"{folder.name}/{name} is not a regular file")
        if path.is_file() and name != MANIFEST_NAME and name not in manifest.files:
            raise ChecksumMismatchError(f"{folder.name}/{name} is not in the manifest")
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ChecksumMismatchError(f"{folder.name}/{name} is missing")
        if path.stat().st_size != entry.bytes or sha256_file(path) != entry:
            raise ChecksumMismatchError(f"{folder.name}/{name} does not match its manifest")
    return manifest


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
