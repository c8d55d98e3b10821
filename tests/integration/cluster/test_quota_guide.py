"""The commands of the quota guide, in order, on a cluster without Windlass."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.architecture.tree import ROOT
from tests.charts.rendering import SYSTEM
from tests.docs.pages import ON_A_FREE_PORT, PageCommand, commands_of, session
from tests.integration.cluster.installed import RIGHTS, WORKER, admin_client, grant, queued_job
from tests.integration.cluster.operator_process import OperatorProcess, delete_test_objects
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import apply
from tests.testcluster.fixture import command
from tests.testcluster.layout import LocalCluster

from windlass.kube.objects import Ref
from windlass_operators.kinds import PROJECT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
PAGE = Path("docs/guides/quotas.md")


def test_the_guides_commands_work(cluster: LocalCluster, tmp_path: Path) -> None:
    home = tmp_path / "windlass-cluster"
    path = f"{cluster.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"KUBECONFIG": str(cluster.kubeconfig), "PATH": path, "HOME": str(tmp_path), "WINDLASS_HOME": str(home)}
    installing, working, deleting = parts()
    running = OperatorProcess(cluster, tmp_path / "log", as_admin=True, NAMESPACE=SYSTEM, LEADER_LEASE_SECONDS="30")

    def run(commands: list[PageCommand]) -> str:
        ended = subprocess.run(
            ["bash", "-c", ON_A_FREE_PORT + session(commands)],
            cwd=ROOT,
            env=os.environ | own,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
        return ended.stdout + ended.stderr

    try:
        run(installing)
        running.start_active()
        output = run(working)
        assert "Preempted: project speech reclaimed GPUs" in output
        assert "is managed by kubectl-client-side-apply" in output
        start_a_job(cluster)
        run(deleting)
        assert running.client.find(Ref(PROJECT, "search")) is None
        delete_test_objects(running)
    finally:
        subprocess.run(["windlass", "down"], env=os.environ | own, capture_output=True, timeout=60, check=False)
        running.stop()
        assert command(cluster, "reset").returncode == 0


def parts() -> list[list[PageCommand]]:
    """The page's commands: before the operators start, after that, and from a project's deletion on."""
    found: list[list[PageCommand]] = [[]]
    for step in commands_of(PAGE, (ROOT / PAGE).read_text("utf-8")):
        if step.text.startswith("python -m windlass_operators"):
            found.append([])
            continue
        if step.text.startswith("kubectl delete project"):
            found.append([])
        found[-1].append(replace(step, skip=""))
    return found


def start_a_job(cluster: LocalCluster) -> None:
    """The precondition of the guide's last part: a job runs in the project."""
    apply(cluster, grant(WORKER, "test-worker", *RIGHTS))
    admin_client(cluster, impersonate=WORKER).create(queued_job("search", "live", 1), manager="test")
    client = admin_client(cluster)
    eventually(lambda: client.get(Ref(PROJECT, "search"))["status"]["used"] == 1, "the job is admitted")
