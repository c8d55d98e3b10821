"""The values of the chart: schema, profiles, generated secrets, errors, notes."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import HelmError, lint
from tests.charts.rendering import CHART, PROFILES, REQUIRED, merged, notes, only, profile, render

import windlass
from windlass.kube.resources import KINDS

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"api": {"replica": 2}}, "at '/api': additional properties 'replica' not allowed"),
        ({"replicas": 2}, "additional properties 'replicas' not allowed"),
        ({"api": {"replicas": 0}}, "at '/api/replicas': minimum: got 0, want 1"),
        ({"images": {"ray": {"digest": "latest"}}}, "at '/images/ray/digest'"),
        ({"settings": {"PATH": "/bin"}}, "at '/settings': additional properties 'PATH' not allowed"),
        ({"database": {"url": "mysql://db"}}, "at '/database/url'"),
        ({"pools": {"A100": {}}}, "at '/pools': additional properties 'A100' not allowed"),
        ({"database": {"url": ""}}, "database.url is not set: set it, or database.existingSecret"),
        ({"objectStore": {"secretAccessKey": ""}}, "objectStore.secretAccessKey is not set"),
        ({"ingress": {"enabled": True}}, "ingress.host is not set"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs is empty"),
    ],
)
def test_wrong_values_are_refused_with_the_field_and_the_way_out(values: Json, message: str) -> None:
    with pytest.raises(HelmError, match=re.escape(message)):
        render(values)


@pytest.mark.parametrize("path", [None, *PROFILES], ids=lambda path: path.stem if path else "default")
def test_the_chart_passes_lint_with_every_profile(path: Path | None) -> None:
    result = lint(CHART, values=profile(path) if path else REQUIRED, strict=True)
    assert [each for each in result["messages"] if "icon is recommended" not in str(each)] == []


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_second_render_of_a_profile_is_identical_and_names_are_unique(path: Path) -> None:
    values = merged(profile(path), {"secrets": {"existingSecret": "windlass-secrets"}})
    first = render(values)
    assert first == render(values)
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in first]
    assert len(names) == len(set(names))


def test_no_object_of_the_release_is_in_another_namespace() -> None:
    spaces = {one["metadata"].get("namespace") for one in render(namespace="mlops")}
    assert spaces == {None, "mlops"}


def test_generated_secrets_are_valid_and_kept() -> None:
    secret = only(render(), "Secret", "windlass-secrets")
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    pepper, key = (base64.b64decode(secret["data"][name]).decode() for name in ("pepper", "admin-key"))
    assert len(pepper) >= 64
    assert re.fullmatch(r"wlk_[a-z0-9]{26}_[A-Za-z0-9]{43}", key)
    assert only(render(), "Secret", "windlass-secrets") != secret


def test_pools_and_projects_of_the_values_are_valid_resources_that_are_kept() -> None:
    [gpu] = [path for path in PROFILES if path.stem == "values-gpu"]
    objects = render(profile(gpu))
    kinds = {kind.kind(): kind for kind in KINDS}
    found = [one for one in objects if one["kind"] in kinds]
    assert sorted(one["metadata"]["name"] for one in found) == ["a100", "h100", "research"]
    for one in found:
        kinds[one["kind"]].model_validate(one)
        assert one["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_versions_are_that_of_the_package() -> None:
    for chart in CHART.parent.glob("*/Chart.yaml"):
        content = yaml.safe_load(chart.read_text("utf-8"))
        # The version of the application is that of the program that the chart installs.
        installed = "2.17.0" if content["name"] == "kubeflow-pipelines" else windlass.__version__
        assert (content["version"], content["appVersion"]) == (windlass.__version__, installed), chart


def test_the_production_profile_needs_the_addresses_of_the_object_store() -> None:
    [production] = [path for path in PROFILES if path.stem == "values-production"]
    values = merged(profile(production), {"networkPolicy": {"objectStoreTo": []}})
    with pytest.raises(HelmError, match=r"networkPolicy\.objectStoreTo is empty: set it to the addresses"):
        render(values)
    assert render(profile(production))


def test_the_notes_warn_of_pods_that_reach_every_address() -> None:
    assert "Pods of projects reach every address on port 443" in notes()
    peers = [{"ipBlock": {"cidr": "10.0.0.0/24"}}]
    assert "every address" not in notes({"networkPolicy": {"objectStoreTo": peers}})


def test_the_notes_name_the_next_commands() -> None:
    text = notes()
    assert "helm test windlass --namespace windlass-system" in text
    assert "go-template='{{ index .data \"admin-key\" | base64decode }}'" in text
    assert "There are no GPU pools yet" in text
    public = notes({"ingress": {"enabled": True, "host": "mlops.example.com", "tlsSecret": "tls"}, "pools": {"a": {}}})
    assert "WINDLASS_URL=https://mlops.example.com" in public
    assert "no GPU pools" not in public
