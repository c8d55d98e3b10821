"""PostgreSQL stores no NUL in a text: no place of a request may bring one into a statement."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Header, Query
from fastapi.routing import APIRoute
from tests.fakes.harness import ControlPlaneHarness

from windlass_api.app import PUBLIC_ROUTERS

pytestmark = pytest.mark.database("postgresql")

NAMES = {"project": "ours", "dataset": "reviews", "job": "one", "number": "1"}
NULLS = ("%00", "a%00b", urlsafe_b64encode(b"a\0b").decode())


@pytest.fixture(scope="module")
def routes() -> list[APIRoute]:
    return [route for router in PUBLIC_ROUTERS for route in router.routes if isinstance(route, APIRoute)]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ControlPlaneHarness]:
    built = ControlPlaneHarness(tmp_path)
    built.create_project("ours")
    built.create_dataset("ours")
    yield built
    built.close()


def requests(route: APIRoute) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield paths and headers of a route with a NUL in each of its parameters."""
    names = {part.partition(":")[0]: NAMES.get(part.partition(":")[0], "x") for part in _parts(route)}
    for name in names:
        for bad in NULLS:
            yield _path(route, names | {name: bad}), {}
    for parameter in get_flat_params(route.dependant):
        for bad in NULLS:
            if isinstance(parameter.field_info, Query):
                yield f"{_path(route, names)}?{parameter.alias}={bad}", {}
            elif isinstance(parameter.field_info, Header):
                yield _path(route, names), {parameter.alias: f'"{bad}"'}


def _parts(route: APIRoute) -> list[str]:
    return [part.partition("}")[0] for part in route.path.split("{")[1:]]


def _path(route: APIRoute, names: dict[str, str]) -> str:
    path = route.path
    for part in _parts(route):
        path = path.replace("{" + part + "}", names[part.partition(":")[0]])
    return path


def test_a_nul_in_a_parameter_is_a_client_error(harness: ControlPlaneHarness, routes: list[APIRoute]) -> None:
    sent, failed = 0, []
    for route in routes:
        for method in route.methods or ():
            for path, headers in requests(route):
                reply = harness.client.request(method, path, headers=headers)
                sent += 1
                if reply.status_code >= 500:
                    failed.append((method, path, headers, reply.status_code))
    assert failed == []
    assert sent > 300


def test_a_nul_in_a_body_is_a_client_error(harness: ControlPlaneHarness) -> None:
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"}
    bodies = {
        "/v1/projects": {"name": "other", "display_name": "a\0b"},
        "/v1/projects/ours/jobs": {"spec": spec | {"model": "a\0b"}},
        "/v1/projects/ours/datasets": {"name": "new", "task": "chat", "description": "a\0b"},
        "/v1/pools": {"name": "a100", "capacity": 1, "gpu_type": "a\0b"},
    }
    for path, body in bodies.items():
        reply = harness.client.post(path, json=body, headers={"Idempotency-Key": "k"})
        assert reply.status_code == 422, (path, reply.text)
