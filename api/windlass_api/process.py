"""One server process over a data folder: its files, its port, its start and its end."""

import argparse
import contextlib
import errno
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import psutil
import uvicorn
from pydantic import ValidationError

import windlass
from windlass.domain.errors import ConflictError, InvalidError, WindlassError
from windlass.domain.projects import Principal
from windlass.orchestration import processes
from windlass.services.access import Keys
from windlass.services.backing import Caller
from windlass.settings import ServerSettings
from windlass.telemetry import set_up_logging
from windlass_api.app import create_app
from windlass_api.dependencies import Wiring

EXIT_SETTINGS, EXIT_LOCKED, EXIT_PORT = 2, 5, 7
FIRST = Caller(Principal(user="admin", key="first-start", admin=True))
"""Who does what a new data folder needs."""


class SystemClock:
    """``ports.Clock`` by this machine's clock."""

    def now(self) -> datetime:
        """Return the current time."""
        return datetime.now(UTC)


class Composition(Protocol):
    """What a composition root has put together."""

    wiring: Wiring

    def start(self) -> None:
        """Begin what goes on beside the API."""
        ...

    def stop(self) -> None:
        """End it, with every process that it has started; the database last."""
        ...


@dataclass(frozen=True)
class Home:
    """The data folder: everything that a server leaves on disk."""

    path: Path

    def private_file(self, name: str, content: str) -> str:
        """Return the file's content, made 0600 on the first call; a kill in between leaves none or a whole one."""
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

    def claim(self, mode: str) -> None:
        """Keep the folder for servers of one mode: what one has written means something else to the other.

        Raises:
            InvalidError: it is another's.
        """
        if (kept := self.private_file("mode", mode)) != mode:
            raise InvalidError(
                f"{self.path} is the data folder of a server in mode {kept}", hint="choose another --home"
            )

    def publish(self, url: str) -> None:
        """Write ``server.json``, by which the CLI finds the server."""
        me = psutil.Process()
        facts = {"pid": me.pid, "start_time": me.create_time(), "url": url, "version": windlass.__version__}
        draft = self.path / ".server.json"
        draft.write_text(json.dumps(facts), encoding="utf-8")
        draft.replace(self.path / "server.json")

    def withdraw(self) -> None:
        """Remove ``server.json``."""
        (self.path / "server.json").unlink(missing_ok=True)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def first_key(home: Home, wiring: Wiring, name: str) -> None:
    """Make the admin key that commands on this machine find, in a new data folder."""
    if not (home.path / "admin.key").exists():
        _, secret = Keys(wiring.backing, FIRST, wiring.gatekeeper.pepper).create("admin", name=name, admin=True)
        home.private_file("admin.key", secret)


def _serve(settings: ServerSettings, build: Callable[[Home, str], Composition]) -> int:
    home = Home(settings.home.resolve())
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with processes.exclusive(home.path, name="server.lock"):
            set_up_logging()
            try:
                listener = _listen(settings.host, settings.port)
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                    raise
                _say(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose another with --port")
                return EXIT_PORT
            with listener:
                return _run(home, settings.host, listener, build)
    except ConflictError:
        known = home.path / "server.json"
        pid = json.loads(known.read_text()).get("pid") if known.exists() else "unknown"
        _say(f"{home.path} belongs to a running server (pid {pid}); stop that one, or choose another --home")
        return EXIT_LOCKED


def _say(words: str) -> None:
    print(f"windlass: {words}", file=sys.stderr)  # noqa: T201 - the words of a command, before any log


def _run(home: Home, host: str, listener: socket.socket, build: Callable[[Home, str], Composition]) -> int:
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    made = build(home, url)
    config = uvicorn.Config(create_app(made.wiring), log_config=None, access_log=False, timeout_graceful_shutdown=5)
    server = _Server(config, lambda: home.publish(url))
    made.start()
    try:
        server.run([listener])
    finally:
        # A second signal must not cut the clean-up short; kill -9 still can, and the next start picks up the pieces.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        home.withdraw()
        made.stop()
    return 0


class _Server(uvicorn.Server):
    """Says when it accepts requests, and swallows the signal that ended it: the exit code is ours."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as the wish to end, without raising them again afterwards."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


def main(program: str, description: str | None, build: Callable[[Home, str], Composition]) -> int:
    """Run a server until it is told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8741)
    given = parser.parse_args()
    try:
        return _serve(ServerSettings(home=given.home, host=given.host, port=given.port), build)
    except (ValidationError, WindlassError) as error:
        _say(str(error))
        return EXIT_SETTINGS
