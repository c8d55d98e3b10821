"""``up``, ``down`` and ``status``."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.bed import (
    builds,
    certificates,
    cgroups,
    configuration,
    control_plane,
    fake_nodes,
    images,
    namespaces,
    node,
    operators,
    parts,
    processes,
    project_images,
    reset,
    versions,
)
from tests.bed.builds import Built
from tests.bed.cluster_api import ClusterApi
from tests.bed.layout import Bed

Say = Callable[[str, float], None]
_LIFE_FOLDERS = ("processes", "home", "tmp", "pods", "plugins")
_BARE = ("kubernetes", "etcd", "containerd", "coredns", "pause")


@contextlib.contextmanager
def one_at_a_time(bed: Bed) -> Iterator[None]:
    """Commands that change a bed wait for each other; the lock ends with its holder, also by kill -9."""
    bed.state.mkdir(parents=True, exist_ok=True)
    with builds.locked(bed.state / "lock"):
        yield


def up(bed: Bed, say: Say, *, bare: bool = False, of_project: Sequence[str] = ()) -> None:
    """Bring the bed up: build what is not built, start everything, return when all of it serves.

    ``bare`` leaves out the fake nodes, Kueue and KubeRay; ``of_project`` names images of this repository to have on the
    bed. A bed that runs and has what is asked for stays as it is.
    """
    groups = versions.read()
    wanted = [group for name, group in groups.items() if not bare or name in _BARE]
    built = builds.build_all(wanted, bed.cache, say)
    projects = project_images.build_all(of_project, bed.cache, say)
    made_of = {each.folder.name for each in built.values()}
    if is_up(bed) and made_of <= _running(bed):
        for archive in projects:
            if archive.name not in _running(bed):
                images.add(bed, archive)
                _mark_ready(bed, {archive.name})
        return
    down(bed)
    _prepare(bed, built)
    archives = [*(each.archive for each in built.values() if each.group.image), *projects]
    chosen = [
        parts.Part("namespaces", namespaces.create),
        parts.Part("certificates", _write_configuration),
        parts.Part("images", lambda bed: images.prepare(bed, archives), needs=("namespaces", "certificates")),
        *control_plane.PARTS,
        *node.PARTS,
    ]
    if not bare:
        chosen += [*fake_nodes.parts(built["kwok"]), *operators.parts(built["kuberay"], built["kueue"])]
    parts.start_all(bed, chosen, say)
    reset.take_note(bed)
    _mark_ready(bed, made_of | {archive.name for archive in projects})


def is_up(bed: Bed) -> bool:
    """Whether a start went through, and everything that it started still runs."""
    return bed.ready_mark.exists() and all(record.alive for record in processes.recorded(bed).values())


def _running(bed: Bed) -> set[str]:
    """The entries of the cache that a bed which is up was made of."""
    return set(bed.ready_mark.read_text("utf-8").split())


def _mark_ready(bed: Bed, entries: set[str]) -> None:
    known = _running(bed) if bed.ready_mark.exists() else set()
    draft = bed.life / "ready.draft"
    draft.write_text("\n".join(sorted(known | entries)), "utf-8")
    draft.rename(bed.ready_mark)


def down(bed: Bed) -> int:
    """End everything of the bed and return how many processes that were. Its namespaces and mounts go with the last.

    Binaries, certificates, imported images and logs stay for the next ``up``.
    """
    ended = cgroups.end(bed)
    for record in processes.recorded(bed).values():  # none is left but for a cgroup that somebody else removed
        if record.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGKILL)
    _remove(bed.life)
    bed.kubeconfig.unlink(missing_ok=True)
    return ended


def _remove(folder: Path, seconds: float = 5) -> None:
    """Remove a folder; what a dying process still wrote into it makes a second try necessary."""
    until = time.monotonic() + seconds
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=time.monotonic() < until)


def _prepare(bed: Bed, built: dict[str, Built]) -> None:
    """The folders of a new life, links to the binaries, and the cgroups."""
    for name in _LIFE_FOLDERS:
        (bed.life / name).mkdir(parents=True)
    for folder in (bed.bin, bed.logs):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for each in built.values():
        for name in each.group.binaries:
            (bed.bin / name).symlink_to(each.binary(name))
    (bed.state / ".gitignore").write_text("*\n", "utf-8")
    cgroups.create(bed)


def _write_configuration(bed: Bed) -> None:
    certificates.make(bed)
    configuration.write(bed)


def status(bed: Bed) -> list[tuple[str, str]]:
    """What runs, as pairs of a name and what there is to say about it; empty when the bed is down."""
    lines = []
    for record in processes.recorded(bed).values():
        said = f"pid {record.pid}, {record.memory >> 20} MiB" if record.alive else "ended"
        lines.append((record.name, said))
    if lines and bed.kubeconfig.exists():
        with ClusterApi(bed) as api:
            found = api.read("/api/v1/nodes")
            lines.append(("cluster", f"{len(found['items'])} nodes" if found else "does not answer"))
    return lines
