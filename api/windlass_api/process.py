"""A server process: data directory, listening sockets, startup and shutdown."""

import argparse
import contextlib
import errno
import json
import logging
import os
import secrets
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from fastapi import FastAPI
from pydantic import ValidationError

import windlass
from windlass.domain.errors import ConflictError, InvalidError, WindlassError
from windlass.domain.projects import PlatformRole, Principal
from windlass.kit.boot_time import boot_seconds
from windlass.kit.files import write_atomic
from windlass.orchestration import processes
from windlass.services.base import Caller
from windlass.services.keys import Keys
from windlass.services.secrets import SecretHasher
from windlass.settings import ServerSettings
from windlass.telemetry import set_up_logging
from windlass_api.app import create_app
from windlass_api.composition import Application
from windlass_api.dependencies import AppContext
from windlass_api.http_server import ServerGroup, Shutdown

_log = logging.getLogger(__name__)

EXIT_SETTINGS, EXIT_LOCKED, EXIT_PORT = 2, 5, 7
_MAX_PORT = 65_535
BOOTSTRAP = Caller(Principal(user="admin", credential="first-start", platform_role=PlatformRole.ADMIN))
"""Caller that initializes a new data directory."""


class SystemClock:
    """``ports.Clock`` with the system clock."""

    def now(self) -> datetime:
        """Return the current time."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the seconds since boot."""
        return boot_seconds()


@dataclass(frozen=True)
class DataDirectory:
    """The data directory of a server."""

    path: Path

    def make_private(self) -> None:
        """Create the directory, or remove the access of other users: it has keys, models and data of all projects.

        Raises:
            InvalidError: other users have access, and this process may not change that.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if not mode & 0o077:
            return
        try:
            self.path.chmod(mode & 0o700)
        except OSError as error:
            # a mounted volume may belong to root and give access by its group
            if mode & 0o007:
                raise InvalidError(
                    f"other users can access {self.path} (mode {mode:04o}), and its mode cannot be changed",
                    hint=f"chmod 700 {self.path} as its owner, or choose another --home",
                ) from error
            return
        _log.warning("removed the access of other users to the data directory", extra={"mode": f"{mode:04o}"})

    def read_or_create(self, name: str, content: str) -> str:
        """Return the content of a file, which is atomically created with mode 0600 if it does not exist."""
        file = self.path / name
        if not file.exists():
            draft = self.path / f".{name}.{secrets.token_hex(4)}"
            with os.fdopen(
                os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
            ) as stream:
                stream.write(content + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(file)
        return file.read_text(encoding="ascii").strip()

    def secret_hasher(self) -> SecretHasher:
        """Return the hasher of secrets with this directory's pepper, which is created on first use."""
        return SecretHasher(self.read_or_create("pepper", secrets.token_hex(32)).encode())

    def bind_mode(self, mode: str) -> None:
        """Bind the directory to a server mode on first use, since the modes interpret its content differently.

        Raises:
            InvalidError: the directory is bound to another mode.
        """
        if (stored := self.read_or_create("mode", mode)) != mode:
            raise InvalidError(
                f"{self.path} is the data directory of a server in {stored} mode", hint="choose another --home"
            )

    def write_server_file(self, url: str) -> None:
        """Write ``server.json``, from which the CLI reads the server's URL."""
        process = psutil.Process()
        content = {"pid": process.pid, "start_time": process.create_time(), "url": url, "version": windlass.__version__}
        write_atomic(self.path / "server.json", json.dumps(content))

    def remove_server_file(self) -> None:
        """Remove ``server.json``."""
        (self.path / "server.json").unlink(missing_ok=True)


class ListenError(Exception):
    """The process cannot listen on an address."""


class DirectoryInUseError(Exception):
    """Another server runs on the data directory."""


@contextlib.contextmanager
def listening(host: str, **ports: int) -> Iterator[list[socket.socket]]:
    """Listen on these ports, each named as the command line option that sets it.

    Raises:
        ListenError: one of them is in use, or the address is not of this machine.
    """
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_listen(host, port, name)) for name, port in ports.items()]


