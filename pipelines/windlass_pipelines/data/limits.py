"""Resource limits (setrlimit) that the data process sets before it reads untrusted input."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

ADDRESS_SPACE = 2 << 30
"""Bytes of address space beyond what the interpreter and libraries map at start; 10^7 rows need about half."""
READING_SPACE = 1 << 30
"""The same while files are parsed, which needs little memory for any file size."""
CPU_SECONDS = 1800
OPEN_FILES = 256
_GROWTH = 4
"""Maximum ratio of the internal form to the input: JSON escaping makes text longer."""


def largest_file(max_bytes: int) -> int:
    """Return the size limit of a written file for an input of at most ``max_bytes``."""
    return _GROWTH * max_bytes + (64 << 20)


class CpuTimeError(Exception):
    """The process has exceeded its CPU time limit."""


def apply_limits(file_bytes: int, *, address_space: int = ADDRESS_SPACE, cpu_seconds: int = CPU_SECONDS) -> None:
    """Limit address space, CPU time, size of written files and open files of this process; disable core dumps.

    After ``cpu_seconds``, ``CpuTimeError`` is raised in Python code; 30 seconds later the kernel kills the process.
    """
    signal.signal(signal.SIGXCPU, _out_of_time)
    _limit(resource.RLIMIT_CORE, 0, 0)
    _limit(resource.RLIMIT_AS, _mapped() + address_space)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 30)


def limited_by_disk(max_bytes: int) -> bool:
    """Return whether the file size limit results from free disk space, not from ``max_bytes``."""
    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] not in (resource.RLIM_INFINITY, largest_file(max_bytes))


@contextmanager
def reading_limits() -> Iterator[None]:
    """Lower the address space limit while parsing; a no-op without ``apply_limits`` before."""
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    if before != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_AS, (min(before, _mapped() + READING_SPACE), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def _out_of_time(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # the signal repeats every second, also while the result is written
    raise CpuTimeError


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    ceiling = resource.getrlimit(kind)[1]
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))


def _mapped() -> int:
    statm = Path("/proc/self/statm")
    # Without /proc (macOS) the share of the libraries is unknown; 1 GiB covers it.
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 1 << 30
