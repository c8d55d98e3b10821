"""``windlass doctor``: is this machine fit, does the server answer, and what to do if not."""

import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import typer

from windlass.cli import failures, local_server
from windlass.cli.render import Column, size
from windlass.cli.session import Session, verb
from windlass.domain.errors import UnavailableError, WindlassError
from windlass.sdk.connection import config_path, default_home
from windlass.wire.base import Out

app = typer.Typer(add_completion=False)

_GIB = 1 << 30
_DISK_NEEDED, _DISK_GOOD = 2 * _GIB, 10 * _GIB
_MEMORY_NEEDED, _MEMORY_GOOD = 3 * _GIB, 6 * _GIB
_SHARED = Path("/dev") / "shm"
_SHARED_GOOD = 2 * _GIB


class _Finding(Out):
    check: str
    state: Literal["ok", "warning", "failed"]
    found: str
    action: str = ""


_COLUMNS = (
    Column[_Finding]("check", lambda finding: finding.check),
    Column[_Finding]("state", lambda finding: finding.state),
    Column[_Finding]("found", lambda finding: finding.found),
    Column[_Finding]("what to do", lambda finding: finding.action),
)


@app.command()
@verb
def doctor(session: Session) -> None:
    """Check this machine and the server, and say what to do; exit 1 when something fails."""
    home = default_home()
    checks: tuple[Callable[[], Iterator[_Finding]], ...] = (
        _python,
        _extras,
        lambda: _disk(home),
        _memory,
        _shared_memory,
        lambda: _port(home),
        lambda: _key_files(home),
        lambda: _server(session),
    )
    findings = [finding for check in checks for finding in check()]
    session.list(findings, _COLUMNS, lambda finding: finding.check)
    if any(finding.state == "failed" for finding in findings):
        raise typer.Exit(failures.FAILED)


def _python() -> Iterator[_Finding]:
    found = f"{sys.version.split()[0]} on {sys.platform}"
    if not sys.platform.startswith("linux"):
        yield _Finding(check="python", state="warning", found=found, action="the embedded server runs on Linux alone")
        return
    yield _Finding(check="python", state="ok", found=found)


def _extras() -> Iterator[_Finding]:
    missing = local_server.missing_extras()
    if not missing:
        yield _Finding(check="embedded server", state="ok", found="all of its parts are installed")
        return
    yield _Finding(
        check="embedded server",
        state="warning",
        found="not installed: " + ", ".join(name for names in missing.values() for name in names),
        action="pip install 'windlass[embedded]' to run `windlass up`; a client needs nothing more",
    )


def _disk(home: Path) -> Iterator[_Finding]:
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    action = "" if free >= _DISK_GOOD else f"free space at {place}, or set WINDLASS_HOME to a larger disk"
    state: Literal["ok", "warning", "failed"] = "ok" if free >= _DISK_GOOD else "warning"
    if free < _DISK_NEEDED or not os.access(place, os.W_OK):
        state, action = "failed", f"{home} needs a place that can be written, with {size(_DISK_NEEDED)} free"
    yield _Finding(check="disk", state=state, found=f"{size(free)} free for {home}", action=action)


def _memory() -> Iterator[_Finding]:
    available = _available_memory()
    if available is None:
        return
    good, enough = available >= _MEMORY_GOOD, available >= _MEMORY_NEEDED
    yield _Finding(
        check="memory",
        state="ok" if good else "warning" if enough else "failed",
        found=f"{size(available)} available",
        action=""
        if good
        else f"close programs: small models train in {size(_MEMORY_NEEDED)}, comfortably in twice that",
    )


def _available_memory() -> int | None:
    """Return the bytes that may be used: the machine's, or the control group's limit where that is lower."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        machine = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text("ascii").strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return machine
    return machine if limit == "max" else min(machine, max(int(limit) - int(used), 0))


def _shared_memory() -> Iterator[_Finding]:
    try:
        free = shutil.disk_usage(_SHARED).free
    except OSError:
        yield _Finding(check="shared memory", state="warning", found=f"no {_SHARED}", action="Ray uses slow files")
        return
    good = free >= _SHARED_GOOD
    yield _Finding(
        check="shared memory",
        state="ok" if good else "warning",
        found=f"{size(free)} free in {_SHARED}",
        action="" if good else "Ray wants 2 GiB; in a container: docker run --shm-size=2g",
    )


def _port(home: Path) -> Iterator[_Finding]:
    if local_server.read(home) is not None:
        return
    port = local_server.DEFAULT_PORT
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            action = "windlass up --port 0 picks a free one"
            yield _Finding(check="port", state="warning", found=f"{port}: {error.strerror}", action=action)
            return
    yield _Finding(check="port", state="ok", found=f"{port} is free")


def _key_files(home: Path) -> Iterator[_Finding]:
    for path in (home / local_server.KEY_FILE, config_path()):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & (stat.S_IRGRP | stat.S_IROTH):
            found = f"others can read {path}"
            yield _Finding(check="key file", state="warning", found=found, action=f"chmod 600 {path}")


def _server(session: Session) -> Iterator[_Finding]:
    try:
        client = session.client
        info = client.server.info()
        yield _Finding(check="server", state="ok", found=f"{client.connection.url}, version {info.version}")
        me = client.server.whoami()
        yield _Finding(check="key", state="ok", found=f"you are {me.user}")
        for model in client.base_models.list():
            if model.state == "failed":
                yield _Finding(check="base model", state="warning", found=f"{model.name}: {model.problem}")
    except UnavailableError as error:
        # A machine without a started server is not broken.
        yield _Finding(check="server", state="warning", found=error.message, action=error.hint)
    except WindlassError as error:
        yield _Finding(check="server", state="failed", found=error.message, action=error.hint)
