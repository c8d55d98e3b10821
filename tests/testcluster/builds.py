"""Builds the programs of the groups, and caches them by the hash of their inputs.

Cache entries are written to a temporary folder and renamed, so none is ever partial; a lock per group prevents
concurrent builds of the same entry.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.testcluster import oci
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.prerequisites import go_version
from tests.testcluster.versions import Group

PARALLEL_BUILDS = 2
BUILD_FLAGS = ("-mod=readonly", "-trimpath", "-p", "1")
LINK_FLAGS = ("-s", "-w")
ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local", "GOWORK": "off"}
RECIPE = "1"
"""Part of every hash: increase it when the layout of an entry changes."""


@dataclass(frozen=True)
class BuiltGroup:
    """A built group in the cache."""

    group: Group
    folder: Path
    seconds: float

    @property
    def archive(self) -> Path:
        return self.folder / "image.tar"

    def binary(self, name: str) -> Path:
        return self.folder / "bin" / name

    def file(self, name: str) -> Path:
        """A folder or file copied from the module."""
        return self.folder / "files" / name


def key(group: Group, go: str) -> str:
    """The hash of all inputs of the group's build."""
    components = [RECIPE, go, repr(group), *BUILD_FLAGS, *LINK_FLAGS, *sorted(map("=".join, ENVIRONMENT.items()))]
    digest = hashlib.sha256("\0".join(components).encode())
    for path in sorted(group.folder.iterdir()):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path``; blocks until it is free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def build_all(
    groups: Iterable[Group], cache: Path, report_progress: Callable[[str, float], None]
) -> dict[str, BuiltGroup]:
    """Build the groups that the cache lacks, two at a time and at low priority."""
    go = go_version()
    with ThreadPoolExecutor(PARALLEL_BUILDS) as pool:
        pending = [pool.submit(_ensure, group, cache, key(group, go), report_progress) for group in groups]
        try:
            entries = [each.result() for each in pending]
        except BaseException:
            for each in pending:
                each.cancel()
            raise
    return {entry.group.name: entry for entry in entries}


def _ensure(group: Group, cache: Path, digest: str, report_progress: Callable[[str, float], None]) -> BuiltGroup:
    entry = cache / "go" / f"{group.name}-{digest}"
    if not entry.is_dir():
        with locked(cache / "locks" / group.name):
            if not entry.is_dir():
                began = time.monotonic()
                _build(group, entry)
                seconds = time.monotonic() - began
                report_progress(f"build {group.name} {group.version}", seconds)
                return BuiltGroup(group, entry, seconds)
    return BuiltGroup(group, entry, 0.0)


def _build(group: Group, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
    try:
        for name, package in group.binaries.items():
            link = " ".join([*LINK_FLAGS, *group.stamp])
            _go(group, "build", *BUILD_FLAGS, "-ldflags", link, "-o", str(draft / "bin" / name), package)
        if group.files:
            source = Path(_go(group, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", group.module).strip())
            for name in group.files:
                _copy_writable(source / name, draft / "files" / name)
        if group.image:
            oci.write(draft / "image.tar", group.tagged, draft / "bin" / group.main)
        draft.chmod(0o755)
        draft.rename(entry)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _go(group: Group, *arguments: str) -> str:
    command = ["nice", "-n", "10", "go", *arguments]
    ended = subprocess.run(
        command, cwd=group.folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise LocalClusterError(f"go {arguments[0]} of {group.name} failed in {group.folder}:\n{ended.stderr[-3000:]}")
    return ended.stdout


def _copy_writable(source: Path, target: Path) -> None:
    """Copy and make writable: Go's module cache is read-only, and copies keep modes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copyfile(source, target)
        return
    shutil.copytree(source, target)
    for folder, _, files in os.walk(target):
        for path in [Path(folder), *(Path(folder) / name for name in files)]:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
