"""The keys of a chart's values and of their schema."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from tests.charts.pipelines import PIPELINES
from tests.charts.rendering import CHART, STACK

Json = dict[str, Any]


@dataclass
class ChartValues:
    """The values of a chart; ``free`` are keys whose content Kubernetes, another chart or another tool defines."""

    chart: Path
    free: frozenset[str]

    @cached_property
    def values(self) -> Json:
        """The defaults."""
        content: Json = yaml.safe_load((self.chart / "values.yaml").read_text("utf-8"))
        return content

    @cached_property
    def schema(self) -> Json:
        """The schema of the values."""
        content: Json = json.loads((self.chart / "values.schema.json").read_text("utf-8"))
        return content

    def schema_paths(self) -> set[str]:
        """The path of every key of the schema, such as ``.api.replicas``."""
        return set(self._schema_paths(self.schema, ""))

    def value_paths(self) -> set[str]:
        """The path of every key of the defaults."""
        return set(self._value_paths(self.values, ""))

    def open_objects(self) -> list[str]:
        """The paths of objects in the schema that accept unknown keys."""
        return list(self._open(self.schema, ""))

    def _resolved(self, schema: Json) -> Json:
        reference = schema.get("$ref")
        found: Json = self.schema["definitions"][reference.rsplit("/", 1)[-1]] if reference else schema
        return found

    def _schema_paths(self, schema: Json, path: str) -> Iterator[str]:
        for name, field in self._resolved(schema).get("properties", {}).items():
            if path or name not in {"global", "windlass-crds"}:  # of umbrella charts
                yield f"{path}.{name}"
                if name not in self.free:
                    yield from self._schema_paths(field, f"{path}.{name}")

    def _value_paths(self, values: Json, path: str) -> Iterator[str]:
        for name, value in values.items():
            yield f"{path}.{name}"
            if isinstance(value, dict) and name not in self.free:
                yield from self._value_paths(value, f"{path}.{name}")

    def _open(self, schema: Json, path: str) -> Iterator[str]:
        found = self._resolved(schema)
        if "properties" in found:
            if found.get("additionalProperties") is not False:
                yield path
            for name, field in found["properties"].items():
                yield from self._open(field, f"{path}.{name}")


WINDLASS = ChartValues(
    CHART,
    frozenset(
        {"resources", "affinity", "podSecurityContext", "containerSecurityContext", "metricsFrom", "dashboardLabels"}
    ),
)
PIPELINES_VALUES = ChartValues(PIPELINES, frozenset({"resources", "executorResources", "nodeSelector"}))
STACK_VALUES = ChartValues(STACK, frozenset({"resources", "windlass", "kueue", "kuberay-operator"}))