def _listen(host: str, port: int, name: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        option = f"--{name.replace('_', '-')}"
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror}; choose another {option}") from error
    return listener


def url_of(host: str, listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    url_host = f"[{host}]" if ":" in host else host
    return f"http://{url_host}:{listener.getsockname()[1]}"


@contextlib.contextmanager
def locked(data_dir: DataDirectory) -> Iterator[None]:
    """Make a data directory private, and lock it for this server.

    Raises:
        DirectoryInUseError: another server runs on it.
        InvalidError: other users have access, and this process may not change that.
    """
    data_dir.make_private()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(processes.lock_folder(data_dir.path, name="server.lock"))
        except ConflictError as error:
            file = data_dir.path / "server.json"
            pid = json.loads(file.read_text()).get("pid") if file.exists() else "unknown"
            raise DirectoryInUseError(
                f"{data_dir.path} is in use by a running server (pid {pid}); stop it, or choose another --home"
            ) from error
        yield


def ensure_admin_key(data_dir: DataDirectory, app_context: AppContext, name: str) -> None:
    """Create the admin key for commands on this machine in a new data directory."""
    if not (data_dir.path / "admin.key").exists():
        _, secret = Keys(app_context.deps, BOOTSTRAP).create("admin", name=name, platform_role=PlatformRole.ADMIN)
        data_dir.read_or_create("admin.key", secret)


def serve(
    application: Application,
    servers: Sequence[tuple[FastAPI, socket.socket]],
    *,
    ready: Callable[[], None],
    stopping: Callable[[], None],
    shutdown: Shutdown | None = None,
) -> None:
    """Start the application, serve until SIGINT or SIGTERM, and stop it.

    Args:
        application: what to start and stop.
        servers: HTTP applications and their listening sockets.
        ready: called when all of them accept requests.
        stopping: called before the application stops.
        shutdown: how the servers stop.
    """
    context = application.app_context
    group = ServerGroup(
        servers,
        ready=ready,
        closing=context.streams.close,
        shutdown=shutdown or Shutdown(),
        trusted_proxies=context.trusted_proxies,
    )
    application.start()
    try:
        group.run()
    finally:
        # A second signal must not interrupt the cleanup. After SIGKILL, the next start cleans up.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        stopping()
        application.stop()


def argument_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the arguments that all servers have."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port_number, default=8741, help="port to listen on; 0: any free port")
    return parser


def port_number(text: str) -> int:
    """Parse a port of the command line."""
    number = int(text)
    if not 0 <= number <= _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{number} is not a port: choose one from 0 to {_MAX_PORT}")
    return number


def exit_code(run: Callable[[], None]) -> int:
    """Run a server and return the exit code of its process; an error of the user is printed."""
    try:
        run()
    except ListenError as error:
        _print_error(str(error))
        return EXIT_PORT
    except DirectoryInUseError as error:
        _print_error(str(error))
        return EXIT_LOCKED
    except WindlassError as error:
        _print_error(f"{error}; {error.hint}" if error.hint else str(error))
        return EXIT_SETTINGS
    except ValidationError as error:
        _print_error(str(error))
        return EXIT_SETTINGS
    return 0


def _print_error(message: str) -> None:
    print(f"windlass: {message}", file=sys.stderr)  # noqa: T201 - printed before logging is set up


def main(program: str, description: str | None, build: Callable[[DataDirectory, str], Application]) -> int:
    """Run the server of a data directory, with all routes on one port, until SIGINT or SIGTERM."""
    parser = argument_parser(program, description)
    parser.add_argument("--home", required=True, type=Path)
    args = parser.parse_args()

    def run() -> None:
        settings = ServerSettings(home=args.home, host=args.host, port=args.port)
        data_dir = DataDirectory(settings.home.resolve())
        with locked(data_dir):
            set_up_logging()
            with listening(settings.host, port=settings.port) as [listener]:
                url = url_of(settings.host, listener)
                application = build(data_dir, url)
                serve(
                    application,
                    [(create_app(application.app_context), listener)],
                    ready=lambda: data_dir.write_server_file(url),
                    stopping=data_dir.remove_server_file,
                )

    return exit_code(run)
