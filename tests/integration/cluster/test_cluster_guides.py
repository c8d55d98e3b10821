"""The commands of the guides on operation, upgrade and removal, on an installation with real pods."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.architecture.tree import ROOT
from tests.charts.rendering import CHARTS, SYSTEM
from tests.cluster_demo.installation import install_charts
from tests.docs.pages import commands_of, session
from tests.testcluster import node
from tests.testcluster.cluster_api import kubectl
from tests.testcluster.fixture import command
from tests.testcluster.layout import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.timeout(3000)]
RUN_HERE = "it needs a cluster"
"""The reason for which pages skip the commands that this test runs."""
PROJECT = "guides"


@pytest.fixture(scope="module")
def installed(cluster: LocalCluster) -> LocalCluster:
    """The cluster with a release of the chart, whose pods are ready."""
    started = command(cluster, "up", "--backing-services", "--image", "control-plane", "--image", "operators")
    assert started.returncode == 0, started.stderr
    install_charts(cluster, PROJECT)
    return cluster


def run(cluster: LocalCluster, script: str, folder: Path = ROOT) -> str:
    path = f"{cluster.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=os.environ | {"KUBECONFIG": str(cluster.kubeconfig), "PATH": path},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout


def guide(cluster: LocalCluster, name: str, folder: Path) -> str:
    """Run the commands of a page that need a cluster, in a folder that has the repository's ``helm``."""
    page = Path("docs") / "guides" / f"{name}.md"
    steps = [each for each in commands_of(page, (ROOT / page).read_text("utf-8")) if each.skip == RUN_HERE]
    assert len(steps) > 3
    (folder / "helm").symlink_to(CHARTS)
    output = run(cluster, session([replace(each, skip="") for each in steps]), folder)
    assert re.search(r"^network policies {2,}ok {2,}enforced", output, re.MULTILINE)  # of `helm test`
    return output


def test_the_commands_of_the_guide_on_operation(installed: LocalCluster, tmp_path: Path) -> None:
    output = guide(installed, "operate", tmp_path)
    assert "windlass-api" in output
    assert node.POOL in output


def test_the_commands_of_the_guide_on_upgrades(installed: LocalCluster, tmp_path: Path) -> None:
    before = _generation(installed)
    guide(installed, "upgrade", tmp_path)
    assert _generation(installed) == before  # nothing changed, so nothing was restarted


def _generation(cluster: LocalCluster) -> str:
    return kubectl(cluster, "-n", SYSTEM, "get", "deployments", "-o", "jsonpath={.items[*].metadata.generation}")


def test_the_commands_of_the_guide_on_removal(installed: LocalCluster) -> None:
    """The last test of this module: nothing of Windlass is left."""
    text = (ROOT / "docs" / "guides" / "uninstall.md").read_text("utf-8")
    stopping, removing = text.split("## Remove everything")
    secret = ("-n", SYSTEM, "get", "secret", "windlass-secrets", "-o", "jsonpath={.data}")
    before = kubectl(installed, *secret)
    run(installed, _commands(stopping))
    assert kubectl(installed, *secret) == before
    assert kubectl(installed, "get", "projects,namespaces", "-o", "name").count(PROJECT) == 2
    assert "windlass-api" not in kubectl(installed, "-n", SYSTEM, "get", "deployments", "-o", "name")
    install_charts(installed, PROJECT)
    assert kubectl(installed, *secret) == before
    run(installed, _commands(removing))
    left = kubectl(installed, "get", "namespaces,crds,clusterroles,validatingadmissionpolicies", "-o", "name")
    assert [name for name in left.split() if "windlass" in name or "wl-" in name] == []


def _commands(markdown: str) -> str:
    steps = [each for each in commands_of(Path("docs/guides/uninstall.md"), markdown) if each.skip == RUN_HERE]
    assert steps
    return session([replace(each, skip="") for each in steps])
