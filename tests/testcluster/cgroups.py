"""The cluster's cgroup subtree: one folder per hierarchy, with ``components`` for its programs and the kubelet's pods.

It contains every process of the cluster, recorded or not, so killing the subtree stops all of it.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import LocalCluster

ROOT = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """Every cgroup mount point: one of version 2, one for each controller of version 1, or both.

    With both, runc also creates folders in the version 2 hierarchy, which has no controllers then.
    """
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    types = {Path(mount[1]): mount[2] for mount in mounts if Path(mount[1]).is_relative_to(ROOT)}
    return sorted(path for path, filesystem in types.items() if filesystem in {"cgroup", "cgroup2"})


def folders(cluster: LocalCluster) -> list[Path]:
    return [hierarchy / cluster.cgroup for hierarchy in hierarchies()]


def create(cluster: LocalCluster) -> None:
    """Create the subtree.

    Raises:
        LocalClusterError: cgroups are not mounted, or not writable.
    """
    if not hierarchies():
        raise LocalClusterError(f"no cgroup hierarchy is mounted below {ROOT}")
    for folder in folders(cluster):
        for each in (folder, folder / "components"):
            each.mkdir(exist_ok=True)
            _enable_controllers(each)


def _enable_controllers(folder: Path) -> None:
    """Copy the parent's cpuset (version 1: a new one is empty), or delegate its controllers (version 2)."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        own, parent = folder / name, folder.parent / name
        if folder.parts[4] == "cpuset" and not own.read_text("utf-8").strip():
            own.write_text(parent.read_text("utf-8"), "utf-8")
    if (control := folder.parent / "cgroup.subtree_control").exists():
        for controller in (folder.parent / "cgroup.controllers").read_text("utf-8").split():
            with contextlib.suppress(OSError):  # cannot be delegated; a kubelet that needs it fails with a message
                control.write_text(f"+{controller}", "utf-8")


def procs_files(cluster: LocalCluster) -> list[Path]:
    """The ``cgroup.procs`` files; a process that writes its id there joins the cluster's cgroups."""
    return [folder / "components" / "cgroup.procs" for folder in folders(cluster)]


def _tree(folder: Path) -> Iterator[Path]:
    """A cgroup and its descendants, the deepest first."""
    for path, _, _ in os.walk(folder, topdown=False):
        yield Path(path)


def process_ids(cluster: LocalCluster) -> set[int]:
    """The ids of all processes in the subtree."""
    pids: set[int] = set()
    for folder in folders(cluster):
        for cgroup in _tree(folder):
            with contextlib.suppress(OSError):  # it was removed meanwhile
                pids.update(map(int, (cgroup / "cgroup.procs").read_text("utf-8").split()))
    return pids


def end(cluster: LocalCluster, seconds: float = 20) -> int:
    """Kill every process of the cluster, remove the subtree, and return the number of killed processes.

    Raises:
        LocalClusterError: a process survives or the subtree cannot be removed.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + seconds
    while True:
        alive = process_ids(cluster)
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= alive
        if not alive and _removed(cluster):
            return len(killed)
        if time.monotonic() > deadline:
            raise LocalClusterError(f"cannot empty cgroup {cluster.cgroup}; remaining processes: {sorted(alive)}")
        time.sleep(0.05)


def _removed(cluster: LocalCluster) -> bool:
    for folder in folders(cluster):
        for cgroup in _tree(folder):
            with contextlib.suppress(OSError):
                cgroup.rmdir()
    return not any(folder.exists() for folder in folders(cluster))
