"""The local Ray: access control, adoption by another server, cleanup."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from windlass.domain.errors import UnavailableError
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.orchestration.ray_head import LocalRay

pytestmark = pytest.mark.processes

ASK = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    print(len(GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, 10)) > 0)
except AuthenticationError:
    print("refused")
"""
JOIN = """
import os, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
task = ray.remote(num_cpus=500)(lambda: os.getpid())
print(len(set(ray.get([task.remote() for _ in range(2)]))))
"""
WAITING = """
import os, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
print(ray.get(ray.remote(lambda: os.environ["OMP_WAIT_POLICY"]).remote()))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "ray"


@pytest.fixture(scope="module")
def ray(root: Path) -> Iterator[LocalRay]:
    ray = LocalRay(root, sys.executable)
    try:
        ray.ensure()
        yield ray
    finally:
        ray.stop()


def head(root: Path) -> ProcessRecord:
    record = ProcessRecord.load(root / "process.json")
    assert record is not None
    return record


def listening(root: Path) -> list[tuple[str, int]]:
    members = set(processes.pids(head(root)))
    result = (c for c in psutil.net_connections("inet") if c.pid in members and c.status == psutil.CONN_LISTEN)
    return [(connection.laddr[0], connection.laddr[1]) for connection in result if connection.laddr]


def client(code: str, address: str, **environment: str) -> str:
    command = [sys.executable, "-c", code, address]
    clean = processes.clean_environment(environment)
    return subprocess.run(command, env=clean, capture_output=True, text=True, timeout=90, check=True).stdout.strip()


def test_another_server_adopts_the_same_ray(ray: LocalRay, root: Path) -> None:
    before = head(root)
    assert LocalRay(root, sys.executable).address() == ray.ensure()
    assert LocalRay(root, sys.executable).ensure() == ray.ensure()
    assert head(root) == before


def test_a_ray_that_does_not_run_has_no_address(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="Ray is not ready"):
        LocalRay(tmp_path / "ray", sys.executable).address()
    assert not (tmp_path / "ray").exists()


def test_ray_listens_only_on_the_loopback_address(ray: LocalRay, root: Path) -> None:
    sockets = listening(root)
    assert (ray.ensure().rpartition(":")[0], len(sockets) > 2) == ("127.0.0.1", True)
    assert {address.removeprefix("::ffff:") for address, _ in sockets} == {"127.0.0.1"}


def test_a_client_without_the_right_token_is_rejected(ray: LocalRay, tmp_path: Path) -> None:
    address = ray.ensure()
    assert client(ASK, address, **ray.environment()) == "True"
    assert client(ASK, address, RAY_AUTH_MODE="disabled") == "refused"
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    assert client(ASK, address, **{**ray.environment(), "RAY_AUTH_TOKEN_PATH": str(wrong)}) == "refused"


def test_the_http_port_requires_the_token(ray: LocalRay, root: Path) -> None:
    statuses = set()
    for _, port in listening(root):
        try:
            with httpx2.Client(trust_env=False, timeout=5) as http:
                reply = http.post(f"http://127.0.0.1:{port}/api/job_agent/jobs/", json={"entrypoint": "id"})
            statuses.add(reply.status_code)
        except httpx2.TransportError:
            continue  # a gRPC port, which the test above asks in its own language
    assert statuses == {401}


def test_the_token_is_readable_only_by_its_owner(ray: LocalRay, root: Path) -> None:
    ray.ensure()
    assert stat.S_IMODE((root / "token").stat().st_mode) == 0o600
    assert len((root / "token").read_text()) == 64
    assert stat.S_IMODE(ray._temp.stat().st_mode) == 0o700
    assert (root / "token").read_text() not in (root / "head.log").read_text()


def test_ray_never_queues_admitted_work(ray: LocalRay) -> None:
    assert client(JOIN, ray.ensure(), **ray.environment()) in {"1", "2"}


def test_openmp_threads_of_workers_wait_passively(ray: LocalRay) -> None:
    assert client(WAITING, ray.ensure(), **ray.environment()) == "PASSIVE"


def test_a_broken_ray_is_replaced_and_stop_leaves_no_processes(ray: LocalRay, root: Path) -> None:
    before, address = head(root), ray.ensure()
    members = {psutil.Process(pid) for pid in processes.pids(before)}
    gcs = next(process for process in members if process.name() == "gcs_server")
    os.kill(gcs.pid, signal.SIGKILL)
    assert processes.wait(before, 60)
    after = ray.ensure()
    assert after != address
    assert head(root) != before
    assert [process for process in members if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    ports, record = listening(root), head(root)
    ray.stop()
    assert processes.pids(record) == []
    assert not ray._temp.exists()
    for address, port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex((address.removeprefix("::ffff:"), port)) != 0
    ray.stop()


def test_a_failed_start_is_reported_with_the_log(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no ray here >&2\nexit 1\n")
    broken.chmod(0o700)
    ray = LocalRay(tmp_path / "ray", str(broken))
    with pytest.raises(Exception, match="no ray here"):
        ray.ensure()
    assert not ray._temp.exists()
    assert not (tmp_path / "ray" / "process.json").exists()
