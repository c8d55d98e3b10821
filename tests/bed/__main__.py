"""The command line of the bed."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bed import lifecycle, needs, project_images, reset
from tests.bed.failures import DOWN, FAILED, UNABLE, BedError, UnableError
from tests.bed.layout import Bed, default_cache, default_state


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bed", description="A real Kubernetes for the tests.")
    parser.add_argument(
        "--state", type=Path, default=default_state(), help="folder of the bed: one bed a folder (default: .bed)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="build what is not built, and start everything")
    up.add_argument("--bare", action="store_true", help="without fake nodes, Kueue and KubeRay")
    up.add_argument("--install", action="store_true", help="install missing Debian packages with apt-get")
    names = project_images.NAMES
    up.add_argument("--image", action="append", default=[], choices=names, help="have this image of the project too")
    commands.add_parser("down", help="end everything; binaries and images stay")
    commands.add_parser("status", help="say what runs")
    commands.add_parser("reset", help="delete what was made in the cluster since it came up")
    logs = commands.add_parser("logs", help="print the end of a part's log, or the names of the parts")
    logs.add_argument("part", nargs="?")
    logs.add_argument("-n", "--lines", type=int, default=100)
    return parser


def _say(text: str, seconds: float) -> None:
    """One line a part, for people who wait and for logs of CI."""
    print(f"{text:<34} {seconds:7.1f} s", flush=True)  # noqa: T201 - the command's output


def _tell(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the command's output


def _up(bed: Bed, chosen: argparse.Namespace) -> int:
    began = time.monotonic()
    packages = needs.CLUSTER_PACKAGES | (needs.IMAGE_PACKAGES if chosen.image else {})
    needs.check(packages, install=chosen.install)
    with lifecycle.one_at_a_time(bed):
        lifecycle.up(bed, _say, bare=chosen.bare, of_project=chosen.image)
    _say("up", time.monotonic() - began)
    _tell(f"export KUBECONFIG={bed.kubeconfig} PATH={bed.bin}:$PATH")
    return 0


def _down(bed: Bed, _: argparse.Namespace) -> int:
    began = time.monotonic()
    needs.check_root()
    with lifecycle.one_at_a_time(bed):
        ended = lifecycle.down(bed)
    _say(f"down, {ended} processes ended", time.monotonic() - began)
    return 0


def _status(bed: Bed, _: argparse.Namespace) -> int:
    for name, said in lifecycle.status(bed):
        _tell(f"{name:<26} {said}")
    if not lifecycle.is_up(bed):
        _tell("The bed is not up.")
        return DOWN
    _tell(f"export KUBECONFIG={bed.kubeconfig} PATH={bed.bin}:$PATH")
    return 0


def _reset(bed: Bed, _: argparse.Namespace) -> int:
    began = time.monotonic()
    needs.check_root()
    with lifecycle.one_at_a_time(bed):
        if not lifecycle.is_up(bed):
            raise BedError("the bed is not up")
        deleted = reset.reset(bed)
    _say(f"reset, {deleted} objects deleted", time.monotonic() - began)
    return 0


def _logs(bed: Bed, chosen: argparse.Namespace) -> int:
    if chosen.part is None:
        for log in sorted(bed.logs.glob("*.log")):
            _tell(f"{log.stem:<26} {log.stat().st_size >> 10} KiB")
        return 0
    log = bed.log(chosen.part)
    if not log.exists():
        raise BedError(f"no log of {chosen.part!r}; `logs` alone lists them")
    lines = log.read_text("utf-8", errors="replace").splitlines()
    _tell("\n".join(lines[-chosen.lines :] if chosen.lines else []))
    return 0


_COMMANDS: dict[str, Callable[[Bed, argparse.Namespace], int]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "reset": _reset,
    "logs": _logs,
}


def main() -> int:
    chosen = _parser().parse_args()
    bed = Bed(chosen.state.resolve(), default_cache())
    try:
        return _COMMANDS[chosen.command](bed, chosen)
    except UnableError as unable:
        _complain(unable)
        return UNABLE
    except BedError as failed:
        _complain(failed)
        return FAILED


def _complain(failure: BedError) -> None:
    print(f"error: {failure}", file=sys.stderr, flush=True)  # noqa: T201 - the command's output


if __name__ == "__main__":
    sys.exit(main())
