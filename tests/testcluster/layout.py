"""Paths, names and addresses of a test cluster."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

PACKAGE_DIR = Path(__file__).parent
REPOSITORY = PACKAGE_DIR.parents[1]

NODE = "testcluster"
NODE_ADDRESS = "10.244.0.1"
POD_RANGE = "10.244.0.0/24"
SERVICE_RANGE = "10.96.0.0/16"
DNS_ADDRESS = "10.96.0.10"
API_SERVER_URL = f"https://{NODE_ADDRESS}:6443"
ETCD = "http://127.0.0.1:2379"

STATE_MOUNT = Path("/run/testcluster")
"""The state folder inside the namespaces: short enough for Unix sockets, and the same for every cluster."""


def default_state() -> Path:
    """The state folder of this checkout's cluster."""
    return Path(os.environ.get("WINDLASS_TESTCLUSTER_STATE") or REPOSITORY / ".testcluster").resolve()


def default_cache() -> Path:
    """Built binaries and images, shared by all clusters and checkouts of this user."""
    if given := os.environ.get("WINDLASS_TESTCLUSTER_CACHE"):
        return Path(given).resolve() / "windlass-testcluster"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "windlass-testcluster"


@dataclass(frozen=True)
class LocalCluster:
    """The paths of one test cluster, identified by its state folder."""

    state: Path
    cache: Path

    @property
    def cgroup(self) -> str:
        """The name of the cluster's subtree in each cgroup hierarchy."""
        return "windlass-testcluster-" + hashlib.sha256(str(self.state).encode()).hexdigest()[:8]

    @property
    def run_dir(self) -> Path:
        """Files of the running cluster, deleted when it stops."""
        return self.state / "run"

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
        """One file per started process."""
        return self.run_dir / "processes"

    @property
    def kubeconfig(self) -> Path:
        """For kubectl and tests on the host."""
        return self.state / "kubeconfig"

    @property
    def ready_file(self) -> Path:
        """Exists after a complete start, and lists the cache entries in use."""
        return self.run_dir / "ready"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def path_inside(self, path: Path) -> Path:
        """The path inside the namespaces of a path in the state folder."""
        return STATE_MOUNT / path.relative_to(self.state)
