"""Renders the chart of the Kubeflow Pipelines server."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from helm_python import Chart
from tests.charts.rendering import CHARTS, merged, objects_of

Json = dict[str, Any]
PIPELINES = CHARTS / "kubeflow-pipelines"
RELEASE = "kubeflow-pipelines"
NAMESPACE = "kubeflow"
REQUIRED: Json = {
    "objectStore": {"endpoint": "https://s3.example.com", "accessKeyId": "access", "secretAccessKey": "secret"}
}
"""The values that have no default."""


@cache
def _chart() -> Chart:
    return Chart.load(PIPELINES)


def files(values: Mapping[str, Any] | None = None, *, namespace: str = NAMESPACE) -> dict[str, str]:
    """The rendered templates by name."""
    rendered: dict[str, str] = _chart().render(values=merged(REQUIRED, values or {}), name=RELEASE, namespace=namespace)
    return rendered


def render_pipelines(values: Mapping[str, Any] | None = None, *, namespace: str = NAMESPACE) -> list[Json]:
    """The objects of a release with the required values and ``values``."""
    return objects_of(files(values, namespace=namespace))


def pipelines_notes(values: Mapping[str, Any] | None = None) -> str:
    """The text that Helm prints after an installation."""
    return next(content for name, content in files(values).items() if name.endswith("NOTES.txt"))


def network_policies(values: Mapping[str, Any] | None = None) -> dict[str, Json]:
    """The specs of the network policies by name."""
    objects = render_pipelines(values)
    return {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "NetworkPolicy"}
