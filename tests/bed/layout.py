"""Where a bed keeps what, and by which names and addresses its parts know each other."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]

NODE = "bed"
NODE_ADDRESS = "10.244.0.1"
SERVICE_RANGE = "10.96.0.0/16"
DNS_ADDRESS = "10.96.0.10"
API_INSIDE = f"https://{NODE_ADDRESS}:6443"
ETCD = "http://127.0.0.1:2379"

INSIDE = Path("/run/bed")
"""The state folder as the parts see it: short enough for sockets, and the same for every bed, so are configurations."""


def default_state() -> Path:
    """The bed of this checkout."""
    return Path(os.environ.get("WINDLASS_BED_STATE") or REPOSITORY / ".bed").resolve()


def default_cache() -> Path:
    """Built binaries and images, shared by every bed and every checkout of this user."""
    if given := os.environ.get("WINDLASS_BED_CACHE"):
        return Path(given).resolve() / "windlass-bed"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "windlass-bed"


@dataclass(frozen=True)
class Bed:
    """One bed, known by its state folder."""

    state: Path
    cache: Path

    @property
    def cgroup(self) -> str:
        """The name of the bed's subtree in each cgroup hierarchy."""
        return "windlass-bed-" + hashlib.sha256(str(self.state).encode()).hexdigest()[:8]

    @property
    def life(self) -> Path:
        """What belongs to one life of the cluster; gone when the next one begins."""
        return self.state / "life"

    @property
    def bin(self) -> Path:
        """Links to the binaries, for PATH."""
        return self.state / "bin"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def records(self) -> Path:
        """One file for each started process."""
        return self.life / "processes"

    @property
    def kubeconfig(self) -> Path:
        """For kubectl and tests on the host."""
        return self.state / "kubeconfig"

    @property
    def ready_mark(self) -> Path:
        """Exists when a start has gone through to its end, and names the entries of the cache that run."""
        return self.life / "ready"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def inside(self, path: Path) -> Path:
        """A path of the state folder as the parts see it."""
        return INSIDE / path.relative_to(self.state)
