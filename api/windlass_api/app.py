"""The HTTP applications: routes, middleware and error handlers. Imports no ML library."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import Lifespan

import windlass
from windlass.domain.errors import WindlassError
from windlass.wire.base import Problem
from windlass_api import problems
from windlass_api.authn import PUBLIC, AuthenticationMiddleware
from windlass_api.console import ConsoleMiddleware, read_console
from windlass_api.dependencies import AppContext
from windlass_api.metrics import MetricsMiddleware
from windlass_api.model_server import model_server_client
from windlass_api.openapi_links import add_links
from windlass_api.request_checks import check_request
from windlass_api.routers import health, internal, transfers
from windlass_api.routers.v1 import (
    audit,
    base_models,
    datasets,
    endpoints,
    erasures,
    identity,
    jobs,
    models,
    platform,
    projects,
    service_accounts,
    usage,
)

_DESCRIPTION = (
    "Fine-tuning and serving of models on shared GPUs. Errors are RFC 9457 problem details with a stable code."
)
_PROBLEM = {
    "description": "Problem details (RFC 9457): `code` identifies the error, `hint` suggests a solution.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}

PUBLIC_ROUTERS = tuple(
    module.router
    for module in (
        health,
        platform,
        identity,
        audit,
        projects,
        usage,
        service_accounts,
        datasets,
        base_models,
        jobs,
        models,
        endpoints,
        erasures,
    )
)
"""The API for users, and probes."""
_PROCESS_ROUTERS = (internal.router, internal.warm_trainers_router, transfers.router)
INTERNAL_ROUTERS = (health.router, *_PROCESS_ROUTERS)
"""The API for the platform's own processes, which a cluster serves on a port of its own, and probes."""
WORKER_ROUTERS = (health.router,)
"""Probes and metrics of a worker without an API."""
_INCLUDED: dict[int, list[BaseRoute]] = {}
"""The routes of a router by its identity; a router is a global of its module."""


def create_app(app_context: AppContext, routers: Sequence[APIRouter] = (*PUBLIC_ROUTERS, *_PROCESS_ROUTERS)) -> FastAPI:
    """Create an application with these routes; all of them by default, as one server serves on one port."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with model_server_client() as client:
            app.state.model_server = client
            yield

    app = _without_middleware(routers, lifespan)
    app.state.app_context = app_context
    app.add_exception_handler(WindlassError, problems.on_windlass_error)
    app.add_exception_handler(RequestValidationError, problems.on_validation_error)
    app.add_exception_handler(HTTPException, problems.on_http_error)
    app.add_exception_handler(ClientDisconnect, problems.on_client_disconnect)
    app.add_exception_handler(Exception, problems.on_unhandled_error)
    app.add_middleware(
        AuthenticationMiddleware,
        access_control=app_context.access_control,
        limits=app_context.limits,
        denials=app_context.denials,
        rate_limits=app_context.rate_limits,
        routes=[route for router in routers for route in router.routes],
    )
    app.add_middleware(MetricsMiddleware)
    if platform.router in routers:  # the API for users
        app.add_middleware(ConsoleMiddleware, console=read_console())
    return app


def public_openapi() -> dict[str, object]:
    """Return the OpenAPI document of the API for users."""
    return _without_middleware(PUBLIC_ROUTERS).openapi()


def _without_middleware(routers: Sequence[APIRouter], lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    app = FastAPI(
        title="Windlass",
        version=windlass.__version__,
        description=_DESCRIPTION,
        servers=[{"url": "/", "description": "this server"}],
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,  # the redirect would point to the Host header of the request
        routes=[route for router in routers for route in _included(router)],
    )
    _extend_openapi(app)
    return app


def _included(router: APIRouter) -> list[BaseRoute]:
    """Include a router once: FastAPI prepares its routes at the first request, and all applications share them."""
    if id(router) not in _INCLUDED:
        parent = APIRouter(
            dependencies=[Depends(check_request)],
            responses={"default": _PROBLEM},
            generate_unique_id_function=_operation_id,
        )
        parent.include_router(router)
        _INCLUDED[id(router)] = parent.routes
    return _INCLUDED[id(router)]


def _operation_id(route: APIRoute) -> str:
    return route.operation_id or route.name


def _extend_openapi(app: FastAPI) -> None:
    """Add the security scheme, the problem schema and links to the OpenAPI document."""
    build = app.openapi

    def extended() -> dict[str, object]:
        if app.openapi_schema is None:
            schema = build()
            components = schema.setdefault("components", {})
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
            components["schemas"] |= problem.pop("$defs") | {"Problem": problem}
            components["securitySchemes"] = {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "API key, session of the CLI, or access token of the identity provider",
                }
            }
            for path, methods in schema["paths"].items():
                for operation in methods.values():
                    operation["responses"].pop("422", None)  # FastAPI's default schema, which is never sent
                    operation["security"] = [] if path in PUBLIC else [{"key": []}]
            add_links(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = extended  # type: ignore[method-assign]  # FastAPI documents this way to extend the schema
