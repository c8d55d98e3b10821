"""The operators as a real process."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.architecture.tree import ROOT
from tests.bed.layout import Bed
from tests.integration.cluster.installed import SYSTEM, admin_of, kubeconfig_of, read_log
from tests.integration.cluster.waiting import eventually

from windlass.kube.client import Client
from windlass.kube.objects import Kind, Object, Ref
from windlass_operators.kinds import POOL, PROJECT

LEASE_SECONDS = 8
IMAGE = "no-node-pulls-it"


class Operators:
    """One replica with the rights that the chart gives it; started again, it is another process with the same log."""

    def __init__(
        self, bed: Bed, log: Path, *, as_admin: bool = False, through: str | None = None, **settings: str
    ) -> None:
        """``through``: the address of a proxy before the API server."""
        self.bed, self.log, self.client = bed, log, admin_of(bed)
        self._settings = {"PORT": "0", "HOST": "127.0.0.1", "LEASE_SECONDS": str(LEASE_SECONDS), **settings}
        self._kubeconfig = bed.kubeconfig
        if not as_admin:
            self._kubeconfig = kubeconfig_of(bed, "windlass-operators", log.with_suffix(".kubeconfig"), through)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens; whether it is active is another question."""
        environment = {
            **os.environ,
            "KUBECONFIG": str(self._kubeconfig),
            **{f"WINDLASS_OPERATORS_{name}": value for name, value in self._settings.items()},
        }
        before = self.count("listening")
        with self.log.open("ab") as log:
            argv = [sys.executable, "-W", "error", "-m", "windlass_operators"]
            self._process = subprocess.Popen(argv, cwd=ROOT, env=environment, stderr=log, stdout=log)
        eventually(lambda: self.count("listening") > before or self.exit_code is not None, "the operators listen")
        assert self.exit_code is None, self.log.read_text()

    def start_active(self) -> None:
        before = self.count("active")
        self.start()
        eventually(lambda: self.count("active") > before, "the operators are active")

    def count(self, event: str) -> int:
        """How often the log says something."""
        return sum(line["event"] == event for line in read_log(self.log)) if self.log.exists() else 0

    @property
    def started(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def wait(self, seconds: float = 20) -> int:
        assert self._process
        return self._process.wait(seconds)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def ask(self, path: str) -> tuple[int, str]:
        """Ask the process itself."""
        port = [line["port"] for line in read_log(self.log) if line["event"] == "listening"][-1]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()


def ready(client: Client, ref: Ref) -> tuple[str, str, str]:
    """Status, reason and message of a resource's Ready condition, of its present generation."""
    found = client.find(ref) or {}
    for one in found.get("status", {}).get("conditions", ()):
        if one["type"] == "Ready" and one["observedGeneration"] == found["metadata"]["generation"]:
            return one["status"], one["reason"], one["message"]
    return "", "", ""


def becomes(client: Client, ref: Ref, reason: str, seconds: float = 30) -> str:
    """Wait until Ready has a reason; return the message."""
    eventually(lambda: ready(client, ref)[1] == reason, f"{ref} is {reason}, not {ready(client, ref)}", seconds)
    return ready(client, ref)[2]


def project(name: str) -> Ref:
    return Ref(PROJECT, name)


def pool(name: str) -> Ref:
    return Ref(POOL, name)


def wish(kind: Kind, name: str, spec: Any) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def operator(installed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operators]:
    """An active replica."""
    running = Operators(installed, tmp_path_factory.mktemp("operators") / "log", NAMESPACE=SYSTEM, IMAGE=IMAGE)
    running.start_active()
    yield running
    try:
        take_down(running)
    finally:
        running.stop()


def take_down(running: Operators) -> None:
    """Let the operators delete what tests left: who takes their definitions away first leaves objects in etcd."""
    client = running.client
    for ref in [Ref.of(one) for kind in (PROJECT, POOL) for one in client.list(kind).items]:
        if ref.kind == PROJECT:
            client.patch(ref, {"spec": {"whenDeleted": "Cancel"}}, manager="test")
        client.delete(ref)
    if running.exit_code is None:
        eventually(lambda: not client.list(PROJECT).items and not client.list(POOL).items, "everything is gone", 60)
