"""Runs the control plane in cluster mode as a process, with the chart's account."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.architecture.tree import ROOT
from tests.integration.cluster.installed import write_kubeconfig
from tests.integration.cluster.waiting import eventually
from tests.testcluster.layout import LocalCluster

Json = dict[str, Any]


class ControlPlaneProcess:
    """One server with a data directory; each start is a new process with the same folder."""

    def __init__(self, cluster: LocalCluster, home: Path, **settings: str) -> None:
        self.cluster, self.home, self._settings = cluster, home, settings
        self.url = self.key = ""
        home.mkdir(parents=True, exist_ok=True)
        self._kubeconfig = write_kubeconfig(cluster, "windlass-api", home / "kubeconfig")
        self._process: subprocess.Popen[bytes] | None = None
        self._client: httpx2.Client | None = None

    def start(self) -> None:
        """Start the process, and wait until it answers and has read the cluster."""
        settings = {f"WINDLASS_CLUSTER_{name}": value for name, value in self._settings.items()}
        environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig), **settings}
        argv = [sys.executable, "-W", "error", "-m", "windlass_api.cluster", "--home", str(self.home)]
        argv += ["--port", "0", "--internal-port", "0"]
        (self.home / "server.json").unlink(missing_ok=True)
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=log, stderr=log)
        eventually(lambda: (self.home / "server.json").exists() or self.ended, "the control plane listens", 120)
        assert not self.ended, (self.home / "log").read_text()
        self.url = json.loads((self.home / "server.json").read_text())["url"]
        self.key = (self.home / "admin.key").read_text().strip()
        self._client = self.client(self.key, self.url)
        eventually(
            lambda: self.ask("GET", "/v1/cluster-sync").get("synced_at") is not None, "the cluster has been read"
        )

    @staticmethod
    def client(key: str, url: str) -> httpx2.Client:
        return httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30)

    @property
    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def reply(self, method: str, path: str, body: Json | None = None, **query: str) -> httpx2.Response:
        assert self._client
        return self._client.request(method, path, json=body, params=query)

    def ask(self, method: str, path: str, body: Json | None = None, **query: str) -> Any:
        """Send a request as an admin, and return the response body, also of an error."""
        return self.reply(method, path, body, **query).json()

    def line(self, project: str, pool: str) -> Json:
        """A quota of the ledger; empty if there is none."""
        lines = self.ask("GET", "/v1/quotas")["items"]
        return next((one for one in lines if (one["project"], one["pool"]) == (project, pool)), {})

    def kill(self) -> None:
        """Kill the process."""
        assert self._process
        if self._client:
            self._client.close()
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._client:
            self._client.close()
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
                raise


@pytest.fixture(scope="module")
def control_plane(installed: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlaneProcess]:
    """A running control plane."""
    running = ControlPlaneProcess(installed, tmp_path_factory.mktemp("control-plane"))
    running.start()
    yield running
    running.stop()
