"""What a full disk and a lack of memory do to a real server: a clear refusal, nothing half-written, nothing lost."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import SPEC, furnish
from tests.e2e.servers import Server, server

from windlass.domain.errors import StorageFullError
from windlass.wire.datasets import UploadOut

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

DISK_MIB, RESERVE_MIB = 64, 16
OWN_MOUNTS = ("unshare", "--mount", "--map-root-user")


@pytest.fixture(scope="module")
def cramped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose data folder is a small disk of its own; it alone sees the mount."""
    if subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets a user make no mount namespace")
    mount = f'mount -t tmpfs -o size={DISK_MIB}m tmpfs "$0" && exec "$@"'
    home = tmp_path_factory.mktemp("cramped") / "home"
    prefix = (*OWN_MOUNTS, "sh", "-c", mount, str(home))
    with server(home, prefix, WINDLASS_LIMIT_RESERVE_BYTES=str(RESERVE_MIB << 20)) as running:
        yield running


def rows(path: Path, mebibytes: int) -> Path:
    """Write a valid dataset of random words, so that no file system makes it smaller."""
    chance = random.Random(mebibytes)
    with path.open("w", encoding="utf-8") as stream:
        stream.write("text,label\n")
        for number in range(mebibytes * 1024):
            stream.write(f"{chance.randbytes(510).hex()},{number % 2}\n")
    return path


def free_mib(one: Server) -> float:
    status = os.statvfs(one.seen)
    return status.f_bavail * status.f_frsize / 2**20


def test_a_full_disk_refuses_the_upload_and_nothing_else(cramped: Server, tmp_path: Path) -> None:
    client = cramped.start()
    small = client.datasets.upload("small", [rows(tmp_path / "small.csv", 1)], task="text-classification")
    assert client.datasets.wait(small.ref).state == "ready"
    opened: list[UploadOut] = []
    large = rows(tmp_path / "large.csv", DISK_MIB + 8)
    with pytest.raises(StorageFullError, match="disk is full") as refusal:
        client.datasets.upload("large", [large], task="text-classification", opened=opened.append)
    assert refusal.value.hint
    assert client.datasets.get("small").latest == 1
    assert client.datasets.get("large").latest is None
    client.datasets.abort_upload(opened[0].id)
    cramped.until(lambda: free_mib(cramped) > DISK_MIB / 2, "the bytes of the aborted upload go")
    again = client.datasets.upload("small", [rows(tmp_path / "more.csv", 2)], task="text-classification")
    assert client.datasets.wait(again.ref).state == "ready"


def test_a_disk_that_fills_while_rows_are_read_is_told_and_freed_again(cramped: Server, tmp_path: Path) -> None:
    """The upload fits; what is made of it does not."""
    client = cramped.start()
    before = free_mib(cramped)
    half = rows(tmp_path / "half.csv", int((before - RESERVE_MIB) * 0.7))
    failed = client.datasets.upload("half", [half], task="text-classification")
    failed = client.datasets.wait(failed.ref)
    assert failed.state == "failed"
    assert "no space left" in failed.problem
    cramped.until(lambda: free_mib(cramped) > before - 2, "what was half-written is gone")
    assert client.datasets.get("small").latest == 2
    again = client.datasets.upload("half", [rows(tmp_path / "less.csv", 2)], task="text-classification")
    assert client.datasets.wait(again.ref).state == "ready"


def test_a_model_that_does_not_fit_into_memory_is_refused_before_the_kernel_kills_for_it(
    cramped: Server, tiny: Path, tmp_path: Path
) -> None:
    client = cramped.start()
    furnish(client, tiny, tmp_path)
    job = client.jobs.create(SPEC | {"model": "tuned", "training": SPEC["training"] | {"max_steps": 5}})
    assert client.jobs.wait(job.id, timeout=240).state == "succeeded"
    # a small machine, half used: little enough for the check, too little used for Ray's own monitor to kill for it
    small = {"MemTotal": 204_800, "MemFree": 102_400, "MemAvailable": 102_400}
    told = [line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines()]
    lines = [f"{name}: {small[name]} kB" if name in small else f"{name}:{value}" for name, value in told]
    (cramped.seen / "meminfo").write_text("\n".join(lines) + "\n")
    inside(cramped, "mount", "--bind", str(cramped.home / "meminfo"), "/proc/meminfo")
    spec = {"traffic": [{"model": "tuned", "version": 1, "weight": 100}]}
    client.endpoints.create("reviews", spec)
    refused = client.endpoints.wait("reviews", timeout=120)
    inside(cramped, "umount", "/proc/meminfo")
    assert refused.state == "failed"
    assert refused.reason is not None
    assert "no free memory for the model" in refused.reason.message
    assert refused.reason.owner == "admin"
    assert client.jobs.get(job.id).state == "succeeded"

    def served() -> bool:
        """Wish it again: right after a refusal the model server pauses, and says so at once."""
        client.endpoints.update("reviews", spec)
        return client.endpoints.wait("reviews", timeout=120).state == "ready"

    cramped.until(served, "it is served, now that there is memory")
    assert client.endpoints.predict("reviews", ["good"]).predictions


def inside(one: Server, *command: str) -> None:
    """Run a command with the mounts that the server sees."""
    assert one.process is not None
    namespaces = ["nsenter", "--target", str(one.process.pid), "--mount", "--user", "--preserve-credentials"]
    subprocess.run([*namespaces, *command], check=True, capture_output=True)
