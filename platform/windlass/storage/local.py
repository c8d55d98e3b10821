"""The object store in a local folder (embedded mode)."""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from windlass.domain.artifacts import MANIFEST_NAME, FileEntry, check_relative_path, sha256_file
from windlass.domain.errors import ConflictError, InvalidError, NotFoundError, StorageFullError
from windlass.kit.files import sync_folder
from windlass.storage.staging import concurrent_append, longer_than_declared, wrong_offset

_CHUNK = 1 << 20
_DRAFTS = ".drafts"
_DELETE_TRIES = 3


@contextmanager
def _raise_storage_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFullError(
                "the object store's disk is full; the file was not stored",
                hint="free disk space, then send the file again",
            ) from error
        raise


class LocalObjectStore:
    """``ports.ObjectStore`` in a local folder.

    Args:
        root: the folder; created if it does not exist.
        min_free_bytes: disk space that writes leave free, because the database on the same disk needs it to work.
    """

    def __init__(self, root: Path, min_free_bytes: int = 0) -> None:
        self._root, self._min_free_bytes = root.resolve(), min_free_bytes
        (self._root / _DRAFTS).mkdir(parents=True, exist_ok=True, mode=0o700)

    def delete_drafts(self) -> None:
        """Delete the incomplete files of a killed server. Only for the owner of the store, before it writes."""
        for draft in (self._root / _DRAFTS).iterdir():
            draft.unlink(missing_ok=True)

    def uri(self, key: str) -> str:
        return self._path(key).as_uri()

    def key(self, uri: str) -> str:
        key = unquote(uri.removeprefix(self._root.as_uri() + "/"))
        if not uri.startswith(self._root.as_uri() + "/"):
            raise InvalidError(f"{uri} is not in this object store")
        self._path(key)
        return key

    def put(self, key: str, source: BinaryIO) -> FileEntry:
        target = self._path(key)
        draft = self._root / _DRAFTS / secrets.token_hex(8)
        try:
            with _raise_storage_full():
                with draft.open("xb") as stream:
                    while chunk := source.read(_CHUNK):
                        self._write(stream, chunk)
                    stream.flush()
                    os.fsync(stream.fileno())
                entry = sha256_file(draft)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.hardlink_to(draft)
                sync_folder(target.parent)
        except FileExistsError as error:
            raise ConflictError(f"{key} exists; objects are immutable") from error
        finally:
            draft.unlink(missing_ok=True)
        return entry

    def append(self, key: str, offset: int, source: BinaryIO, limit: int) -> int:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _raise_storage_full(), target.open("ab") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise concurrent_append() from error
            length = stream.seek(0, os.SEEK_END)
            if length != offset:
                raise wrong_offset(offset, length)
            total = offset
            while chunk := source.read(_CHUNK):
                total += len(chunk)
                if total > limit:
                    stream.truncate(offset)
                    raise longer_than_declared(limit)
                self._write(stream, chunk)
            stream.flush()
            os.fsync(stream.fileno())
        return total

    def extend(self, key: str, data: bytes) -> tuple[str, int]:
        target = self._path(key)
        created = not target.exists()
        target.parent.mkdir(parents=True, exist_ok=True)
        with _raise_storage_full(), target.open("ab", buffering=0) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            position = stream.seek(0, os.SEEK_END)
            try:
                self._require_free(len(data))
                rest = memoryview(data)
                while rest:
                    rest = rest[stream.write(rest) :]
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(position)
                raise
        if created:
            sync_folder(target.parent)
        return key, position

    def _path(self, key: str) -> Path:
        check_relative_path(key)
        return self._root / key

    def _write(self, stream: BinaryIO, chunk: bytes) -> None:
        self._require_free(len(chunk))
        stream.write(chunk)

    def _require_free(self, size: int) -> None:
        if self._min_free_bytes and shutil.disk_usage(self._root).free - size < self._min_free_bytes:
            raise OSError(errno.ENOSPC, "the remaining space is reserved for the database")

    def open(self, key: str) -> BinaryIO:
        try:
            return self._path(key).open("rb")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFoundError(f"no object {key}") from error

    def size(self, key: str) -> int:
        path = self._path(key)
        return path.stat().st_size if path.is_file() else 0

    def published_file(self, folder: str, path: str, digest: str | None = None) -> str:
        del digest  # a folder is renamed as a whole, so publishers cannot mix their files
        return f"{folder}/{path}"

    def total_bytes(self, prefix: str) -> int:
        return sum(self.size(key) for key in self.keys(prefix))

    def keys(self, prefix: str) -> Iterator[str]:
        base = self._path(prefix)
        yield from sorted(path.relative_to(self._root).as_posix() for path in base.rglob("*") if path.is_file())

    def delete(self, prefix: str) -> None:
        path = self._path(prefix)
        for _ in range(_DELETE_TRIES):
            if not path.is_dir():
                break
            with suppress(FileNotFoundError):  # a concurrent deletion
                for manifest in path.rglob(MANIFEST_NAME):
                    manifest.unlink()
                shutil.rmtree(path)
        with suppress(FileNotFoundError):
            path.unlink()
