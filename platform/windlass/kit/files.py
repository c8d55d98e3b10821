"""Files that readers see complete or not at all, written under a temporary name, then renamed; and locks on files."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomic(path: Path, content: bytes | str, *, mode: int = 0o644, durable: bool = True) -> None:
    """Replace the file at ``path`` with ``content``; a crash leaves the old file or the new one.

    ``durable`` also makes the file survive a power cut once this returns: it syncs the file and its folder. Pass False
    for a file that is worthless after a restart, such as a status that is written every second.

    Raises:
        OSError: the file could not be written; the old one is unchanged and no temporary file is left.
    """
    data = content.encode() if isinstance(content, str) else content
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names that were added to, renamed in or removed from ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Create ``folder`` and its missing parents, each durable in the folder above; no error when it exists."""
    if folder.is_dir():
        return
    make_folder(folder.parent, mode=mode)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_folder(folder.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for an exclusive flock on a file, which is created, and hold it. The kernel releases it when a process dies.

    Nobody may delete the file while other processes wait for it.
    """
    with path.open("a", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def log_tail(path: Path, *, lines: int = 5, limit: int = 2000) -> str:
    """Return the last non-empty ``lines`` of a text file, at most ``limit`` characters; empty when there is none."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 4 * limit))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    kept = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(kept[-lines:])[-limit:]
