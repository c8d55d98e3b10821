"""Requests that are refused before a route runs, and the messages."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from fastapi.routing import APIRoute
from pydantic_core.core_schema import ErrorType
from tests.fakes.harness import ControlPlaneHarness
from tests.integration.api.test_input_types import routes

from windlass.wire.validation import field_problems, sentence

BODY_ROUTES = [route for route in routes() if route.body_field is not None and route.path.startswith("/v1")]


def fill(route: APIRoute) -> str:
    """The path of a route with a value for each parameter."""
    path = route.path.replace("{path:path}", "x")
    for name in ("project", "job", "dataset", "model", "endpoint", "name", "alias", "pool", "user", "upload", "key"):
        path = path.replace("{" + name + "}", "x")
    return path.replace("{number}", "1").replace("{change}", "x")


@pytest.mark.parametrize("route", [r for r in routes() if r.path.startswith("/v1/")], ids=lambda r: r.operation_id)
def test_every_route_refuses_an_unknown_query_parameter(harness: ControlPlaneHarness, route: APIRoute) -> None:
    method = next(iter(route.methods or ()))
    reply = harness.client.request(method, fill(route), params={"limt": 5})
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_request"), reply.text
    assert reply.json()["errors"] == [{"pointer": "/query/limt", "detail": "is not a known query parameter"}]


def test_the_error_lists_the_known_query_parameters(harness: ControlPlaneHarness) -> None:
    reply = harness.client.get("/v1/keys", params={"page": 2})
    assert reply.json()["hint"] == "this route has cursor, limit"


@pytest.mark.parametrize("route", BODY_ROUTES, ids=lambda r: r.operation_id)
@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_declared_as_json_is_unsupported(
    harness: ControlPlaneHarness, route: APIRoute, content_type: str
) -> None:
    method = next(iter(route.methods or ()))
    headers = {"Content-Type": content_type} if content_type else {}
    reply = harness.client.request(method, fill(route), content=b"{}", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media_type"), reply.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "hint"),
    [
        ("GET", "/v1/nothing", 404, "not_found", "openapi.json"),
        ("GET", "/v2/projects", 404, "not_found", "start with /v1"),
        ("GET", "/v1/projects/", 404, "not_found", "slash at the end"),
        ("POST", "/v1/whoami", 405, "method_not_allowed", ""),
    ],
)
def test_a_request_without_a_route_gets_a_problem_with_a_hint(
    harness: ControlPlaneHarness, method: str, path: str, status: int, code: str, hint: str
) -> None:
    headers = {"Host": "evil.example"}
    reply = harness.client.request(method, path, headers=headers, follow_redirects=False)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert hint in reply.json()["hint"]
    assert "evil.example" not in reply.text + str(reply.headers)


def test_a_content_length_of_many_digits_is_too_large(harness: ControlPlaneHarness) -> None:
    headers = {"Content-Length": "9" * 5000, "Content-Type": "application/json"}
    assert harness.client.post("/v1/projects", content=b"{}", headers=headers).status_code == 413


@pytest.mark.parametrize("kind", get_args(ErrorType))
def test_no_sentence_has_words_of_pydantic(kind: str) -> None:
    context: dict[str, int] = defaultdict(lambda: 3)
    text = sentence({"type": kind, "ctx": context, "msg": "Input should be a valid dictionary", "loc": ()})
    assert text
    assert not any(word in text.lower() for word in ("input should", "pydantic", "value error", "{", "extra inputs"))


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"name": "search", "cohrt": "lab"}, {"/cohrt": "is not a known field"}),
        ({"name": 5}, {"/name": "must be a string"}),
        ({"name": "search", "priority_ceiling": 5000}, {"/priority_ceiling": "must be at most 1000"}),
        ({"name": "search", "display_name": "a" * 201}, {"/display_name": "must have at most 200 characters"}),
        ([], {"": "must be an object"}),
    ],
)
def test_a_wrong_field_is_named_with_a_plain_sentence(
    harness: ControlPlaneHarness, body: Any, errors: dict[str, str]
) -> None:
    reply = harness.client.post("/v1/projects", json=body)
    assert reply.status_code == 422
    assert {item["pointer"]: item["detail"] for item in reply.json()["errors"]} == errors


def test_only_the_first_wrong_fields_of_a_body_are_looked_at() -> None:
    read = 0

    def errors() -> Iterator[dict[str, Any]]:
        nonlocal read
        for number in range(100_000):
            read += 1
            yield {"type": "extra_forbidden", "loc": (f"k{number}",)}

    problems = field_problems(errors(), lambda location: f"/{location[0]}")
    assert [problem.pointer for problem in problems] == [f"/k{number}" for number in range(20)]
    assert read == 21


def test_the_alternatives_of_a_union_are_one_problem(ready: ControlPlaneHarness) -> None:
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"}
    body = {"spec": {**spec, "method": {"type": "lora", "target_modules": 5}}}
    reply = ready.client.post("/v1/projects/ours/jobs", json=body, headers={"Idempotency-Key": "k"})
    assert reply.json()["errors"] == [
        {"pointer": "/spec/method/target_modules", "detail": "must be 'all-linear', or must be a list"}
    ]
