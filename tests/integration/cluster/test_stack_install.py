"""Releases of the umbrella chart on a real API server, with Helm 3 and 4. No pod starts: its images are missing."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.charts.rendering import SYSTEM, merged
from tests.charts.stack import EVALUATION, assemble
from tests.testcluster.cluster_api import documents, kubectl
from tests.testcluster.fixture import command
from tests.testcluster.layout import LocalCluster
from tests.testcluster.tools import tool

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
RELEASE = "windlass-stack"
VALUES: Json = {
    "install": {"kueue": False, "kuberay": False},  # those of the cluster
    "windlass": {"kueue": {"namespace": "kueue-system"}, "kuberay": {"namespace": "ray-system"}},
    "postgresql": {"persistence": {"enabled": False}},
    "s3": {"persistence": {"enabled": False}},
}
POOL = ("get", "gpupool", "gpu", "-o", "json")


class Releases:
    """Installs and changes the release with one version of Helm."""

    def __init__(self, cluster: LocalCluster, binary: Path, folder: Path) -> None:
        self.cluster, self._binary, self._folder = cluster, binary, folder
        self._chart = assemble(folder)

    def helm(self, *arguments: str) -> str:
        ended = subprocess.run(
            [str(self._binary), *arguments, "--namespace", SYSTEM],
            env=os.environ | {"KUBECONFIG": str(self.cluster.kubeconfig), "HOME": str(self._folder)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def change(self, verb: str, values: Json | None = None) -> None:
        """Install or upgrade."""
        file = self._folder / "values.yaml"
        file.write_text(yaml.safe_dump(merged(merged(EVALUATION, VALUES), values or {})), "utf-8")
        options = ["--create-namespace"] if verb == "install" else []
        self.helm(verb, RELEASE, str(self._chart), "--values", str(file), *options)

    def kinds(self) -> set[str]:
        """The kinds of the objects of the release; hooks are not part of it."""
        return {one["kind"] for one in documents(self.helm("get", "manifest", RELEASE))}

    def read(self, *arguments: str) -> Json:
        found: Json = json.loads(kubectl(self.cluster, *arguments))
        return found


@pytest.fixture(params=["helm3", "helm"])
def releases(request: pytest.FixtureRequest, cluster: LocalCluster, tmp_path: Path) -> Iterator[Releases]:
    yield Releases(cluster, tool(request.param), tmp_path)
    assert command(cluster, "reset").returncode == 0


def secrets(releases: Releases) -> dict[str, Json]:
    names = ("windlass-postgresql", "windlass-s3", "windlass-secrets")
    return {name: releases.read("-n", SYSTEM, "get", "secret", name, "-o", "json")["data"] for name in names}


def test_one_command_installs_the_definitions_and_their_objects_and_upgrades_adopt_them(releases: Releases) -> None:
    releases.change("install")
    pool, before = releases.read(*POOL), secrets(releases)
    assert releases.read("get", "project", "demo", "-o", "json")["spec"]["quotas"] == [{"pool": "gpu", "nominal": 1}]
    assert "CustomResourceDefinition" in releases.kinds()
    assert not {"GPUPool", "Project"} & releases.kinds()

    releases.change("upgrade")
    assert {"GPUPool", "Project", "WorkloadPriorityClass"} <= releases.kinds()
    releases.change("upgrade", {"windlass": {"pools": {"gpu": {"gpuType": "another"}}}})
    changed = releases.read(*POOL)
    assert changed["spec"]["gpuType"] == "another"
    assert changed["metadata"]["uid"] == pool["metadata"]["uid"]
    assert secrets(releases) == before

    releases.helm("uninstall", RELEASE, "--no-hooks")
    assert releases.read(*POOL)["metadata"]["uid"] == pool["metadata"]["uid"]
    releases.change("install")
    assert secrets(releases) == before
    assert {"GPUPool", "Project"} <= releases.kinds()
