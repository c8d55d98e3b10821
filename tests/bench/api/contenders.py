"""The servers that are compared: each starts, and builds the same kinds of requests in its own protocol."""

import contextlib
import json
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import psutil
from tests.bench.api.served import DURABLE, PROJECT
from tests.e2e.servers import free_port
from tests.factories import postgres_server

OPERATIONS = ("create an object", "create a job", "log one metric", "log 100 metrics", "list 50", "get one")
_START_SECONDS = 180.0
PAGE = 50


@dataclass(frozen=True)
class ApiRequest:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None


def _request(method: str, path: str, body: Any = None, **headers: str) -> ApiRequest:
    if body is None:
        return ApiRequest(method, path, headers)
    return ApiRequest(method, path, {"Content-Type": "application/json", **headers}, json.dumps(body).encode())


@dataclass
class Contender(ABC):
    """A server process. ``cpu`` is the core that it and its database are bound to; None: any."""

    name: str
    folder: Path
    database: str
    cpu: int | None = None
    port: int = 0
    roots: list[psutil.Process] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)

    @abstractmethod
    def start(self) -> None:
        """Start it, and create what the requests need."""

    @abstractmethod
    def request(self, operation: str, connection: int) -> ApiRequest:
        """Return the next request of an operation; ``connection`` is the number of the client's connection."""

    def spawn(self, argv: Sequence[str], **more: Any) -> "subprocess.Popen[bytes]":
        """Start a process that is bound to the core."""
        if self.cpu is not None:
            argv = ["taskset", "--cpu-list", str(self.cpu), *argv]
        process = subprocess.Popen(argv, **more)
        self.roots.append(psutil.Process(process.pid))
        return process

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the server and of its database."""
        return [each for root in self.roots for each in (root, *root.children(recursive=True))]

    def cpu_seconds(self) -> float:
        """Return the CPU time that they have used, with those that have ended, whose parents have it."""
        times = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # as of PostgreSQL's autovacuum
                times.append(process.cpu_times())
        return sum(each.user + each.system + each.children_user + each.children_system for each in times)

    def resident_bytes(self) -> int:
        """Return the memory of the server, without that of a database server."""
        return sum(each.memory_info().rss for each in self.processes() if "postgres" not in each.name())

    def stop(self) -> None:
        """Kill the processes."""
        for process in reversed(self.processes()):
            process.kill()


class WindlassServer(Contender):
    """Windlass with authentication, audit log and quota."""

    def start(self) -> None:
        """Start it."""
        argv = [sys.executable, "-m", "tests.bench.api.served", str(self.folder), self.database]
        log = self.folder.with_suffix(".log").open("wb")
        process = self.spawn(argv, stdout=subprocess.PIPE, stderr=log)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, self.folder.with_suffix(".log").read_text()
        ready = json.loads(line)
        self.port, self._run, self._job = ready["port"], ready["run"], ready["job"]
        self._key, self._token = ({"Authorization": ready[name]} for name in ("key", "token"))
        self._sequences: dict[int, count[int]] = {}

    def request(self, operation: str, connection: int) -> ApiRequest:
        """Return the next request."""
        project, number = f"/v1/projects/{PROJECT}", next(self._numbers)
        if operation == "create an object":
            body: dict[str, Any] = {"name": f"dataset-{number}", "task": "text-classification"}
            return _request("POST", f"{project}/datasets", body, **self._key)
        if operation == "create a job":
            spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}
            body = {"spec": {**spec, "resources": {"pool": "local"}}}
            return _request("POST", f"{project}/jobs", body, **self._key, **{"Idempotency-Key": f"n{number}"})
        if operation == "list 50":
            return _request("GET", f"{project}/jobs?limit={PAGE}", **self._key)
        if operation == "get one":
            return _request("GET", f"{project}/jobs/{self._job}", **self._key)
        sequence = next(self._sequences.setdefault(connection, count(1)))
        points = 1 if operation == "log one metric" else 100
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        step = number * 100
        items = [
            {"type": "metric", "time": stamp, "name": "train_loss", "step": step + each, "value": 1 / (1 + each)}
            for each in range(points)
        ]
        body = {"source": f"rank{connection}", "sequence": sequence, "items": items}
        return _request("POST", f"/internal/v1/runs/{self._run}/attempts/1/reports", body, **self._token)


class MlflowServer(Contender):
    """``mlflow server`` with one worker process, without authentication."""

    program: Path

    def start(self) -> None:
        """Start it."""
        self.folder.mkdir(parents=True)
        self.port = free_port()
        store = f"sqlite:///{self.folder / 'mlflow.db'}"
        if self.database == "postgresql":
            programs = postgres_server.installed_programs()
            assert programs is not None
            postgres_server.SETTINGS.update(DURABLE)
            server = postgres_server.PostgresServer(programs)
            server.initialize()
            server.create("mlflow", "template0")
            store = f"postgresql+psycopg2://postgres@/mlflow?host={server.folder}"
            pid = int((server.folder / "data/postmaster.pid").read_text().splitlines()[0])
            self.roots.append(psutil.Process(pid))
            if self.cpu is not None:
                for process in self.processes():
                    process.cpu_affinity([self.cpu])
        argv = [str(self.program), "server", "--backend-store-uri", store, "--workers", "1"]
        argv += ["--default-artifact-root", str(self.folder / "artifacts"), "--port", str(self.port)]
        log = self.folder.with_suffix(".log").open("wb")
        self.spawn(
            argv, stdout=log, stderr=log, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, cwd=self.folder
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, self.folder.with_suffix(".log").read_text()
            time.sleep(0.05)
        with httpx2.Client(base_url=f"http://127.0.0.1:{self.port}/api/2.0/mlflow", timeout=60) as client:
            reply = client.post("/experiments/create", json={"name": "bench"})
            self._experiment = reply.json()["experiment_id"]
            for _ in range(200):
                reply = client.post("/runs/create", json={"experiment_id": self._experiment})
            self._run = reply.json()["run"]["info"]["run_id"]

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}/health", timeout=5).status_code == httpx2.codes.OK
        except httpx2.TransportError:
            return False

    def request(self, operation: str, connection: int) -> ApiRequest:  # noqa: ARG002 - MLflow numbers no reports
        """Return the next request: MLflow's nearest to that of Windlass."""
        base, number, now = "/api/2.0/mlflow", next(self._numbers), int(time.time() * 1000)
        if operation == "create an object":
            return _request("POST", f"{base}/experiments/create", {"name": f"experiment-{number}"})
        if operation == "create a job":
            body: dict[str, Any] = {"experiment_id": self._experiment, "start_time": now, "run_name": f"run-{number}"}
            return _request("POST", f"{base}/runs/create", body)
        if operation == "list 50":
            return _request("POST", f"{base}/runs/search", {"experiment_ids": [self._experiment], "max_results": PAGE})
        if operation == "get one":
            return _request("GET", f"{base}/runs/get?run_id={self._run}")
        metrics = [
            {"key": "train_loss", "value": 1 / (1 + each), "timestamp": now, "step": number * 100 + each}
            for each in range(1 if operation == "log one metric" else 100)
        ]
        if operation == "log one metric":
            return _request("POST", f"{base}/runs/log-metric", {"run_id": self._run, **metrics[0]})
        return _request("POST", f"{base}/runs/log-batch", {"run_id": self._run, "metrics": metrics})
