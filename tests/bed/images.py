"""The images that containerd has when a life begins, and nothing else.

Importing costs seconds to minutes, so containerd's folder is kept between lives. A life that was cut off leaves pods
and containers in containerd's databases; therefore the databases of a containerd that has imported and done nothing
else are copied aside, and each life begins with that copy.
"""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from tests.bed import processes
from tests.bed.failures import BedError
from tests.bed.layout import Bed

# What images consist of: big, and never changed once written.
_CONTENT = Path("io.containerd.content.v1.content/blobs")
_SNAPSHOTS = Path("io.containerd.snapshotter.v1.overlayfs/snapshots")


def prepare(bed: Bed, archives: Iterable[Path]) -> None:
    """Bring containerd's folder to the state of having imported the archives."""
    wanted = sorted(map(_mark, archives))
    known = _imported(bed)
    if known is None:  # the first time, or an import that was cut off
        for folder in (bed.state / "containerd", _pristine(bed)):
            shutil.rmtree(folder, ignore_errors=True)
    else:
        _restore(bed)
    missing = [mark for mark in wanted if mark not in (known or [])]
    if missing:
        _list(bed).unlink(missing_ok=True)
        _import(bed, [Path(mark[0]) for mark in missing])
        _set_aside(bed, sorted([*(known or []), *missing]))


def add(bed: Bed, archive: Path) -> None:
    """Import an archive into the containerd that runs, for this life."""
    ctr(bed, "images", "import", str(archive))


def start_runtime(bed: Bed) -> None:
    """Start containerd."""
    config = str(bed.inside(bed.state / "etc" / "containerd.toml"))
    processes.start(bed, "containerd", ["containerd", "--config", config, "--log-level", "warn"])


def ctr(bed: Bed, *arguments: str) -> str:
    socket = str(bed.inside(bed.life / "containerd.sock"))
    return processes.run_inside(bed, "ctr", "--address", socket, "--namespace", "k8s.io", *arguments)


def runtime_ready(bed: Bed) -> bool:
    return (bed.life / "containerd.sock").exists()


def _mark(archive: Path) -> list[str]:
    """Path and identity of an archive; archives are replaced by renaming, so the inode's time tells them apart."""
    known = archive.stat()
    return [str(archive), hashlib.sha256(f"{known.st_ino} {known.st_size} {known.st_mtime_ns}".encode()).hexdigest()]


def _pristine(bed: Bed) -> Path:
    return bed.state / "pristine"


def _list(bed: Bed) -> Path:
    """What the copy that was set aside has imported; written last."""
    return _pristine(bed) / "imported.json"


def _imported(bed: Bed) -> list[list[str]] | None:
    try:
        found: list[list[str]] = json.loads(_list(bed).read_text("utf-8"))
    except FileNotFoundError:
        return None
    return found


def _import(bed: Bed, archives: list[Path]) -> None:
    start_runtime(bed)
    until = time.monotonic() + 30
    while not runtime_ready(bed):
        if time.monotonic() > until:
            raise BedError(f"containerd does not come up; see {bed.log('containerd')}")
        time.sleep(0.05)
    for archive in archives:
        add(bed, archive)
    record = processes.recorded(bed)["containerd"]
    os.kill(record.pid, signal.SIGTERM)
    while record.alive:
        if time.monotonic() > until + 30:
            raise BedError(f"containerd does not end; see {bed.log('containerd')}")
        time.sleep(0.05)
    processes.forget(bed, "containerd")
    (bed.life / "containerd.sock").unlink(missing_ok=True)


def _set_aside(bed: Bed, imported: list[list[str]]) -> None:
    """Copy everything but the images' content, and note which snapshots there are."""
    shutil.rmtree(_pristine(bed), ignore_errors=True)
    source = bed.state / "containerd"
    kept = {source / _CONTENT, source / _SNAPSHOTS}

    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(folder) / name in kept]

    shutil.copytree(source, _pristine(bed) / "files", ignore=ignored)
    names = sorted(path.name for path in (source / _SNAPSHOTS).iterdir())
    (_pristine(bed) / "snapshots.json").write_text(json.dumps(names), "utf-8")
    draft = _pristine(bed) / "draft"
    draft.write_text(json.dumps(imported), "utf-8")
    draft.rename(_list(bed))


def _restore(bed: Bed) -> None:
    target = bed.state / "containerd"
    names = set(json.loads((_pristine(bed) / "snapshots.json").read_text("utf-8")))
    for snapshot in (target / _SNAPSHOTS).iterdir():
        if snapshot.name not in names:
            shutil.rmtree(snapshot)
    for top in target.iterdir():
        for path in [top] if not top.is_dir() else list(top.iterdir()):
            if path in {target / _CONTENT, target / _SNAPSHOTS}:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(_pristine(bed) / "files", target, dirs_exist_ok=True)
