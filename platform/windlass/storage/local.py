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

from windlass.domain.artifacts import FileEntry, check_relative_path, sha256_file
from windlass.domain.errors import ConflictError, NotFoundError, StorageFullError, TooLargeError

_CHUNK = 1 << 20
_DRAFTS = ".drafts"
_DELETE_TRIES = 3


@contextmanager
def _full_disk_is_ours_to_name() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFullError(
                "the object store's disk is full; the file was not stored", hint="free some space and send it again"
            ) from error
        raise


class LocalObjectStore:
    """``ports.ObjectStore`` below one folder, which it makes when it is not there.

    Args:
        root: the folder.
        reserve: bytes that uploads leave free on the disk: a database that cannot write could not even delete.
    """

    def __init__(self, root: Path, reserve: int = 0) -> None:
        self._root, self._reserve = root.resolve(), reserve
        (self._root / _DRAFTS).mkdir(parents=True, exist_ok=True, mode=0o700)

    def local_path(self, key: str) -> Path:
        check_relative_path(key)
        return self._root / key

    def put(self, key: str, source: BinaryIO) -> FileEntry:
        target = self.local_path(key)
        draft = self._root / _DRAFTS / secrets.token_hex(8)
        try:
            with _full_disk_is_ours_to_name():
                with draft.open("xb") as stream:
                    while chunk := source.read(_CHUNK):
                        self._write(stream, chunk)
                    stream.flush()
                    os.fsync(stream.fileno())
                entry = sha256_file(draft)
                target.parent.mkdir(parents=True, exist_ok=True)
                draft.replace(target)
                _sync_folder(target.parent)
        finally:
            draft.unlink(missing_ok=True)
        return entry

    def append(self, key: str, offset: int, source: BinaryIO, limit: int) -> int:
        target = self.local_path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _full_disk_is_ours_to_name(), target.open("ab") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConflictError(
                    "another request is writing this file", hint="wait for it, then ask how much has arrived"
                ) from error
            length = stream.seek(0, os.SEEK_END)
            if length != offset:
                raise ConflictError(
                    f"{length} bytes have arrived, the request goes on at {offset}",
                    hint=f"send the rest from byte {length} with the header Upload-Offset: {length}",
                    facts={"received": length},
                )
            total = offset
            while chunk := source.read(_CHUNK):
                total += len(chunk)
                if total > limit:
                    stream.truncate(offset)
                    raise TooLargeError(
                        f"more than the {limit} bytes that were announced", hint="send the file as announced"
                    )
                self._write(stream, chunk)
            stream.flush()
            os.fsync(stream.fileno())
        return total

    def _write(self, stream: BinaryIO, chunk: bytes) -> None:
        if self._reserve and shutil.disk_usage(self._root).free - len(chunk) < self._reserve:
            raise OSError(errno.ENOSPC, "what is free is kept for the database")
        stream.write(chunk)

    def open(self, key: str) -> BinaryIO:
        try:
            return self.local_path(key).open("rb")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFoundError(f"no object {key}") from error

    def entry(self, key: str) -> FileEntry:
        try:
            return sha256_file(self.local_path(key))
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFoundError(f"no object {key}") from error

    def size(self, key: str) -> int:
        path = self.local_path(key)
        return path.stat().st_size if path.is_file() else 0

    def keys(self, prefix: str) -> Iterator[str]:
        base = self.local_path(prefix)
        for path in sorted(base.rglob("*")):
            if path.is_file():
                yield path.relative_to(self._root).as_posix()

    def delete(self, prefix: str) -> None:
        path = self.local_path(prefix)
        for _ in range(_DELETE_TRIES):
            if not path.is_dir():
                break
            with suppress(FileNotFoundError):  # somebody else deletes here too
                shutil.rmtree(path)
        with suppress(FileNotFoundError):
            path.unlink()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
