"""A real embedded server as a user starts it, to be killed in every way."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from windlass.sdk import Client

PATIENCE_SECONDS = 240.0


@dataclass
class Server:
    """One data folder and the server that runs on it, if one does."""

    home: Path
    port: int
    prefix: tuple[str, ...] = ()
    """What the server's command is given to, to run in a world of its own."""
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    clients: list[Client] = field(default_factory=list)

    @property
    def seen(self) -> Path:
        """The data folder as the server sees it, also where that is a mount of its own."""
        return Path(f"/proc/{self.process.pid}/root{self.home}") if self.process and self.prefix else self.home

    def start(self) -> Client:
        """Start a server, unless one runs, and return a client of its admin."""
        if not (self.process and self.process.poll() is None):
            (self.home / "server.json").unlink(missing_ok=True)
            environment = os.environ | {"WINDLASS_WORKER_HEARTBEAT_SECONDS": "6"} | self.settings
            module = [sys.executable, "-P", "-m", "windlass_api.embedded"]
            argv = [*self.prefix, *module, "--home", str(self.home), "--port", str(self.port)]
            with self.home.with_suffix(".log").open("ab") as log:
                self.process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.until((self.seen / "server.json").exists, "the server answers")
        key = (self.seen / "admin.key").read_text().strip()
        self.clients.append(Client(json.loads((self.seen / "server.json").read_text())["url"], key))
        return self.clients[-1]

    def until(self, true: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait for something to become true and return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = true()
            if found:
                return found
            time.sleep(0.05)
        log = self.home.with_suffix(".log").read_text(errors="replace")[-3000:]
        raise AssertionError(f"waited {seconds:.0f} s in vain: {what}\n{log}")

    def kill(self) -> None:
        """Kill the server alone, as the kernel would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the server to stop and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def processes(self) -> list[psutil.Process]:
        """Return every process that works for this data folder, by command line and environment."""
        mark, found = str(self.home), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if mark in " ".join(process.cmdline()) or mark in " ".join(process.environ().values()):
                    found.append(process)
        return found

    def trainers(self) -> list[psutil.Process]:
        """Return the trainers that live now."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if "windlass_pipelines.train" in process.cmdline():
                    found.append(process)
        return found

    def kill_everything(self) -> None:
        """Kill the whole process tree, server first."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.process is not None:
            self.process.wait()
        self.until(lambda: not self.processes(), "everything is dead")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def server(home: Path, prefix: tuple[str, ...] = (), **settings: str) -> Iterator[Server]:
    """A server's data folder on a port of its own; nothing of it is left afterwards."""
    home.mkdir(parents=True, exist_ok=True)
    one = Server(home, free_port(), prefix, settings)
    try:
        yield one
    finally:
        for client in one.clients:
            client.close()
        if one.process is not None and one.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.stop()
        one.kill_everything()
