"""Generates the REST API reference from the routes."""

import inspect
import json
import re
import shlex
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel

from windlass_api.dependencies import RequirePermission
from windlass_api.routers import health
from windlass_api.routers.v1 import audit, datasets, endpoints, jobs, models, platform, projects, usage


def routes() -> list[APIRoute]:
    """Return the public routes."""
    parts = (health, platform, audit, projects, usage, datasets, jobs, models, endpoints)
    return [route for part in parts for route in part.router.routes if isinstance(route, APIRoute)]


def permission(route: APIRoute) -> str:
    calls: list[object] = [dependency.call for dependency in route.dependant.dependencies]
    required = [call for call in calls if isinstance(call, RequirePermission)]
    return f"`{required[0].permission}`" if required else "none"


def model_name(model: Any) -> str:
    return f"`{model.__name__}`" if inspect.isclass(model) and issubclass(model, BaseModel) else ""


def curl(route: APIRoute) -> str:
    """Return a curl command with the example of the request body; empty if the route has none."""
    body = route.body_field.field_info.annotation if route.body_field else None
    if not inspect.isclass(body) or not issubclass(body, BaseModel):
        return ""
    extra = body.model_config.get("json_schema_extra")
    examples = extra.get("examples") if isinstance(extra, dict) else None
    if not isinstance(examples, list):
        return ""
    method = "".join(route.methods or ())
    path = re.sub(r"{(\w+)}", lambda name: name[1].upper(), route.path)
    headers = ["Authorization: Bearer $WINDLASS_KEY", "Content-Type: application/json"]
    if method == "PATCH":
        headers.append('If-Match: "VERSION"')
    if route.path.endswith("/jobs"):
        headers.append("Idempotency-Key: $(uuidgen)")
    lines = [f'curl -X {method} "$WINDLASS_URL{path}"']
    lines += [" -H " + '"' + header.replace('"', '\\"') + '"' for header in headers]
    lines.append(" -d " + shlex.quote(json.dumps(examples[0])))
    return " \\\n ".join(lines)


def rest() -> str:
    """Return for each tag a table (path, description, request and response models, permission) and examples."""
    groups: dict[str, list[APIRoute]] = {}
    for route in routes():
        groups.setdefault(str(route.tags[0]), []).append(route)
    parts = []
    for tag, members in groups.items():
        rows = []
        commands = [command for route in members if (command := curl(route))]
        for route in members:
            body = model_name(route.body_field.field_info.annotation) if route.body_field else ""
            reply = model_name(route.response_model)
            description = " ".join((route.description or "").replace("``", "`").split())
            call = f"`{' '.join(sorted(route.methods or ()))} {route.path}`"
            shapes = " → ".join(filter(None, (body, reply)))
            rows.append(f"| {call} | {description} | {shapes} | {permission(route)} |\n")
        head = "| route | description | request → response | permission |\n| --- | --- | --- | --- |\n"
        examples = "\n```sh\n" + "\n".join(commands) + "\n```\n" if commands else ""
        parts.append(f"### {tag[:1].upper()}{tag[1:]}\n\n{head}{''.join(rows)}{examples}")
    return "\n".join(parts)
