"""The fixture by which tests get the cluster: a running one, or one that it starts and the last of its users ends."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.bed import lifecycle
from tests.bed.failures import UNABLE
from tests.bed.layout import REPOSITORY, Bed, default_cache, default_state


def command(bed: Bed, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the bed as people do."""
    argv = [sys.executable, "-m", "tests.bed", "--state", str(bed.state), *arguments]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Bed]:
    """The bed of this checkout, up. Skips where the machine cannot have one."""
    bed = Bed(default_state(), default_cache())
    was_up = lifecycle.is_up(bed)
    started = command(bed, "up")
    if started.returncode == UNABLE:
        pytest.skip(started.stderr.strip())
    if started.returncode:
        pytest.fail(f"{started.stdout}\n{started.stderr}", pytrace=False)
    ours = bed.life / "started-by-tests"
    if not was_up:
        ours.touch()
    # Workers of one run share the cluster. Each holds the file; who can have it alone is the last.
    with (bed.state / "users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield bed
        if ours.exists():
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            command(bed, "down")
