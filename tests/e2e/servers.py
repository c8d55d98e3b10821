"""Embedded servers as separate processes that tests may kill."""

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

TIMEOUT_SECONDS = 240.0


@dataclass
class ServerProcess:
    """A data directory and its server process, if running."""

    home: Path
    port: int
    prefix: tuple[str, ...] = ()
    """Command prefix that runs the server in its own namespaces."""
    settings: dict[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = ("windlass_api.embedded",)
    """The module of the server, with arguments before those of the server."""
    process: subprocess.Popen[bytes] | None = None
    clients: list[Client] = field(default_factory=list)

    @property
    def path_on_server(self) -> Path:
        """The data directory as seen by the server in its mount namespace."""
        return Path(f"/proc/{self.process.pid}/root{self.home}") if self.process and self.prefix else self.home

    def start(self) -> Client:
        """Start the server unless it runs, and return an admin client."""
        if not (self.process and self.process.poll() is None):
            (self.home / "server.json").unlink(missing_ok=True)
            environment = os.environ | {"WINDLASS_WORKER_ATTEMPT_HEARTBEAT_TIMEOUT_SECONDS": "6"} | self.settings
            module = [sys.executable, "-P", "-m", *self.program]
            argv = [*self.prefix, *module, "--home", str(self.home), "--port", str(self.port)]
            with self.home.with_suffix(".log").open("ab") as log:
                self.process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.wait_until((self.path_on_server / "server.json").exists, "the server is ready")
        key = (self.path_on_server / "admin.key").read_text().strip()
        self.clients.append(Client(json.loads((self.path_on_server / "server.json").read_text())["url"], key))
        return self.clients[-1]

    def wait_until(self, condition: Callable[[], Any], description: str, seconds: float = TIMEOUT_SECONDS) -> Any:
        """Wait until the condition returns a true value and return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            result = condition()
            if result:
                return result
            time.sleep(0.05)
        log = self.home.with_suffix(".log").read_text(errors="replace")[-3000:]
        raise AssertionError(f"timed out after {seconds:.0f} s: {description}\n{log}")

    def kill(self) -> None:
        """Kill the server process only."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the server and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def processes(self) -> list[psutil.Process]:
        """Return all processes whose command line or environment contains the data directory."""
        data_dir, result = str(self.home), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if data_dir in " ".join(process.cmdline()) or data_dir in " ".join(process.environ().values()):
                    result.append(process)
        return result

    def trainers(self) -> list[psutil.Process]:
        """Return the running trainers."""
        result = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if "windlass_pipelines.train" in process.cmdline():
                    result.append(process)
        return result

    def kill_everything(self) -> None:
        """Kill the whole process tree, server first."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.process is not None:
            self.process.wait()
        self.wait_until(lambda: not self.processes(), "all processes have ended")


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def server(home: Path, prefix: tuple[str, ...] = (), **settings: str) -> Iterator[ServerProcess]:
    """A server with its own data directory and port; all its processes are killed at the end."""
    home.mkdir(parents=True, exist_ok=True)
    server_process = ServerProcess(home, free_port(), prefix, settings)
    try:
        yield server_process
    finally:
        for client in server_process.clients:
            client.close()
        if server_process.process is not None and server_process.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server_process.stop()
        server_process.kill_everything()
