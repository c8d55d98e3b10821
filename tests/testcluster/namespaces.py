"""The cluster's network and mount namespaces, held open by one sleeping process."""

import subprocess
import time
from pathlib import Path

from tests.testcluster import processes
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import NODE_ADDRESS, PACKAGE_DIR, SERVICE_RANGE, LocalCluster

KINDS = ("net", "mnt")


def identity(pid: int | str, kind: str) -> str:
    """The id of a process's namespace, e.g. ``net:[4026532277]``."""
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def create(cluster: LocalCluster) -> None:
    """Create the namespaces and set up their mounts and network.

    Raises:
        LocalClusterError: the kernel refuses one, or the setup fails.
    """
    unshare = ["unshare", "--mount", "--net", "--propagation", "private", "--", "sleep", "infinity"]
    holder = processes.start(cluster, processes.NAMESPACE_HOLDER, unshare, in_namespaces=False)
    deadline = time.monotonic() + 5
    while not _has_own_namespaces(holder.pid):
        if not holder.alive or time.monotonic() > deadline:
            raise LocalClusterError(
                f"cannot create namespaces: {cluster.log(processes.NAMESPACE_HOLDER).read_text('utf-8')[-500:]}"
            )
        time.sleep(0.01)
    script = Path(PACKAGE_DIR / "setup_namespaces.sh").read_text("utf-8")
    try:
        processes.run_inside(cluster, "sh", "-c", script, "inside", str(cluster.state), NODE_ADDRESS, SERVICE_RANGE)
    except subprocess.CalledProcessError as failed:
        raise LocalClusterError(f"cannot set up the namespaces: {failed.stderr}") from failed


def _has_own_namespaces(pid: int) -> bool:
    """Whether the process runs ``sleep`` in namespaces other than this process's."""
    try:
        separate = all(identity(pid, kind) != identity("self", kind) for kind in KINDS)
        return separate and Path(f"/proc/{pid}/comm").read_text("utf-8").strip() == "sleep"
    except (FileNotFoundError, ProcessLookupError):
        return False
