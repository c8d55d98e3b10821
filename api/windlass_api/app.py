"""The HTTP application: routes behind one wall. Loads no ML library and no pipeline."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

import windlass
from windlass.domain.errors import WindlassError
from windlass.wire.base import Problem
from windlass_api import problems
from windlass_api.authn import PUBLIC, Wall
from windlass_api.dependencies import Wiring
from windlass_api.metrics import Metrics
from windlass_api.routers import health, internal
from windlass_api.routers.v1 import datasets, endpoints, jobs, models, platform, projects

_UPSTREAM_SECONDS = 300.0
_DESCRIPTION = (
    "Fine-tune models on GPUs that teams share, and serve them. Errors are RFC 9457 problems with a stable code."
)
_PROBLEM = {
    "description": "A problem (RFC 9457): `code` says which, `hint` the way out.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def create_app(wiring: Wiring) -> FastAPI:
    """Return the application over what a composition root put together."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        timeout = httpx2.Timeout(_UPSTREAM_SECONDS, connect=5.0)
        async with httpx2.AsyncClient(timeout=timeout, limits=httpx2.Limits(max_connections=200)) as client:
            app.state.upstream = client
            yield

    app = FastAPI(
        title="Windlass",
        version=windlass.__version__,
        description=_DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={"default": _PROBLEM},
        generate_unique_id_function=_operation_id,
    )
    app.state.wiring = wiring
    for router in (health, platform, projects, datasets, jobs, models, endpoints, internal):
        app.include_router(router.router)
    app.add_exception_handler(WindlassError, problems.on_windlass_error)
    app.add_exception_handler(RequestValidationError, problems.on_validation_error)
    app.add_exception_handler(HTTPException, problems.on_http_error)
    app.add_exception_handler(Exception, problems.on_crash)
    app.add_middleware(Wall, gatekeeper=wiring.gatekeeper, limits=wiring.limits)
    app.add_middleware(Metrics)
    _describe(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.operation_id or route.name


def _describe(app: FastAPI) -> None:
    """Say in the OpenAPI document what the wall demands and how a problem looks; the wall itself does not read it."""
    build = app.openapi

    def described() -> dict[str, object]:
        if app.openapi_schema is None:
            schema = build()
            components = schema.setdefault("components", {})
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
            components["schemas"] |= problem.pop("$defs") | {"Problem": problem}
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "an API key"}}
            for path, methods in schema["paths"].items():
                for operation in methods.values():
                    operation["responses"].pop("422", None)  # FastAPI's own form of it, which is never sent
                    operation["security"] = [] if path in PUBLIC else [{"key": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
