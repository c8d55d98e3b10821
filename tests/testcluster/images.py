"""Prepares containerd's folder: the imported images, and no pods or containers.

Imports take seconds to minutes, so the folder is kept between starts. A cluster that was killed leaves pods and
containers in containerd's databases; therefore the databases are copied right after the imports, and each start
restores that copy.
"""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.testcluster import processes
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import LocalCluster

_TIMEOUT_SECONDS = 30
# Image content: large and immutable.
_CONTENT = Path("io.containerd.content.v1.content/blobs")
_SNAPSHOTS = Path("io.containerd.snapshotter.v1.overlayfs/snapshots")


def prepare(cluster: LocalCluster, archives: Iterable[Path]) -> None:
    """Restore containerd's folder, and import the archives that are missing."""
    wanted = sorted(map(_mark, archives))
    imported = _imported(cluster)
    if imported is None:  # the first start, or an interrupted import
        for folder in (cluster.state / "containerd", _pristine(cluster)):
            shutil.rmtree(folder, ignore_errors=True)
    else:
        _restore(cluster)
    missing = [mark for mark in wanted if mark not in (imported or [])]
    if missing:
        _list(cluster).unlink(missing_ok=True)
        _import(cluster, [Path(mark[0]) for mark in missing])
        _save_pristine(cluster, sorted([*(imported or []), *missing]))


def add(cluster: LocalCluster, archive: Path) -> None:
    """Import an archive into the running containerd, until the cluster stops."""
    ctr(cluster, "images", "import", str(archive))


def tag(cluster: LocalCluster, image: str, name: str) -> None:
    """Give an image another name in the running containerd, until the cluster stops."""
    ctr(cluster, "images", "tag", "--force", image, name)


def start_runtime(cluster: LocalCluster) -> None:
    """Start containerd."""
    config = str(cluster.path_inside(cluster.state / "etc" / "containerd.toml"))
    processes.start(cluster, "containerd", ["containerd", "--config", config, "--log-level", "warn"])


def ctr(cluster: LocalCluster, *arguments: str) -> str:
    socket = str(cluster.path_inside(cluster.run_dir / "containerd.sock"))
    return processes.run_inside(cluster, "ctr", "--address", socket, "--namespace", "k8s.io", *arguments)


def runtime_ready(cluster: LocalCluster) -> bool:
    return (cluster.run_dir / "containerd.sock").exists()


def _mark(archive: Path) -> list[str]:
    """Path and identity of an archive: archives are replaced by renaming, which changes inode and time."""
    stat = archive.stat()
    return [str(archive), hashlib.sha256(f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()]


def _pristine(cluster: LocalCluster) -> Path:
    return cluster.state / "pristine"


def _list(cluster: LocalCluster) -> Path:
    """The images in the pristine copy; written last."""
    return _pristine(cluster) / "imported.json"


def _imported(cluster: LocalCluster) -> list[list[str]] | None:
    try:
        imported: list[list[str]] = json.loads(_list(cluster).read_text("utf-8"))
    except FileNotFoundError:
        return None
    return imported


def _import(cluster: LocalCluster, archives: list[Path]) -> None:
    start_runtime(cluster)
    _wait(cluster, lambda: runtime_ready(cluster), "start")
    for archive in archives:
        add(cluster, archive)
    record = processes.process_records(cluster)["containerd"]
    os.kill(record.pid, signal.SIGTERM)
    _wait(cluster, lambda: not record.alive, "stop")
    processes.delete_record(cluster, "containerd")
    (cluster.run_dir / "containerd.sock").unlink(missing_ok=True)


def _wait(cluster: LocalCluster, condition: Callable[[], bool], action: str) -> None:
    until = time.monotonic() + _TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise LocalClusterError(f"containerd does not {action}; see {cluster.log('containerd')}")
        time.sleep(0.05)


def _save_pristine(cluster: LocalCluster, imported: list[list[str]]) -> None:
    """Copy everything but the image content, and list the snapshots."""
    shutil.rmtree(_pristine(cluster), ignore_errors=True)
    source = cluster.state / "containerd"
    excluded = {source / _CONTENT, source / _SNAPSHOTS}

    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(folder) / name in excluded]

    shutil.copytree(source, _pristine(cluster) / "files", ignore=ignored)
    names = sorted(path.name for path in (source / _SNAPSHOTS).iterdir())
    (_pristine(cluster) / "snapshots.json").write_text(json.dumps(names), "utf-8")
    draft = _pristine(cluster) / "draft"
    draft.write_text(json.dumps(imported), "utf-8")
    draft.rename(_list(cluster))


def _restore(cluster: LocalCluster) -> None:
    target = cluster.state / "containerd"
    names = set(json.loads((_pristine(cluster) / "snapshots.json").read_text("utf-8")))
    for snapshot in (target / _SNAPSHOTS).iterdir():
        if snapshot.name not in names:
            shutil.rmtree(snapshot)
    for top in target.iterdir():
        for path in [top] if not top.is_dir() else list(top.iterdir()):
            if path in {target / _CONTENT, target / _SNAPSHOTS}:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(_pristine(cluster) / "files", target, dirs_exist_ok=True)
