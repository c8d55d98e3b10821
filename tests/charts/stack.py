"""Assembles the umbrella chart with its dependencies, without a chart repository.

The charts of this repository are real. Those of other projects are real where a caller has them, such as Kueue's from
its Go module; else they are stubs with the same name and version, whose only object has the values that they got.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tests.charts.rendering import CHARTS, STACK

Json = dict[str, Any]
EVALUATION: Json = yaml.safe_load((STACK / "values-eval.yaml").read_text("utf-8"))
"""The profile for a fresh cluster."""
DEPENDENCIES: list[Json] = yaml.safe_load((STACK / "Chart.yaml").read_text("utf-8"))["dependencies"]
_STUB = """apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Chart.Name }}-stub}
data: {values: {{ toJson .Values | quote }}}
"""


def assemble(folder: Path, charts: Mapping[str, Path] | None = None) -> Path:
    """Copy the chart to a folder with its dependencies; ``charts`` are charts of other projects by name."""
    chart = folder / STACK.name
    shutil.copytree(STACK, chart, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
    for dependency in DEPENDENCIES:
        name = dependency["name"]
        target = chart / "charts" / name
        if dependency["repository"].startswith("file://"):
            shutil.copytree(CHARTS / name, target)
        elif name in (charts or {}):
            shutil.copytree((charts or {})[name], target)
        else:
            _write_stub(target, name, dependency["version"])
    return chart


def _write_stub(chart: Path, name: str, version: str) -> None:
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: {version}\n", "utf-8")
    (chart / "templates" / "stub.yaml").write_text(_STUB, "utf-8")
