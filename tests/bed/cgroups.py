"""The bed's cgroup subtree: one folder per hierarchy, ``parts`` for its own programs and the kubelet's beside it.

Every process of the bed is in it, whoever started it and whether or not it was written down, so this is also how a bed
is ended for good.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bed.failures import BedError
from tests.bed.layout import Bed

ROOT = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """Every mount point of cgroups: one of version 2, or one for each controller of version 1, or both.

    Where there are both, runc also makes folders in the one of version 2, which has no controller then.
    """
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    kinds = {Path(mount[1]): mount[2] for mount in mounts if Path(mount[1]).is_relative_to(ROOT)}
    return sorted(path for path, kind in kinds.items() if kind in {"cgroup", "cgroup2"})


def folders(bed: Bed) -> list[Path]:
    return [hierarchy / bed.cgroup for hierarchy in hierarchies()]


def create(bed: Bed) -> None:
    """Make the subtree.

    Raises:
        BedError: cgroups are not mounted, or not to be written to.
    """
    if not hierarchies():
        raise BedError(f"no cgroup hierarchy is mounted below {ROOT}")
    for folder in folders(bed):
        for each in (folder, folder / "parts"):
            each.mkdir(exist_ok=True)
            _hand_down(each)


def _hand_down(folder: Path) -> None:
    """A new cpuset of version 1 is empty and takes no process; in version 2 the parent hands its controllers down."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        mine, above = folder / name, folder.parent / name
        if folder.parts[4] == "cpuset" and not mine.read_text("utf-8").strip():
            mine.write_text(above.read_text("utf-8"), "utf-8")
    if (above := folder.parent / "cgroup.subtree_control").exists():
        for controller in (folder.parent / "cgroup.controllers").read_text("utf-8").split():
            with contextlib.suppress(OSError):  # cannot be delegated; a kubelet that needs it says so
                above.write_text(f"+{controller}", "utf-8")


def doors(bed: Bed) -> list[Path]:
    """The files by which a process joins the bed."""
    return [folder / "parts" / "cgroup.procs" for folder in folders(bed)]


def _tree(folder: Path) -> Iterator[Path]:
    """A cgroup and all below it, the lowest first."""
    for path, _, _ in os.walk(folder, topdown=False):
        yield Path(path)


def members(bed: Bed) -> set[int]:
    """The process ids of everything in the bed."""
    found: set[int] = set()
    for folder in folders(bed):
        for cgroup in _tree(folder):
            with contextlib.suppress(OSError):  # it went away, and its processes with it
                found.update(map(int, (cgroup / "cgroup.procs").read_text("utf-8").split()))
    return found


def end(bed: Bed, seconds: float = 20) -> int:
    """Kill every process of the bed and remove the subtree; the number of processes that were killed.

    Raises:
        BedError: something will not die or the subtree cannot be removed.
    """
    killed: set[int] = set()
    until = time.monotonic() + seconds
    while True:
        alive = members(bed)
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= alive
        if not alive and _removed(bed):
            return len(killed)
        if time.monotonic() > until:
            raise BedError(f"the bed's cgroup {bed.cgroup} cannot be emptied; still there: {sorted(alive)}")
        time.sleep(0.05)


def _removed(bed: Bed) -> bool:
    for folder in folders(bed):
        for cgroup in _tree(folder):
            with contextlib.suppress(OSError):
                cgroup.rmdir()
    return not any(folder.exists() for folder in folders(bed))
