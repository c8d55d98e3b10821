"""Runs the operators as a process."""

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
from tests.charts.rendering import SYSTEM
from tests.integration.cluster.installed import admin_client, read_log, write_kubeconfig
from tests.integration.cluster.waiting import eventually
from tests.testcluster.layout import LocalCluster

from windlass.kube.client import KubeClient
from windlass.kube.objects import Kind, Object, Ref
from windlass_operators.kinds import POOL, PROJECT

LEASE_SECONDS = 8
IMAGE = "no-node-pulls-it"


class OperatorProcess:
    """One replica with the chart's account; each start is a new process that appends to the same log."""

    def __init__(
        self, cluster: LocalCluster, log: Path, *, as_admin: bool = False, through: str | None = None, **settings: str
    ) -> None:
        """``through`` is the address of a proxy in front of the API server."""
        self.cluster, self.log, self.client = cluster, log, admin_client(cluster)
        self._settings = {"PORT": "0", "HOST": "127.0.0.1", "LEADER_LEASE_SECONDS": str(LEASE_SECONDS), **settings}
        self._kubeconfig = cluster.kubeconfig
        if not as_admin:
            self._kubeconfig = write_kubeconfig(cluster, "windlass-operators", log.with_suffix(".kubeconfig"), through)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and wait until it listens; it may still be waiting for the lease."""
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
        """The number of log lines with an event."""
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
        """GET a path of the process's own HTTP server; return status and text."""
        port = [line["port"] for line in read_log(self.log) if line["event"] == "listening"][-1]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def ready(client: KubeClient, ref: Ref) -> tuple[str, str, str]:
    """Status, reason and message of a resource's Ready condition; empty if not of the current generation."""
    resource = client.find(ref) or {}
    for condition in resource.get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready" and condition["observedGeneration"] == resource["metadata"]["generation"]:
            return condition["status"], condition["reason"], condition["message"]
    return "", "", ""


def wait_for_reason(client: KubeClient, ref: Ref, reason: str, seconds: float = 30) -> str:
    """Wait until the Ready condition has a reason; return its message."""
    eventually(lambda: ready(client, ref)[1] == reason, f"{ref} is {reason}, not {ready(client, ref)}", seconds)
    return ready(client, ref)[2]


def project(name: str) -> Ref:
    return Ref(PROJECT, name)


def pool(name: str) -> Ref:
    return Ref(POOL, name)


def desired(kind: Kind, name: str, spec: Any) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def operator(installed: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """An active replica."""
    running = OperatorProcess(installed, tmp_path_factory.mktemp("operators") / "log", NAMESPACE=SYSTEM, IMAGE=IMAGE)
    running.start_active()
    yield running
    try:
        delete_test_objects(running)
    finally:
        running.stop()


def delete_test_objects(running: OperatorProcess) -> None:
    """Delete the remaining objects with the operators running: deleting the CRDs first would leave objects in etcd."""
    client = running.client
    for ref in [Ref.of(one) for kind in (PROJECT, POOL) for one in client.list(kind).items]:
        if ref.kind == PROJECT:
            client.patch(ref, {"spec": {"whenDeleted": "Cancel"}}, manager="test")
        client.delete(ref)
    if running.exit_code is None:
        eventually(lambda: not client.list(PROJECT).items and not client.list(POOL).items, "everything is gone", 60)
