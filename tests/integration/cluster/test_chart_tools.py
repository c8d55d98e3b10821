"""The charts with programs from Go modules, without a cluster: Helm 3 and 4, kube-score, Kueue's chart."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart
from tests.architecture.tree import ROOT
from tests.charts.pipelines import NAMESPACE, PIPELINES, RELEASE, render_pipelines
from tests.charts.pipelines import REQUIRED as PIPELINES_VALUES
from tests.charts.rendering import CHART, PROFILES, SYSTEM, merged, objects_of, only, profile, render
from tests.charts.scan import accepted, scan
from tests.charts.stack import EVALUATION, assemble
from tests.testcluster.tools import built, tool

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
Json = dict[str, Any]
ALERT_TESTS = ROOT / "tests" / "charts" / "alerts-test.yaml"
profiles = pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The umbrella chart with Kueue's real chart, and a stub of KubeRay's, which no Go module contains."""
    return assemble(tmp_path_factory.mktemp("stack"), {"kueue": built("kueue").file("charts/kueue")})


def helm(binary: Path, folder: Path, *arguments: str) -> str:
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        [str(binary), *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def with_fixed_secrets(values: Json) -> Json:
    return merged(values, {"secrets": {"existingSecret": "windlass-secrets"}})


@profiles
def test_helm_3_and_helm_4_accept_the_chart_and_render_the_same(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(with_fixed_secrets(profile(path))), "utf-8")
    rendered = []
    for binary in (tool("helm3"), tool("helm")):
        helm(binary, tmp_path, "lint", "--strict", str(CHART), "--values", str(file))
        template = ["template", "windlass", str(CHART), "--namespace", SYSTEM, "--values", str(file)]
        text = helm(binary, tmp_path, *template)
        assert text == helm(binary, tmp_path, *template)
        rendered.append(objects_of({"all.yaml": text}))
    assert len(rendered[0]) > 50
    assert _sorted(rendered[0]) == _sorted(rendered[1])


def test_helm_3_and_helm_4_accept_the_umbrella_chart_and_render_the_same(stack: Path, tmp_path: Path) -> None:
    values = str(stack / "values-eval.yaml")
    rendered = []
    for binary in (tool("helm3"), tool("helm")):
        helm(binary, tmp_path, "lint", "--strict", str(stack), "--values", values)
        text = helm(binary, tmp_path, "template", "windlass-stack", str(stack), "--namespace", SYSTEM, "-f", values)
        rendered.append([one for one in objects_of({"all.yaml": text}) if one["kind"] != "Secret"])
    assert len(rendered[0]) > 100
    assert _sorted(rendered[0]) == _sorted(rendered[1])


def test_helm_3_and_helm_4_accept_the_pipelines_chart_and_render_the_same(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(merged(PIPELINES_VALUES, {"mysql": {"existingSecret": "own"}})), "utf-8")
    rendered = []
    for binary in (tool("helm3"), tool("helm")):
        helm(binary, tmp_path, "lint", "--strict", str(PIPELINES), "--values", str(file))
        template = ["template", RELEASE, str(PIPELINES), "--namespace", NAMESPACE, "--values", str(file)]
        rendered.append(objects_of({"all.yaml": helm(binary, tmp_path, *template)}))
    assert len(rendered[0]) > 40
    assert _sorted(rendered[0]) == _sorted(rendered[1])


def _sorted(objects: list[Json]) -> list[Json]:
    return sorted(objects, key=lambda one: (one["kind"], one["metadata"]["name"]))


def test_the_umbrella_chart_fits_kueues_chart(stack: Path) -> None:
    with Chart.load(stack) as chart:
        objects = objects_of(chart.render(values=EVALUATION, name="windlass-stack", namespace="mlops"))
    manager = only(objects, "Deployment", "kueue-controller-manager")
    account = manager["spec"]["template"]["spec"]["serviceAccountName"]
    policies = yaml.safe_dump([one for one in objects if one["kind"] == "ValidatingAdmissionPolicy"])
    assert f"system:serviceaccount:mlops:{account}" in policies
    network = only(objects, "NetworkPolicy", "kueue")["spec"]
    labels = manager["spec"]["template"]["metadata"]["labels"]
    assert network["podSelector"]["matchLabels"].items() <= labels.items()
    [container] = manager["spec"]["template"]["spec"]["containers"]
    assert {port["containerPort"] for port in container["ports"]} == {
        port["port"] for port in network["ingress"][0]["ports"]
    }
    defined = {one["spec"]["names"]["kind"] for one in objects if one["kind"] == "CustomResourceDefinition"}
    for one in objects:
        if one["kind"] in defined:
            assert one["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade", one["kind"]


def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    rules = yaml.safe_load((CHART / "alerts.yaml").read_text("utf-8"))
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "windlass", "rules": rules}]}), "utf-8")
    ended = subprocess.run(
        [tool("alert-test"), file, ALERT_TESTS], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"


def test_the_tests_of_alerts_find_a_wrong_rule(tmp_path: Path) -> None:
    rules = yaml.safe_load((CHART / "alerts.yaml").read_text("utf-8"))
    for rule in rules:
        rule["for"] = "10h"
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "windlass", "rules": rules}]}), "utf-8")
    ended = subprocess.run(
        [tool("alert-test"), file, ALERT_TESTS], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert all(rule["alert"] in ended.stdout for rule in rules)


def test_every_finding_in_the_charts_is_accepted_with_a_reason(stack: Path) -> None:
    with Chart.load(stack) as chart:
        umbrella = objects_of(chart.render(values=EVALUATION, name="windlass-stack", namespace=SYSTEM))
    releases = [*(render(profile(path)) for path in PROFILES), umbrella, render_pipelines()]
    kube_score = tool("kube-score")
    findings = {each for objects in releases for each in scan(kube_score, objects) if "kueue-" not in each.object}
    acceptances = accepted()
    assert [each for each in findings if not any(one.covers(each) for one in acceptances)] == []
    assert [one for one in acceptances if not any(one.covers(each) for each in findings)] == []
    assert all(len(one.reason.split()) >= 5 for one in acceptances)
