"""The CustomResourceDefinitions as generated: what apiextensions takes, and what people are told."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.architecture.tree import ROOT

from windlass.kube.__main__ import rendered
from windlass.kube.resources import KINDS, Resource
from windlass.kube.schema import custom_resource_definition

FOLDER = ROOT / "helm" / "windlass" / "crds"
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def schema_of(kind: type[Resource]) -> dict[str, Any]:
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
def test_every_value_has_one_type_and_no_reference(kind: type[Resource]) -> None:
    for place, schema in nodes(schema_of(kind)):
        assert isinstance(schema.get("type"), str), place
        assert not {"$ref", "anyOf", "oneOf", "allOf", "title", "const"} & schema.keys(), place


@kinds
def test_every_wish_is_bounded(kind: type[Resource]) -> None:
    """What has no bound makes the cost of a CEL rule, and of an object, unbounded too."""
    for place, schema in nodes(schema_of(kind)["properties"]["spec"], ".spec"):
        if schema["type"] == "array":
            assert "maxItems" in schema, place
        if schema["type"] == "integer":
            assert {"minimum", "maximum"} <= schema.keys(), place
        if schema["type"] == "string":
            assert {"maxLength", "enum"} & schema.keys(), place


@kinds
def test_columns_rules_and_scale_name_fields_that_exist(kind: type[Resource]) -> None:
    known = {place.replace("[]", "") for place, _ in nodes(schema_of(kind))}
    paths = [rule.field for rule in kind.rules if rule.field]
    paths += [column.path for column in kind.columns if not column.path.startswith(".metadata")]
    paths += [kind.scale.wished, kind.scale.observed] if kind.scale else []
    for path in paths:
        plain = path.partition("[?(")[0].replace("[0]", "")
        assert plain in known, path


@kinds
def test_the_manifest_in_the_chart_is_what_the_models_say(kind: type[Resource]) -> None:
    """``make docs`` mends it."""
    assert (FOLDER / f"{kind.plural}.yaml").read_text("utf-8") == rendered(kind)
