"""The commands of the guide on quotas, one after the other, on a cluster that has nothing of Windlass yet."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.architecture.tree import ROOT
from tests.bed.cluster_api import apply
from tests.bed.fixture import command
from tests.bed.layout import Bed
from tests.docs.pages import commands_of
from tests.integration.cluster.installed import RIGHTS, SYSTEM, WORKER, admin_of, may, queued_job
from tests.integration.cluster.operating import Operators, take_down
from tests.integration.cluster.waiting import eventually

from windlass.kube.objects import Ref
from windlass_operators.kinds import PROJECT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
PAGE = Path("docs/guides/quotas.md")


def test_the_guide_does_what_it_says(cluster: Bed, tmp_path: Path) -> None:
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig), "PATH": f"{cluster.bin}:{os.environ['PATH']}"}
    running = Operators(cluster, tmp_path / "log", as_admin=True, NAMESPACE=SYSTEM)
    try:
        for step in commands_of(PAGE, (ROOT / PAGE).read_text("utf-8")):
            if step.text.startswith("python -m windlass_operators"):
                running.start_active()
                continue
            if step.text.startswith("kubectl delete project"):
                start_a_job(cluster)
            ended = subprocess.run(
                ["bash", "-euc", step.text], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
            assert ended.returncode == 0, f"{step.text}\n{ended.stdout}\n{ended.stderr}"
        assert running.client.find(Ref(PROJECT, "search")) is None
        take_down(running)
    finally:
        running.stop()
        assert command(cluster, "reset").returncode == 0


def start_a_job(cluster: Bed) -> None:
    """What the last part of the guide takes for granted: somebody works in the project."""
    apply(cluster, may(WORKER, "test-worker", *RIGHTS))
    admin_of(cluster, impersonate=WORKER).create(queued_job("search", "live", 1), manager="test")
    client = admin_of(cluster)
    eventually(lambda: client.get(Ref(PROJECT, "search"))["status"]["used"] == 1, "the job is admitted")
