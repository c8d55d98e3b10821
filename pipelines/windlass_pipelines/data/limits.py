"""Operating-system limits that the data process puts on itself before it touches a tenant's byte."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

ADDRESS_SPACE = 2 << 30
"""Bytes that may be mapped beyond what the interpreter and its libraries map at start: 10^7 rows need about half."""
READING_SPACE = 1 << 30
"""The same while files are parsed, which needs little however large they are."""
CPU_SECONDS = 3600
OPEN_FILES = 256


_GROWTH = 4
"""Escaping in JSON may lengthen what was read; the internal form is never longer than this many times the input."""


def largest_file(max_bytes: int) -> int:
    """Return how long a written file may become when ``max_bytes`` may be read."""
    return _GROWTH * max_bytes + (64 << 20)


class CpuTimeError(Exception):
    """The process has used its CPU seconds."""


def apply_limits(file_bytes: int, *, address_space: int = ADDRESS_SPACE, cpu_seconds: int = CPU_SECONDS) -> None:
    """Limit this process: address space, CPU seconds, length of a written file, open files, and no core dump.

    Past the CPU seconds, ``CpuTimeError`` is raised wherever Python code runs; code that does not come back to
    Python is killed 30 seconds later.
    """
    signal.signal(signal.SIGXCPU, _out_of_time)
    _limit(resource.RLIMIT_CORE, 0, 0)
    _limit(resource.RLIMIT_AS, _mapped() + address_space)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 30)


def limited_by_disk(max_bytes: int) -> bool:
    """Tell whether the disk, and not the size of the data, bounds what this process may write."""
    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] not in (resource.RLIM_INFINITY, largest_file(max_bytes))


@contextmanager
def reading_limits() -> Iterator[None]:
    """Lower the address space to what parsing may use; without ``apply_limits`` before, nothing is limited."""
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    if before != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_AS, (min(before, _mapped() + READING_SPACE), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def _out_of_time(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # it comes again every second, also while the answer is written
    raise CpuTimeError


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    ceiling = resource.getrlimit(kind)[1]
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))


def _mapped() -> int:
    statm = Path("/proc/self/statm")
    # Without /proc (macOS) nothing is known of the libraries' share, and 1 GiB covers it.
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 1 << 30
