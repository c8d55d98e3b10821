"""The reference of the REST API, from the routes themselves."""

import inspect
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel

from windlass_api.dependencies import Needs
from windlass_api.routers import health
from windlass_api.routers.v1 import datasets, endpoints, jobs, models, platform, projects


def routes() -> list[APIRoute]:
    """The public routes."""
    parts = (health, platform, projects, datasets, jobs, models, endpoints)
    return [route for part in parts for route in part.router.routes if isinstance(route, APIRoute)]


def permission(route: APIRoute) -> str:
    calls = [dependency.call for dependency in route.dependant.dependencies]
    needs = [call for call in calls if isinstance(call, Needs)]
    return f"`{needs[0].permission}`" if needs else "none"


def model_name(model: Any) -> str:
    return f"`{model.__name__}`" if inspect.isclass(model) and issubclass(model, BaseModel) else ""


def rest() -> str:
    """One table a tag: what to call, what goes in and out, and what it needs."""
    groups: dict[str, list[APIRoute]] = {}
    for route in routes():
        groups.setdefault(str(route.tags[0]), []).append(route)
    parts = []
    for tag, members in groups.items():
        rows = []
        for route in members:
            body = model_name(route.body_field.field_info.annotation) if route.body_field else ""
            reply = model_name(route.response_model)
            said = " ".join((route.description or "").replace("``", "`").split())
            call = f"`{' '.join(sorted(route.methods or ()))} {route.path}`"
            shapes = " → ".join(filter(None, (body, reply)))
            rows.append(f"| {call} | {said} | {shapes} | {permission(route)} |\n")
        head = "| call | what it does | body → reply | permission |\n| --- | --- | --- | --- |\n"
        parts.append(f"### {tag[:1].upper()}{tag[1:]}\n\n{head}{''.join(rows)}")
    return "\n".join(parts)
