"""The network and mount namespaces of a bed, kept by one sleeping process."""

import subprocess
import time
from pathlib import Path

from tests.bed import processes
from tests.bed.failures import BedError
from tests.bed.layout import HERE, NODE_ADDRESS, SERVICE_RANGE, Bed

KINDS = ("net", "mnt")


def identity(pid: int | str, kind: str) -> str:
    """The namespace of a process, e.g. ``net:[4026532277]``."""
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def create(bed: Bed) -> None:
    """Make the namespaces and furnish them.

    Raises:
        BedError: the kernel refuses one.
    """
    unshare = ["unshare", "--mount", "--net", "--propagation", "private", "--", "sleep", "infinity"]
    holder = processes.start(bed, processes.HOLDER, unshare, inside=False)
    until = time.monotonic() + 5
    while not _apart(holder.pid):
        if not holder.alive or time.monotonic() > until:
            raise BedError(f"no namespaces for the bed: {bed.log(processes.HOLDER).read_text('utf-8')[-500:]}")
        time.sleep(0.01)
    script = Path(HERE / "inside.sh").read_text("utf-8")
    try:
        processes.run_inside(bed, "sh", "-c", script, "inside", str(bed.state), NODE_ADDRESS, SERVICE_RANGE)
    except subprocess.CalledProcessError as failed:
        raise BedError(f"the bed's namespaces could not be furnished: {failed.stderr}") from failed


def _apart(pid: int) -> bool:
    """Whether it has left this program's namespaces and become the sleeper."""
    try:
        left = all(identity(pid, kind) != identity("self", kind) for kind in KINDS)
        return left and Path(f"/proc/{pid}/comm").read_text("utf-8").strip() == "sleep"
    except (FileNotFoundError, ProcessLookupError):
        return False
