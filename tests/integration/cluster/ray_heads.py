"""Gives the Ray heads on fake nodes what their containers would run: the job API of the dashboard."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes import ray_dashboard
from tests.integration.cluster.waiting import eventually
from tests.testcluster import processes
from tests.testcluster.fake_nodes import POD_RANGE
from tests.testcluster.layout import LocalCluster

_PORT = 8265


@pytest.fixture(scope="module")
def ray_heads(cluster: LocalCluster) -> Iterator[None]:
    """Every address of a pod on a fake node answers as the dashboard of a Ray head."""
    route = ("local", POD_RANGE, "dev", "lo")
    processes.run_inside(cluster, "ip", "route", "replace", *route)
    program = [sys.executable, str(Path(ray_dashboard.__file__)), str(_PORT)]
    command = processes.nsenter_command(cluster, program)
    with subprocess.Popen(command, cwd="/", env=processes.ENVIRONMENT) as running:
        try:
            eventually(lambda: _listens(cluster) or running.poll() is not None, "the dashboards listen")
            assert running.poll() is None
            yield
        finally:
            running.terminate()
    processes.run_inside(cluster, "ip", "route", "delete", *route)


def _listens(cluster: LocalCluster) -> bool:
    """Whether the cluster's network namespace has a listener on the port."""
    return processes.listening(cluster, processes.NAMESPACE_HOLDER, _PORT)
