"""Folders that appear whole or not at all: written beside their place, hashed, synced, renamed (invariant I9)."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from windlass.domain.artifacts import MANIFEST_NAME, Manifest, manifest_of, sha256_file
from windlass.domain.errors import ChecksumMismatchError, NotFoundError

_MAX_MANIFEST_BYTES = 16 << 20


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target``; it is removed on leaving unless ``commit`` has moved it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def seal(folder: Path) -> Manifest:
    """Hash and sync every file of ``folder`` and write its manifest last."""
    manifest = manifest_of(folder)
    for path in manifest.files:
        _sync(folder / path)
    write_synced(folder / MANIFEST_NAME, manifest.model_dump_json().encode())
    return manifest


def commit(folder: Path, target: Path) -> None:
    """Move a sealed folder to its place; durable when this returns.

    Raises:
        OSError: there is a folder with content at ``target``: a place is written once.
    """
    _sync(folder)
    folder.rename(target)
    _sync(target.parent)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a committed folder.

    Raises:
        NotFoundError: there is none, so the folder is not a committed one.
        ChecksumMismatchError: it is not a manifest.
    """
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise ChecksumMismatchError(f"{folder.name}: {MANIFEST_NAME} is too large to be one")
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(f"{folder.name} has no {MANIFEST_NAME}: it was never committed") from None
    except ValidationError as error:
        raise ChecksumMismatchError(f"{folder.name}: {MANIFEST_NAME} cannot be read") from error


def verify(folder: Path, manifest: Manifest) -> None:
    """Compare every file that the manifest names with its length and hash.

    Raises:
        ChecksumMismatchError: a file is missing, has another length or another hash; the message names it.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ChecksumMismatchError(f"{folder.name}/{name} is missing")
        if path.stat().st_size != entry.bytes or sha256_file(path) != entry:
            raise ChecksumMismatchError(f"{folder.name}/{name} is not what its manifest says")


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and sync it."""
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
