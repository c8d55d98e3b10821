"""The operations of the API: what the OpenAPI document says of each, and the permission that its route declares."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from windlass.domain.projects import Permission
from windlass_api.app import PUBLIC_ROUTERS
from windlass_api.dependencies import RequirePermission, RequireProjectPermission


@dataclass(frozen=True)
class ApiOperation:
    """One method of one path."""

    method: str
    path: str
    identity: str
    """Its operation id."""
    permissions: tuple[Permission, ...]
    """Empty for an operation that needs no credential."""
    of_project: bool
    """Whether the permission is one in the project of the path."""
    parameters: tuple[tuple[str, str], ...]
    """Pairs of location and name."""
    body: str
    """Content type of the request body; empty: there is none."""

    @property
    def path_parameters(self) -> list[str]:
        """Names of the parameters of the path."""
        return [name for location, name in self.parameters if location == "path"]


def operations(app: FastAPI) -> list[ApiOperation]:
    """Return all operations of the OpenAPI document.

    Each has a route that a router declares, and each such route is in the document.
    """
    routes = {(_openapi_path(route), method): route for route in _routes() for method in route.methods or ()}
    document = app.openapi()["paths"]
    described = {(path, method.upper()): item for path, items in document.items() for method, item in items.items()}
    assert routes.keys() == described.keys()
    return [_operation(path, method, item, routes[path, method]) for (path, method), item in described.items()]


def _operation(path: str, method: str, item: dict[str, Any], route: APIRoute) -> ApiOperation:
    required = list(_permissions(route.dependant))
    return ApiOperation(
        method=method,
        path=path,
        identity=item["operationId"],
        permissions=tuple(each.permission for each in required),
        of_project=any(isinstance(each, RequireProjectPermission) for each in required),
        parameters=tuple((each["in"], each["name"]) for each in item.get("parameters", ())),
        body=next(iter(item.get("requestBody", {}).get("content", ())), ""),
    )


def _routes() -> list[APIRoute]:
    return [route for router in PUBLIC_ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def _openapi_path(route: APIRoute) -> str:
    """Return a route's path as in the OpenAPI document, without converters."""
    return route.path.replace(":path}", "}")


def _permissions(dependant: Dependant) -> Iterator[RequirePermission]:
    for dependency in dependant.dependencies:
        call: object = dependency.call
        if isinstance(call, RequirePermission):
            yield call
        yield from _permissions(dependency)


def text_fields(document: dict[str, Any], operation: ApiOperation) -> set[str]:
    """Return the fields of the request body that hold text of the caller, each as ``Schema.field``."""
    content = document["paths"][operation.path][operation.method.lower()].get("requestBody", {}).get("content", {})
    found: set[str] = set()
    for media in content.values():
        _collect(document["components"]["schemas"], media.get("schema", {}), operation.identity, found, set())
    return found


def _collect(schemas: dict[str, Any], schema: Any, owner: str, found: set[str], seen: set[str]) -> None:
    if isinstance(schema, list):
        for each in schema:
            _collect(schemas, each, owner, found, seen)
    if not isinstance(schema, dict):
        return
    if reference := schema.get("$ref", "").rpartition("/")[2]:
        if reference not in seen:
            seen.add(reference)
            _collect(schemas, schemas[reference], reference, found, seen)
        return
    for name, field in schema.get("properties", {}).items():
        if _has_text(field):
            found.add(f"{owner}.{name}")
        _collect(schemas, field, owner, found, seen)
    for keyword in ("items", "anyOf", "oneOf", "additionalProperties"):
        _collect(schemas, schema.get(keyword), owner, found, seen)


def _has_text(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(_has_text(each) for each in schema)
    if not isinstance(schema, dict) or "enum" in schema or "const" in schema:
        return False
    nested = (schema.get(keyword) for keyword in ("items", "anyOf", "oneOf", "additionalProperties"))
    return schema.get("type") == "string" or any(_has_text(each) for each in nested)
