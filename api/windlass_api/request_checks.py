"""Checks of every request against its route: query parameters and the media type of the body."""

from fastapi import Request, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute

from windlass.domain.errors import BadRequestError, FieldProblem, UnsupportedMediaTypeError

OPEN_QUERY = {"x-open-query": True}
"""``openapi_extra`` of a route that ignores unknown query parameters, since another server chooses them."""


def check_request(request: Request) -> None:
    """Reject unknown query parameters, and a JSON body that is not declared as JSON.

    Raises:
        BadRequestError: a query parameter is unknown; the message lists the known ones.
        UnsupportedMediaTypeError: the Content-Type is missing or not application/json.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = query_parameters(route)
    unknown = sorted(set(request.query_params) - set(known))
    if unknown and route.openapi_extra != OPEN_QUERY:
        allowed = f"this route has {', '.join(known)}" if known else "this route has no query parameters"
        raise BadRequestError(
            f"unknown query parameter {', '.join(repr(name)[:100] for name in unknown)}",
            hint=allowed,
            fields=[FieldProblem(f"/query/{name[:100]}", "is not a known query parameter") for name in unknown],
        )
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if route.body_field is not None and media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaTypeError(
            f"the Content-Type is {media_type or 'missing'}", hint="send the body as application/json"
        )


def query_parameters(route: APIRoute) -> list[str]:
    """Return the names of a route's query parameters, with those of its dependencies."""
    fields = get_flat_params(route.dependant)
    return sorted({field.alias for field in fields if isinstance(field.field_info, params.Query)})
