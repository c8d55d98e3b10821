"""The generated CustomResourceDefinitions."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.charts.rendering import CRDS

from windlass.kube.__main__ import render_crd
from windlass.kube.resources import KINDS, CustomResource
from windlass.kube.schema import custom_resource_definition

kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def schema_of(kind: type[CustomResource]) -> dict[str, Any]:
    [version] = custom_resource_definition(kind)["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def nodes(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield place, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{place}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from nodes(schema[name], f"{place}[]")


@kinds
def test_every_value_has_one_type_and_no_reference(kind: type[CustomResource]) -> None:
    for place, schema in nodes(schema_of(kind)):
        assert isinstance(schema.get("type"), str), place
        assert not {"$ref", "anyOf", "oneOf", "allOf", "title", "const"} & schema.keys(), place


@kinds
def test_every_spec_is_bounded(kind: type[CustomResource]) -> None:
    """Without bounds the cost of a CEL rule and the size of an object are unbounded."""
    for place, schema in nodes(schema_of(kind)["properties"]["spec"], ".spec"):
        if schema["type"] == "array":
            assert "maxItems" in schema, place
        if schema["type"] == "integer":
            assert {"minimum", "maximum"} <= schema.keys(), place
        if schema["type"] == "string":
            assert {"maxLength", "enum"} & schema.keys(), place


@kinds
def test_columns_rules_and_scale_name_fields_that_exist(kind: type[CustomResource]) -> None:
    known = {place.replace("[]", "") for place, _ in nodes(schema_of(kind))}
    paths = [rule.field for rule in kind.rules if rule.field]
    paths += [column.path for column in kind.columns if not column.path.startswith(".metadata")]
    paths += [kind.scale.spec_replicas, kind.scale.status_replicas] if kind.scale else []
    for path in paths:
        plain = path.partition("[?(")[0].replace("[0]", "")
        assert plain in known, path


@kinds
def test_chart_manifest_matches_the_models(kind: type[CustomResource]) -> None:
    """``make docs`` regenerates it."""
    assert (CRDS / f"{kind.plural}.yaml").read_text("utf-8") == render_crd(kind)


def undescribed(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """The fields without a description, which `kubectl explain` shows."""
    for name, field in schema.get("properties", {}).items():
        if path and not field.get("description"):
            yield f"{path}.{name}"
        yield from undescribed(field, f"{path}.{name}")
    if "items" in schema:
        yield from undescribed(schema["items"], f"{path}[]")


@kinds
def test_every_field_has_a_description(kind: type[CustomResource]) -> None:
    found = schema_of(kind)["properties"]
    assert [name for part in ("spec", "status") for name in undescribed(found[part], part)] == []
