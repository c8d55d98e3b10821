"""The OpenAPI document explains everything that a client sends and receives."""

from collections.abc import Iterator
from typing import Any

from tests.fakes.harness import ControlPlaneHarness


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_schema_and_field_has_a_description(harness: ControlPlaneHarness) -> None:
    schemas = harness.app.openapi()["components"]["schemas"]
    assert len(schemas) > 80
    undescribed = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, value in {"": schema, **schema.get("properties", {})}.items()
        if not value.get("description")
    ]
    assert undescribed == []


def test_every_operation_and_parameter_has_a_description(harness: ControlPlaneHarness) -> None:
    document = harness.app.openapi()
    undescribed = []
    for name, operation in operations(document):
        assert operation["summary"], name
        undescribed += [name] * (not operation.get("description"))
        undescribed += [
            f"{name} {item['name']}" for item in operation.get("parameters", []) if "description" not in item
        ]
    assert undescribed == []
    assert document["servers"] == [{"url": "/", "description": "this server"}]


def test_every_request_body_has_an_example(harness: ControlPlaneHarness) -> None:
    document = harness.app.openapi()
    missing = []
    for name, operation in operations(document):
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        reference = schema.get("$ref", "").rpartition("/")[2]
        if reference and not document["components"]["schemas"][reference].get("examples"):
            missing.append(name)
    assert missing == []
