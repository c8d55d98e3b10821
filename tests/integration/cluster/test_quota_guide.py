"""The commands of the guide on quotas, one after the other, on a cluster that has nothing of Windlass yet."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.architecture.tree import ROOT
from tests.bed.cluster_api import apply
from tests.bed.fixture import command
from tests.bed.layout import Bed
from tests.docs.pages import ON_A_FREE_PORT, Command, commands_of, session
from tests.integration.cluster.installed import RIGHTS, SYSTEM, WORKER, admin_of, may, queued_job
from tests.integration.cluster.operating import Operators, take_down
from tests.integration.cluster.waiting import eventually

from windlass.kube.objects import Ref
from windlass_operators.kinds import PROJECT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
PAGE = Path("docs/guides/quotas.md")


def test_the_guide_does_what_it_says(cluster: Bed, tmp_path: Path) -> None:
    home = tmp_path / "windlass-cluster"
    path = f"{cluster.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"KUBECONFIG": str(cluster.kubeconfig), "PATH": path, "HOME": str(tmp_path), "WINDLASS_HOME": str(home)}
    installing, working, deleting = parts()
    running = Operators(cluster, tmp_path / "log", as_admin=True, NAMESPACE=SYSTEM, LEASE_SECONDS="30")

    def run(commands: list[Command]) -> str:
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
        told = run(working)
        assert "Preempted: project speech took back GPUs" in told
        assert "is managed by kubectl-client-side-apply" in told
        start_a_job(cluster)
        run(deleting)
        assert running.client.find(Ref(PROJECT, "search")) is None
        take_down(running)
    finally:
        subprocess.run(["windlass", "down"], env=os.environ | own, capture_output=True, timeout=60, check=False)
        running.stop()
        assert command(cluster, "reset").returncode == 0


def parts() -> list[list[Command]]:
    """The page's commands before the operators start, after that, and from where a project with a job is deleted."""
    found: list[list[Command]] = [[]]
    for step in commands_of(PAGE, (ROOT / PAGE).read_text("utf-8")):
        if step.text.startswith("python -m windlass_operators"):
            found.append([])
            continue
        if step.text.startswith("kubectl delete project"):
            found.append([])
        found[-1].append(replace(step, skip=""))
    return found


def start_a_job(cluster: Bed) -> None:
    """What the last part of the guide takes for granted: somebody works in the project."""
    apply(cluster, may(WORKER, "test-worker", *RIGHTS))
    admin_of(cluster, impersonate=WORKER).create(queued_job("search", "live", 1), manager="test")
    client = admin_of(cluster)
    eventually(lambda: client.get(Ref(PROJECT, "search"))["status"]["used"] == 1, "the job is admitted")
