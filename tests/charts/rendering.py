"""Renders the project's Helm charts in this process, without a cluster."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart
from tests.architecture.tree import ROOT

Json = dict[str, Any]
CHARTS = ROOT / "helm"
CHART = CHARTS / "windlass"
STACK = CHARTS / "windlass-stack"
CRDS = CHARTS / "windlass-crds" / "templates"
"""Plain manifests: nothing in them is templated."""
SYSTEM = "windlass-system"
REQUIRED: Json = {
    "database": {"url": "postgresql+psycopg://windlass:secret@postgres.example.com:5432/windlass"},
    "objectStore": {"endpoint": "https://s3.example.com", "accessKeyId": "access", "secretAccessKey": "secret"},
}
"""The values that have no default."""
PROFILES = tuple(sorted(CHART.glob("values-*.yaml")))


def profile(path: Path) -> Json:
    """The values of a profile, with what it leaves to the user."""
    values: Json = yaml.safe_load(path.read_text("utf-8"))
    left = {"networkPolicy": {"objectStoreTo": [{"ipBlock": {"cidr": "10.0.0.0/24"}}]}}
    return merged(merged(REQUIRED, left), values)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Json:
    """Merge mappings as Helm merges values."""
    result = dict(base)
    for name, value in changes.items():
        known = result.get(name)
        result[name] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


@cache
def _chart(folder: Path) -> Chart:
    return Chart.load(folder)


def render(values: Mapping[str, Any] | None = None, *, namespace: str = SYSTEM, chart: Path = CHART) -> list[Json]:
    """The objects of a release with the required values and ``values``, hooks included."""
    text = _chart(chart).render(values=merged(REQUIRED, values or {}), name="windlass", namespace=namespace)
    return objects_of(text)


def objects_of(rendered: Mapping[str, str]) -> list[Json]:
    """The objects in rendered templates."""
    files = [content for name, content in sorted(rendered.items()) if name.endswith(".yaml")]
    # The loader in C: the definitions of Kueue have megabytes.
    return [one for content in files for one in yaml.load_all(content, yaml.CSafeLoader) if one]


def notes(values: Mapping[str, Any] | None = None) -> str:
    """The text that Helm prints after an installation."""
    text = _chart(CHART).render(values=merged(REQUIRED, values or {}), name="windlass", namespace=SYSTEM)
    return next(content for name, content in text.items() if name.endswith("NOTES.txt"))


def only(objects: list[Json], kind: str, name: str) -> Json:
    """The object of this kind and name."""
    [found] = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def is_hook(subject: Json) -> bool:
    """Whether Helm creates the object around an installation or test, and not as part of the release."""
    return "helm.sh/hook" in subject["metadata"].get("annotations", {})


def pod_templates(objects: list[Json]) -> dict[str, Json]:
    """The pod templates by the kind and name of their owners."""
    result = {}
    for one in objects:
        name = f"{one['kind']} {one['metadata']['name']}"
        if one["kind"] in {"Deployment", "StatefulSet", "Job"}:
            result[name] = one["spec"]["template"]
        elif one["kind"] == "Pod":
            result[name] = one
    return result
