"""The command line of the test cluster."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.testcluster import builds, lifecycle, prerequisites, project_images, reset, versions
from tests.testcluster.errors import EXIT_DOWN, EXIT_FAILED, EXIT_UNSUPPORTED, LocalClusterError, UnsupportedHostError
from tests.testcluster.layout import LocalCluster, default_cache, default_state


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.testcluster", description="A real Kubernetes cluster for the tests."
    )
    parser.add_argument(
        "--state", type=Path, default=default_state(), help="state folder of the cluster (default: .testcluster)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="build what is missing, and start everything")
    build = commands.add_parser("build", help="build what `up` builds with the same options, and start nothing")
    for command in (up, build):
        names = project_images.NAMES
        command.add_argument(
            "--image", action="append", default=[], choices=names, help="also this image of the project"
        )
        command.add_argument("--backing-services", action="store_true", help="also PostgreSQL and an S3 server")
        command.add_argument("--install", action="store_true", help="install missing Debian packages with apt-get")
    build.add_argument("--tools", action="store_true", help="also the programs that tests run on this machine")
    up.add_argument("--bare", action="store_true", help="without fake nodes, Kueue and KubeRay")
    commands.add_parser("down", help="stop everything; binaries and images stay")
    commands.add_parser("status", help="list the processes")
    commands.add_parser("reset", help="delete everything that was created since the start")
    logs = commands.add_parser("logs", help="print the end of a component's log, or list the logs")
    logs.add_argument("component", nargs="?")
    logs.add_argument("-n", "--lines", type=int, default=100)
    return parser


def _report_progress(text: str, seconds: float) -> None:
    """Print one line per component."""
    print(f"{text:<34} {seconds:7.1f} s", flush=True)  # noqa: T201 - the command's output


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the command's output


def _check_prerequisites(chosen: argparse.Namespace) -> None:
    builds_images = chosen.image or chosen.backing_services
    packages = prerequisites.CLUSTER_PACKAGES | (prerequisites.IMAGE_PACKAGES if builds_images else {})
    prerequisites.check(packages, install=chosen.install)


def _build(cluster: LocalCluster, chosen: argparse.Namespace) -> int:
    _check_prerequisites(chosen)
    lifecycle.build(
        cluster, _report_progress, project_image_names=chosen.image, with_backing_services=chosen.backing_services
    )
    if chosen.tools:
        groups = [group for group in versions.read().values() if group.tool]
        builds.build_all(groups, cluster.cache, _report_progress)
    return 0


def _up(cluster: LocalCluster, chosen: argparse.Namespace) -> int:
    began = time.monotonic()
    _check_prerequisites(chosen)
    with lifecycle.exclusive_lock(cluster):
        lifecycle.up(
            cluster,
            _report_progress,
            bare=chosen.bare,
            project_image_names=chosen.image,
            with_backing_services=chosen.backing_services,
        )
    _report_progress("up", time.monotonic() - began)
    _print(f"export KUBECONFIG={cluster.kubeconfig} PATH={cluster.bin}:$PATH")
    return 0


def _down(cluster: LocalCluster, _: argparse.Namespace) -> int:
    began = time.monotonic()
    prerequisites.check_root()
    with lifecycle.exclusive_lock(cluster):
        ended = lifecycle.down(cluster)
    _report_progress(f"down, {ended} processes stopped", time.monotonic() - began)
    return 0


def _status(cluster: LocalCluster, _: argparse.Namespace) -> int:
    for name, text in lifecycle.status(cluster):
        _print(f"{name:<26} {text}")
    if not lifecycle.is_up(cluster):
        _print("The test cluster is not up.")
        return EXIT_DOWN
    _print(f"export KUBECONFIG={cluster.kubeconfig} PATH={cluster.bin}:$PATH")
    return 0


def _reset(cluster: LocalCluster, _: argparse.Namespace) -> int:
    began = time.monotonic()
    prerequisites.check_root()
    with lifecycle.exclusive_lock(cluster):
        if not lifecycle.is_up(cluster):
            raise LocalClusterError("the test cluster is not up")
        deleted = reset.reset(cluster)
    _report_progress(f"reset, {deleted} objects deleted", time.monotonic() - began)
    return 0


def _logs(cluster: LocalCluster, chosen: argparse.Namespace) -> int:
    if chosen.component is None:
        for log in sorted(cluster.logs.glob("*.log")):
            _print(f"{log.stem:<26} {log.stat().st_size >> 10} KiB")
        return 0
    log = cluster.log(chosen.component)
    if not log.exists():
        raise LocalClusterError(f"no log of {chosen.component!r}; `logs` without a name lists them")
    lines = log.read_text("utf-8", errors="replace").splitlines()
    _print("\n".join(lines[-chosen.lines :] if chosen.lines else []))
    return 0


_COMMANDS: dict[str, Callable[[LocalCluster, argparse.Namespace], int]] = {
    "up": _up,
    "build": _build,
    "down": _down,
    "status": _status,
    "reset": _reset,
    "logs": _logs,
}


def main() -> int:
    chosen = _parser().parse_args()
    cluster = LocalCluster(chosen.state.resolve(), default_cache())
    try:
        return _COMMANDS[chosen.command](cluster, chosen)
    except UnsupportedHostError as unable:
        _print_error(unable)
        return EXIT_UNSUPPORTED
    except LocalClusterError as failed:
        _print_error(failed)
        return EXIT_FAILED


def _print_error(failure: LocalClusterError) -> None:
    print(f"error: {failure}", file=sys.stderr, flush=True)  # noqa: T201 - the command's output


if __name__ == "__main__":
    sys.exit(main())
