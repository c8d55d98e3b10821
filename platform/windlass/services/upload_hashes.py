"""Hashes of uploads while their bytes arrive, so that a commit does not read the files."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

_MAX_FILES = 10_000


@dataclass
class UploadHashes:
    """The running sha256 of each file that this server has received from its first byte, by object key.

    A file has no hash here if the server was restarted during its upload, or another replica received a part of it. The
    data process verifies the hash of every file in any case; this only reports a mismatch earlier.
    """

    _running: "OrderedDict[str, tuple[int, hashlib._Hash]]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def update(self, key: str, offset: int, chunk: bytes) -> None:
        """Add a chunk that was stored at ``offset``."""
        with self._lock:
            length, digest = self._running.pop(key, (0, None))
        if offset == 0:
            length, digest = 0, hashlib.sha256()
        if digest is None or length != offset:
            return  # an earlier part was received by another server, or is being added by another thread
        digest.update(chunk)
        with self._lock:
            self._running[key] = (offset + len(chunk), digest)
            if len(self._running) > _MAX_FILES:
                self._running.popitem(last=False)

    def sha256(self, key: str, length: int) -> str | None:
        """Return the hash of the file if all of its ``length`` bytes were added, else None."""
        with self._lock:
            received, digest = self._running.get(key, (0, None))
            return digest.hexdigest() if digest is not None and received == length else None

    def discard(self, key: str) -> None:
        """Forget a file."""
        with self._lock:
            self._running.pop(key, None)
