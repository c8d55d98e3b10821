"""The ``cluster`` fixture: uses a running cluster, or starts one and stops it after its last user."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.testcluster import lifecycle
from tests.testcluster.errors import EXIT_UNSUPPORTED
from tests.testcluster.layout import REPOSITORY, LocalCluster, default_cache, default_state


def command(cluster: LocalCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a test cluster command in a process."""
    argv = [sys.executable, "-m", "tests.testcluster", "--state", str(cluster.state), *arguments]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """The running cluster of this checkout. Skips on a machine that cannot run it."""
    cluster = LocalCluster(default_state(), default_cache())
    was_up = lifecycle.is_up(cluster)
    started = command(cluster, "up")
    if started.returncode == EXIT_UNSUPPORTED:
        pytest.skip(started.stderr.strip())
    if started.returncode:
        pytest.fail(f"{started.stdout}\n{started.stderr}", pytrace=False)
    started_mark = cluster.run_dir / "started-by-tests"
    if not was_up:
        started_mark.touch()
    # Test workers share the cluster: each holds a shared lock, and the one that gets it exclusively is the last.
    with (cluster.state / "users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield cluster
        if started_mark.exists():
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            command(cluster, "down")
