"""``windlass doctor``: checks of this machine and the server."""

import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from windlass.cli import cluster_checks, errors, local_server, store_checks
from windlass.cli.render import Column
from windlass.cli.session import Session, command
from windlass.domain.checks import CheckResult, CheckState, failed, passed, warning
from windlass.domain.errors import UnavailableError, WindlassError
from windlass.kit.numbers import size
from windlass.sdk.connection import config_path, default_home

app = typer.Typer(add_completion=False)

_GIB = 1 << 30
_DISK_NEEDED, _DISK_GOOD = 2 * _GIB, 10 * _GIB
_MEMORY_NEEDED, _MEMORY_GOOD = 3 * _GIB, 6 * _GIB
_SHARED = Path("/dev") / "shm"
_SHARED_GOOD = 2 * _GIB


_COLUMNS = (
    Column[CheckResult]("check", lambda row: row.check),
    Column[CheckResult]("state", lambda row: row.state),
    Column[CheckResult]("result", lambda row: row.result),
    Column[CheckResult]("action", lambda row: row.action),
)


@app.command()
@command
def doctor(
    session: Session,
    *,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Check the Kubernetes cluster of KUBECONFIG and the database instead."),
    ] = False,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also compare the object store of the server on this machine with its database."),
    ] = False,
    hashes: Annotated[
        bool, typer.Option("--hashes", help="With --deep: read every file and compare its SHA-256.")
    ] = False,
    namespace: Annotated[str, typer.Option(help="With --cluster: namespace of Windlass.")] = cluster_checks.NAMESPACE,
    probe_image: Annotated[
        str, typer.Option(help="With --cluster: control plane image of the network probe; default: that of the API.")
    ] = "",
) -> None:
    """Check this machine and the server, or a cluster, and suggest fixes; exit 1 if a check fails."""
    results = cluster_checks.run(namespace, probe_image) if cluster else _local_checks(session)
    if deep:
        results += store_checks.run(default_home(), hashes=hashes)
    session.list(results, _COLUMNS, lambda result: result.check)
    if any(result.state is CheckState.FAILED for result in results):
        raise typer.Exit(errors.FAILED)


def _local_checks(session: Session) -> list[CheckResult]:
    home = default_home()
    checks: tuple[Callable[[], Iterator[CheckResult]], ...] = (
        _python,
        _extras,
        lambda: _disk(home),
        _memory,
        _shared_memory,
        lambda: _port(home),
        lambda: _file_access(home),
        lambda: _server(session),
    )
    return [result for check in checks for result in check()]


def _python() -> Iterator[CheckResult]:
    version = f"{sys.version.split()[0]} on {sys.platform}"
    if not sys.platform.startswith("linux"):
        yield warning("python", version, "the embedded server runs on Linux only")
        return
    yield passed("python", version)


def _extras() -> Iterator[CheckResult]:
    missing = local_server.missing_extras()
    if not missing:
        yield passed("embedded server", "all packages are installed")
        return
    names = ", ".join(name for names in missing.values() for name in names)
    action = "to run `windlass up`: pip install 'windlass[embedded]'; clients do not need it"
    yield warning("embedded server", f"not installed: {names}", action)


def _disk(home: Path) -> Iterator[CheckResult]:
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    action = "" if free >= _DISK_GOOD else f"free space in {existing}, or set WINDLASS_HOME to a larger disk"
    state = CheckState.OK if free >= _DISK_GOOD else CheckState.WARNING
    if free < _DISK_NEEDED or not os.access(existing, os.W_OK):
        state, action = CheckState.FAILED, f"set WINDLASS_HOME to a writable folder with {size(_DISK_NEEDED)} free"
    yield CheckResult(check="disk", state=state, result=f"{size(free)} free for {home}", action=action)


def _memory() -> Iterator[CheckResult]:
    available = _available_memory()
    if available is None:
        return
    good, enough = available >= _MEMORY_GOOD, available >= _MEMORY_NEEDED
    yield CheckResult(
        check="memory",
        state=CheckState.OK if good else CheckState.WARNING if enough else CheckState.FAILED,
        result=f"{size(available)} available",
        action="" if good else f"stop other programs: small models need {size(_MEMORY_NEEDED)}, better twice that",
    )


def _available_memory() -> int | None:
    """Return the available bytes: those of the machine, or of the control group if fewer."""
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


def _shared_memory() -> Iterator[CheckResult]:
    try:
        free = shutil.disk_usage(_SHARED).free
    except OSError:
        yield warning("shared memory", f"{_SHARED} does not exist", "Ray uses slower files instead")
        return
    good = free >= _SHARED_GOOD
    yield CheckResult(
        check="shared memory",
        state=CheckState.OK if good else CheckState.WARNING,
        result=f"{size(free)} free in {_SHARED}",
        action="" if good else "Ray needs 2 GiB; in a container: docker run --shm-size=2g",
    )


def _port(home: Path) -> Iterator[CheckResult]:
    if local_server.read(home) is not None:
        return
    port = local_server.DEFAULT_PORT
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            action = "`windlass up --port 0` selects a free port"
            yield warning("port", f"{port}: {error.strerror}", action)
            return
    yield passed("port", f"{port} is free")


def _file_access(home: Path) -> Iterator[CheckResult]:
    for name, path, mode in (
        ("data folder", home, "700"),
        ("key file", home / local_server.KEY_FILE, "600"),
        ("key file", config_path(), "600"),
    ):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
            result = f"other users can access {path}"
            yield warning(name, result, f"chmod {mode} {path}")


def _server(session: Session) -> Iterator[CheckResult]:
    try:
        client = session.client
        info = client.server.info()
        yield passed("server", f"{client.connection.url}, version {info.version}")
        me = client.server.whoami()
        yield passed("key", f"user {me.user}")
        for model in client.base_models.list():
            if model.state == "failed":
                yield warning("base model", f"{model.name}: {model.problem}", "")
    except UnavailableError as error:
        # Only a warning: the server may not have been started.
        yield warning("server", error.message, error.hint)
    except WindlassError as error:
        yield failed("server", error.message, error.hint)
