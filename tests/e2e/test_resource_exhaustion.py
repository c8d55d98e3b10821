"""A full disk or too little memory: clear errors, no partial files, no lost data."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.servers import ServerProcess, server
from tests.factories.small_jobs import SPEC, ensure_test_data

from windlass.domain.errors import StorageFullError
from windlass.wire.datasets import UploadOut

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

DISK_MIB, RESERVE_MIB = 64, 16
OWN_MOUNTS = ("unshare", "--mount", "--map-root-user")


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose data directory is a small tmpfs in its own mount namespace."""
    if subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces are not available to users on this machine")
    mount = f'mount -t tmpfs -o size={DISK_MIB}m tmpfs "$0" && exec "$@"'
    home = tmp_path_factory.mktemp("small_disk") / "home"
    prefix = (*OWN_MOUNTS, "sh", "-c", mount, str(home))
    with server(home, prefix, WINDLASS_LIMIT_MIN_FREE_DISK_BYTES=str(RESERVE_MIB << 20)) as running:
        yield running


def rows(path: Path, mebibytes: int) -> Path:
    """Write a valid dataset of random text that file systems cannot compress."""
    rng = random.Random(mebibytes)
    with path.open("w", encoding="utf-8") as stream:
        stream.write("text,label\n")
        for number in range(mebibytes * 1024):
            stream.write(f"{rng.randbytes(510).hex()},{number % 2}\n")
    return path


def free_mib(server_process: ServerProcess) -> float:
    status = os.statvfs(server_process.path_on_server)
    return status.f_bavail * status.f_frsize / 2**20


def test_full_disk_rejects_the_upload_only(small_disk: ServerProcess, tmp_path: Path) -> None:
    client = small_disk.start()
    small = client.datasets.upload("small", [rows(tmp_path / "small.csv", 1)], task="text-classification")
    assert client.datasets.wait(small.ref).state == "ready"
    created: list[UploadOut] = []
    large = rows(tmp_path / "large.csv", DISK_MIB + 8)
    with pytest.raises(StorageFullError, match="disk is full") as raised:
        client.datasets.upload("large", [large], task="text-classification", on_created=created.append)
    assert raised.value.hint
    assert client.datasets.get("small").latest == 1
    assert client.datasets.get("large").latest is None
    client.datasets.abort_upload(created[0].id)
    small_disk.wait_until(lambda: free_mib(small_disk) > DISK_MIB / 2, "the files of the aborted upload are deleted")
    retry = client.datasets.upload("small", [rows(tmp_path / "more.csv", 2)], task="text-classification")
    assert client.datasets.wait(retry.ref).state == "ready"


def test_disk_full_during_processing_fails_the_version_and_frees_the_space(
    small_disk: ServerProcess, tmp_path: Path
) -> None:
    """The upload fits on the disk; the processed rows do not."""
    client = small_disk.start()
    before = free_mib(small_disk)
    half = rows(tmp_path / "half.csv", int((before - RESERVE_MIB) * 0.7))
    failed = client.datasets.upload("half", [half], task="text-classification")
    failed = client.datasets.wait(failed.ref)
    assert failed.state == "failed"
    assert "no space left" in failed.problem
    small_disk.wait_until(lambda: free_mib(small_disk) > before - 2, "partial files are deleted")
    assert client.datasets.get("small").latest == 2
    retry = client.datasets.upload("half", [rows(tmp_path / "less.csv", 2)], task="text-classification")
    assert client.datasets.wait(retry.ref).state == "ready"


def test_model_that_does_not_fit_into_memory_is_rejected_before_the_oom_killer_acts(
    small_disk: ServerProcess, tiny: Path, tmp_path: Path
) -> None:
    client = small_disk.start()
    ensure_test_data(client, tiny, tmp_path)
    job = client.jobs.create(SPEC | {"model": "tuned", "training": SPEC["training"] | {"max_steps": 5}})
    assert client.jobs.wait(job.id, timeout=240).state == "succeeded"
    # 200 MiB, half used: too little for the model, but below the threshold of Ray's memory monitor
    small = {"MemTotal": 204_800, "MemFree": 102_400, "MemAvailable": 102_400}
    meminfo = [line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines()]
    lines = [f"{name}: {small[name]} kB" if name in small else f"{name}:{value}" for name, value in meminfo]
    (small_disk.path_on_server / "meminfo").write_text("\n".join(lines) + "\n")
    nsenter(small_disk, "mount", "--bind", str(small_disk.home / "meminfo"), "/proc/meminfo")
    spec = {"traffic": [{"model": "tuned", "version": 1, "weight": 100}]}
    client.endpoints.create("reviews", spec)
    failed = client.endpoints.wait("reviews", timeout=120)
    nsenter(small_disk, "umount", "/proc/meminfo")
    assert failed.state == "failed"
    assert failed.reason is not None
    assert "no free memory for the model" in failed.reason.message
    assert failed.reason.action_by == "admin"
    assert client.jobs.get(job.id).state == "succeeded"

    def is_served() -> bool:
        """Retry the rollout: the model server backs off after a failure."""
        client.endpoints.update("reviews", spec)
        return client.endpoints.wait("reviews", timeout=120).state == "ready"

    small_disk.wait_until(is_served, "the model is served once memory is free")
    assert client.endpoints.predict("reviews", ["good"])[0].label


def nsenter(server_process: ServerProcess, *command: str) -> None:
    """Run a command in the mount namespace of the server."""
    assert server_process.process is not None
    namespaces = ["nsenter", "--target", str(server_process.process.pid), "--mount", "--user", "--preserve-credentials"]
    subprocess.run([*namespaces, *command], check=True, capture_output=True)
