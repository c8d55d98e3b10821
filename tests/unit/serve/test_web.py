"""HTTP handling: body limits, content types, host names and JSON errors."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from windlass.domain.endpoints import MAX_INPUT_CHARACTERS, MAX_INPUTS
from windlass.domain.errors import (
    BusyError,
    ForbiddenError,
    InvalidError,
    MethodNotAllowedError,
    NotFoundError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from windlass_pipelines.serve.classifier import PredictRequest
from windlass_pipelines.serve.web import dispatch, problem_response, read_json

JSON = {"content-type": "application/json"}


def http(
    chunks: Iterable[bytes] = (), headers: dict[str, str] = JSON, method: str = "POST", path: str = "/app/predict"
) -> Request:
    parts = list(chunks)

    async def receive() -> dict[str, Any]:
        body = parts.pop(0) if parts else b""
        return {"type": "http.request", "body": body, "more_body": bool(parts)}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "/app",
        "query_string": b"",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    return Request(scope, receive)


def read(request: Request, limit: int = 1000) -> PredictRequest:
    return asyncio.run(read_json(request, PredictRequest, limit))


def test_a_chunked_body_is_read() -> None:
    assert read(http([b'{"inputs": ["a"', b', "b"], "top_k": 1}'])).inputs == ["a", "b"]


def test_a_content_length_over_the_limit_is_rejected_before_reading() -> None:
    touched: list[bytes] = []

    async def never() -> AsyncIterator[bytes]:
        touched.append(b"")
        yield b""

    request = http([b"{}"], {**JSON, "content-length": "1001"})
    request.stream = never  # type: ignore[method-assign,assignment]  # the body must not be read
    with pytest.raises(TooLargeError, match="1001 bytes"):
        read(request)
    assert not touched


def test_reading_stops_at_the_limit_without_a_content_length() -> None:
    pulled: list[int] = []

    def endless() -> Iterable[bytes]:
        for number in range(1000):
            pulled.append(number)
            yield b"x" * 100

    request = http()
    chunks = iter(endless())

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": next(chunks), "more_body": True}

    request._receive = receive
    with pytest.raises(TooLargeError, match="more than 1000 bytes"):
        read(request)
    assert len(pulled) == 11


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_content_type_of_simple_cross_origin_posts_is_rejected(kind: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError):
        read(http([b'{"inputs": ["a"]}'], {"content-type": kind}))


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", ""),
        (b'{"inputs": ["a"', ""),
        (b"[" * 100_000, ""),
        (b'{"inputs": "a"}', "/inputs"),
        (b'{"inputs": []}', "/inputs"),
        (b'{"inputs": [1]}', "/inputs/0"),
        (b'{"inputs": ["a"], "top_k": 0}', "/top_k"),
        (b'{"inputs": ["a"], "model": "x"}', "/model"),
        (json.dumps({"inputs": ["a"] * (MAX_INPUTS + 1)}).encode(), "/inputs"),
        (json.dumps({"inputs": ["a" * (MAX_INPUT_CHARACTERS + 1)]}).encode(), "/inputs/0"),
    ],
)
def test_an_invalid_body_is_rejected_with_the_pointer_of_the_field(body: bytes, pointer: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read(http([body]), limit=1_000_000)
    assert caught.value.fields[0].pointer == pointer


async def _answer(_request: Request) -> Response:
    return JSONResponse({"ok": True})


def send(request: Request, hosts: tuple[str, ...] = ()) -> Response:
    return asyncio.run(dispatch(request, {("POST", "/predict"): _answer}, hosts))


def test_the_path_below_the_prefix_finds_its_handler() -> None:
    assert send(http()).status_code == 200


def test_the_error_for_an_unknown_path_lists_the_existing_ones() -> None:
    with pytest.raises(NotFoundError) as caught:
        send(http(path="/app/chat/completions"))
    assert "/predict" in caught.value.hint


def test_the_error_for_another_method_lists_the_allowed_ones() -> None:
    with pytest.raises(MethodNotAllowedError, match="accepts POST, not GET"):
        send(http(method="GET"))


@pytest.mark.parametrize(("host", "allowed"), [("127.0.0.1:80", True), ("localhost", True), ("evil.example", False)])
def test_a_rebound_host_name_is_rejected(host: str, allowed: bool) -> None:
    request = http(headers={**JSON, "host": host})
    if allowed:
        assert send(request, ("127.0.0.1", "localhost")).status_code == 200
    else:
        with pytest.raises(ForbiddenError):
            send(request, ("127.0.0.1", "localhost"))


def test_a_problem_response_has_the_message_and_the_field() -> None:
    response = problem_response(InvalidError.field("/inputs", "must not be empty", hint="send a text"))
    assert response.status_code == 422
    assert response.media_type == "application/problem+json"
    assert json.loads(bytes(response.body)) == {
        "type": "urn:windlass:problem:invalid",
        "title": "Unprocessable Entity",
        "status": 422,
        "code": "invalid",
        "detail": "inputs: must not be empty",
        "hint": "send a text",
        "errors": [{"pointer": "/inputs", "detail": "must not be empty"}],
        "context": {},
        "retryable": False,
        "request_id": "",
    }


def test_a_full_replica_says_when_to_come_again() -> None:
    response = problem_response(BusyError("full"))
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
