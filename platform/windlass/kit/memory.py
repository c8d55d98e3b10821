"""Limits the private memory of this process while it runs something that must not be trusted with all of it."""

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATM = Path("/proc/self/statm")
_DATA_PAGES = 5
"""Index of the field with the data and stack pages, see proc(5)."""
_lock = threading.Lock()


@contextmanager
def limited_growth(max_bytes: int) -> Iterator[None]:
    """Let the process allocate at most ``max_bytes`` more inside the block; further allocations raise MemoryError.

    The limit is RLIMIT_DATA, which binds the whole process: blocks of several threads run one after the other, and an
    allocation of another thread can fail too. No limit where there is no /proc, as on macOS.
    """
    if not _STATM.exists():
        yield
        return
    with _lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        used = int(_STATM.read_text(encoding="ascii").split()[_DATA_PAGES]) * resource.getpagesize()
        limit = used + max_bytes
        if soft != resource.RLIM_INFINITY:
            limit = min(limit, soft)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
