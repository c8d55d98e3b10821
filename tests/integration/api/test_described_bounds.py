"""What the OpenAPI document must say of every request, so that no value reaches a part that cannot hold it."""

from collections.abc import Iterator
from typing import Any

from tests.fakes.house import House

from windlass.domain.ids import MAX_INTEGER

WIDER = ("bytes", "seed", "Upload-Offset", "offset")
"""Held in 64 bits: sizes of files, and seeds of random generators."""


def asked(house: House) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the schema of every parameter and every field of a request body."""
    document = house.app.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            place = f"{method.upper()} {path}"
            for parameter in operation.get("parameters", []):
                yield from fields(document, f"{place} {parameter['name']}", parameter["schema"], set())
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield from fields(document, place, content.get("schema", {}), set())


def fields(
    document: dict[str, Any], place: str, schema: dict[str, Any], seen: set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a schema and all that it holds; ``seen`` ends the walk of a schema that holds itself."""
    if reference := schema.get("$ref"):
        if reference not in seen:
            name = reference.rsplit("/", 1)[-1]
            yield from fields(document, place, document["components"]["schemas"][name], seen | {reference})
        return
    yield place, schema
    for name, inner in schema.get("properties", {}).items():
        yield from fields(document, f"{place}/{name}", inner, seen)
    for inner in [*schema.get("anyOf", []), *schema.get("oneOf", []), schema.get("items", {})]:
        if inner:
            yield from fields(document, place, inner, seen)


def test_every_integer_that_a_caller_sends_is_bounded_above(house: House) -> None:
    integers = [(place, schema) for place, schema in asked(house) if schema.get("type") == "integer"]
    assert len(integers) > 20
    loose = [
        place
        for place, schema in integers
        if min(schema.get("maximum", 2**99), schema.get("exclusiveMaximum", 2**99))
        > (2**40 if place.endswith(WIDER) else MAX_INTEGER)
    ]
    assert "\n".join(loose) == ""
