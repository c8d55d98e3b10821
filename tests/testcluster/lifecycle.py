"""``up``, ``down`` and ``status``."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.testcluster import (
    backing_services,
    builds,
    certificates,
    cgroups,
    components,
    configuration,
    control_plane,
    database_schema,
    fake_nodes,
    images,
    namespaces,
    network_policy_agent,
    node,
    operators,
    processes,
    project_images,
    reset,
    versions,
)
from tests.testcluster.builds import BuiltGroup
from tests.testcluster.cluster_api import ClusterApi
from tests.testcluster.layout import LocalCluster

ReportProgress = Callable[[str, float], None]
_RUN_FOLDERS = ("processes", "home", "tmp", "pods", "plugins")
_BARE = ("kubernetes", "etcd", "containerd", "coredns", "pause")


@contextlib.contextmanager
def exclusive_lock(cluster: LocalCluster) -> Iterator[None]:
    """Serialise the commands that change a cluster; the lock is released when its process exits, also by SIGKILL."""
    cluster.state.mkdir(parents=True, exist_ok=True)
    with builds.locked(cluster.state / "lock"):
        yield


def build(
    cluster: LocalCluster,
    report_progress: ReportProgress,
    *,
    bare: bool = False,
    project_image_names: Sequence[str] = (),
    with_backing_services: bool = False,
) -> tuple[dict[str, BuiltGroup], dict[str, Path]]:
    """Build what is missing, and return the programs, and the archives of the optional images by name."""
    groups = versions.read()
    services = [groups.pop(backing_services.S3_GROUP)]
    wanted = [group for name, group in groups.items() if not group.tool and (not bare or name in _BARE)]
    built = builds.build_all([*wanted, *(services if with_backing_services else [])], cluster.cache, report_progress)
    names = [*project_image_names, *([project_images.POSTGRESQL] if with_backing_services else [])]
    optional = {path.name: path for path in project_images.build_all(names, cluster.cache, report_progress)}
    optional |= {built[each.name].folder.name: built[each.name].archive for each in services if each.name in built}
    return built, optional


def up(
    cluster: LocalCluster,
    report_progress: ReportProgress,
    *,
    bare: bool = False,
    project_image_names: Sequence[str] = (),
    with_backing_services: bool = False,
) -> None:
    """Build what is missing, start everything, and return when all components are ready.

    ``bare`` leaves out the fake nodes, Kueue and KubeRay; ``project_image_names`` are images of this repository to
    load. Images and backing services are added to a running cluster that has everything else.

    Raises:
        LocalClusterError: a component does not start, or the database of the running cluster has another schema.
    """
    built, optional = build(
        cluster,
        report_progress,
        bare=bare,
        project_image_names=project_image_names,
        with_backing_services=with_backing_services,
    )
    built_entries = {each.folder.name for each in built.values()} - optional.keys()
    if not is_up(cluster) or not built_entries <= _running(cluster):
        down(cluster)
        _start(cluster, built, optional, report_progress, bare=bare)
        _mark_ready(cluster, built_entries | optional.keys())
    for name in optional.keys() - _running(cluster):
        images.add(cluster, optional[name])
        _mark_ready(cluster, {name})
    if with_backing_services:
        database_schema.check_and_record(cluster)
        if backing_services.NAMESPACE not in _running(cluster):
            components.start_all(cluster, [backing_services.COMPONENT], report_progress)
            reset.add_to_baseline(cluster, f"/api/v1/namespaces/{backing_services.NAMESPACE}")
            _mark_ready(cluster, {backing_services.NAMESPACE})


def _start(
    cluster: LocalCluster,
    built: Mapping[str, BuiltGroup],
    optional: Mapping[str, Path],
    report_progress: ReportProgress,
    *,
    bare: bool,
) -> None:
    """Start a cluster that is down, with the optional images."""
    _prepare(cluster, built)
    own = [each.archive for each in built.values() if each.group.image and each.folder.name not in optional]
    archives = [*own, *optional.values()]
    chosen = [
        components.Component("namespaces", namespaces.create),
        components.Component("certificates", _write_configuration),
        components.Component(
            "images", lambda cluster: images.prepare(cluster, archives), depends_on=("namespaces", "certificates")
        ),
        *control_plane.COMPONENTS,
        *node.COMPONENTS,
        network_policy_agent.COMPONENT,
    ]
    if not bare:
        chosen += [*fake_nodes.components(built["kwok"]), *operators.components(built["kuberay"], built["kueue"])]
    components.start_all(cluster, chosen, report_progress)
    reset.write_baseline(cluster)


def is_up(cluster: LocalCluster) -> bool:
    """Whether the last start completed, and all its processes still run."""
    return cluster.ready_file.exists() and all(record.alive for record in processes.process_records(cluster).values())


def _running(cluster: LocalCluster) -> set[str]:
    """The cache entries that the running cluster uses."""
    return set(cluster.ready_file.read_text("utf-8").split())


def _mark_ready(cluster: LocalCluster, entries: set[str]) -> None:
    running = _running(cluster) if cluster.ready_file.exists() else set()
    draft = cluster.run_dir / "ready.draft"
    draft.write_text("\n".join(sorted(running | entries)), "utf-8")
    draft.rename(cluster.ready_file)


def down(cluster: LocalCluster) -> int:
    """Stop every process and return their number; the namespaces and mounts end with the last one.

    Binaries, certificates, imported images and logs stay for the next ``up``.
    """
    ended = cgroups.end(cluster)
    for record in processes.process_records(cluster).values():  # only if the cgroup was removed by someone else
        if record.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGKILL)
    _remove(cluster.run_dir)
    cluster.kubeconfig.unlink(missing_ok=True)
    return ended


def _remove(folder: Path, seconds: float = 5) -> None:
    """Remove a folder, with retries while dying processes still write to it."""
    deadline = time.monotonic() + seconds
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=time.monotonic() < deadline)


def _prepare(cluster: LocalCluster, built: Mapping[str, BuiltGroup]) -> None:
    """Create the run folders, the links to the binaries, and the cgroups."""
    for name in _RUN_FOLDERS:
        (cluster.run_dir / name).mkdir(parents=True)
    for folder in (cluster.bin, cluster.logs):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for each in built.values():
        for name in each.group.binaries:
            (cluster.bin / name).symlink_to(each.binary(name))
    (cluster.state / ".gitignore").write_text("*\n", "utf-8")
    cgroups.create(cluster)


def _write_configuration(cluster: LocalCluster) -> None:
    certificates.make(cluster)
    configuration.write(cluster)


def status(cluster: LocalCluster) -> list[tuple[str, str]]:
    """Name and status of each process; empty when the cluster is down."""
    lines = []
    for record in processes.process_records(cluster).values():
        text = f"pid {record.pid}, {record.memory >> 20} MiB" if record.alive else "exited"
        lines.append((record.name, text))
    if lines and cluster.kubeconfig.exists():
        with ClusterApi(cluster) as api:
            nodes = api.read("/api/v1/nodes")
            lines.append(("cluster", f"{len(nodes['items'])} nodes" if nodes else "does not answer"))
    return lines
