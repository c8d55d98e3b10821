"""Bounds in the OpenAPI document that prevent overflow in the database."""

from collections.abc import Iterator
from typing import Any

from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.ids import MAX_INTEGER

WIDER = ("bytes", "seed", "Upload-Offset", "offset")
"""64-bit values: file sizes and random seeds."""


def request_schemas(harness: ControlPlaneHarness) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield location and schema of every parameter and every field of a request body."""
    document = harness.app.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            location = f"{method.upper()} {path}"
            for parameter in operation.get("parameters", []):
                yield from nested_schemas(document, f"{location} {parameter['name']}", parameter["schema"], set())
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield from nested_schemas(document, location, content.get("schema", {}), set())


def nested_schemas(
    document: dict[str, Any], location: str, schema: dict[str, Any], seen: set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a schema and its nested schemas; ``seen`` stops recursive schemas."""
    if reference := schema.get("$ref"):
        if reference not in seen:
            name = reference.rsplit("/", 1)[-1]
            yield from nested_schemas(document, location, document["components"]["schemas"][name], seen | {reference})
        return
    yield location, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nested_schemas(document, f"{location}/{name}", inner, seen)
    for inner in [*schema.get("anyOf", []), *schema.get("oneOf", []), schema.get("items", {})]:
        if inner:
            yield from nested_schemas(document, location, inner, seen)


def test_every_integer_in_requests_has_an_upper_bound(harness: ControlPlaneHarness) -> None:
    integers = [(location, schema) for location, schema in request_schemas(harness) if schema.get("type") == "integer"]
    assert len(integers) > 20
    unbounded = [
        location
        for location, schema in integers
        if min(schema.get("maximum", 2**99), schema.get("exclusiveMaximum", 2**99))
        > (2**40 if location.endswith(WIDER) else MAX_INTEGER)
    ]
    assert "\n".join(unbounded) == ""
