"""A replica of the control plane in a cluster: which routes a port serves, and what a role needs to start."""

import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from tests.architecture.tree import ROOT
from tests.fakes.backends import MemoryServing
from tests.fakes.cluster import MemoryView
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.endpoints import ServingStatus
from windlass_api.app import INTERNAL_ROUTERS, PUBLIC_ROUTERS, WORKER_ROUTERS, create_app
from windlass_api.routing import RepeatedRoute

PROBES = {"/healthz", "/healthz/worker", "/readyz", "/metrics"}
ADMIN_KEY = "wlk_" + "a" * 26 + "_" + "s" * 40


def paths(routers: tuple[object, ...]) -> set[str]:
    return {route.path for router in routers for route in router.routes if isinstance(route, APIRoute)}  # type: ignore[attr-defined]  # a router


def test_the_api_for_users_and_the_api_for_processes_share_only_the_probes() -> None:
    public, internal = paths(PUBLIC_ROUTERS), paths(INTERNAL_ROUTERS)
    assert public & internal == PROBES == paths(WORKER_ROUTERS)
    assert all(path.startswith("/v1/") or path == "/v1" for path in public - PROBES)
    assert internal - PROBES
    assert not any(path.startswith("/v1/projects") for path in internal)


def test_every_route_repeats_a_request_that_conflicts_with_a_concurrent_one() -> None:
    routes = [route for router in (*PUBLIC_ROUTERS, *INTERNAL_ROUTERS) for route in router.routes]
    assert len(routes) > 50
    assert all(isinstance(route, RepeatedRoute) for route in routes)


def test_a_run_protocol_request_on_the_public_port_finds_no_route(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path)
    harness.create_project("ours")
    harness.create_base_model()
    harness.create_dataset("ours")
    harness.submit("ours", key="one")
    harness.jobs.admit()
    with harness.database.read() as uow:
        [run] = uow.all_projects().runs.all()
    token = {"Authorization": f"Bearer {harness.access_control.run_token(run.id)}"}
    answers = []
    for routers in (PUBLIC_ROUTERS, INTERNAL_ROUTERS):
        client = TestClient(create_app(harness.app_context, routers), headers=token)
        answers.append(client.get(f"/internal/v1/runs/{run.id}").status_code)
    assert answers == [404, 200]
    harness.close()


class UnsyncedServing(MemoryServing):
    """Its first status takes until the watches have listed what they watch."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.synced = threading.Event(), threading.Event()

    def status(self) -> ServingStatus:
        self.asked.set()
        assert self.synced.wait(60)
        return super().status()


def test_a_replica_of_the_api_has_started_when_it_knows_what_serves(tmp_path: Path) -> None:
    """Otherwise its first predictions would find no endpoint ready."""
    serving = UnsyncedServing()
    harness = ControlPlaneHarness(tmp_path, cluster=MemoryView(), serving=serving, serves=True)
    replica = replace(harness.application, runs_worker=False)
    with ThreadPoolExecutor(1) as pool:
        try:
            start = pool.submit(replica.start)
            assert serving.asked.wait(60)
            assert not start.done()
        finally:
            serving.synced.set()
        start.result(60)
    replica.stop()
    harness.close()


class Server:
    """A process of ``windlass_api.cluster`` for a cluster that does not answer."""

    def __init__(self, folder: Path, *arguments: str, **settings: str) -> None:
        kubeconfig = folder / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        users = [{"name": "u", "user": {}}]
        content = {"clusters": [cluster], "contexts": [context], "users": users, "current-context": "c"}
        kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **content}))
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig), **settings}
        argv = [sys.executable, "-W", "error", "-m", "windlass_api.cluster", *arguments]
        self.process = subprocess.Popen(argv, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)

    def end(self) -> tuple[int, str]:
        """Return the exit code and what the process printed."""
        _, text = self.process.communicate(timeout=240)
        return self.process.returncode, text


@pytest.fixture
def free_ports() -> list[int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return [first.getsockname()[1], second.getsockname()[1]]


def test_one_process_serves_both_ports_and_stops_on_sigterm(tmp_path: Path, free_ports: list[int]) -> None:
    home, (port, internal) = tmp_path / "home", free_ports
    arguments = ["--home", str(home), "--port", str(port), "--internal-port", str(internal)]
    server = Server(tmp_path, *arguments, WINDLASS_SECRETS_PEPPER="p" * 32, WINDLASS_SECRETS_ADMIN_KEY=ADMIN_KEY)
    try:
        while not (home / "server.json").exists():
            assert server.process.poll() is None, server.end()
        for each in (port, internal):
            assert httpx2.get(f"http://127.0.0.1:{each}/readyz").text == "ok"
        key = {"Authorization": f"Bearer {ADMIN_KEY}"}
        answers = [httpx2.get(f"http://127.0.0.1:{each}/v1/projects", headers=key).status_code for each in free_ports]
        assert answers == [200, 404]
    finally:
        server.process.terminate()
    assert server.end()[0] == 0
    assert not (home / "server.json").exists()
    assert not (home / "pepper").exists(), "the pepper of a Secret is stored nowhere else"
    assert not (home / "admin.key").exists()


@pytest.mark.parametrize(
    ("arguments", "settings", "problem"),
    [
        (["--role", "api"], {"WINDLASS_SECRETS_PEPPER": "p" * 32}, "--role api needs WINDLASS_DATABASE_URL"),
        (["--role", "worker"], {}, "--role worker needs WINDLASS_SECRETS_PEPPER"),
        (["--role", "all"], {}, "set WINDLASS_SECRETS_PEPPER, or pass --home"),
        (["--role", "all", "--port", "70000"], {}, "70000 is not a port"),
        (["--role", "all"], {"WINDLASS_SECRETS_PEPPER": "short-pepper"}, "at least 32"),
    ],
)
def test_a_missing_setting_is_named_before_anything_starts(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], problem: str
) -> None:
    code, text = Server(tmp_path, *arguments, **settings).end()
    assert (code, problem in text) == (2, True), text
    assert "short-pepper" not in text
