"""The API against its own description: generated requests, with a key and without, all checks."""

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok
from schemathesis.openapi import from_asgi
from schemathesis.schemas import BaseSchema
from tests.fakes.house import House

from windlass_api.authn import PUBLIC

BOUNDED = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))


@cache
def house() -> House:
    """Return one house for all operations of this process: what one request makes, the next may find."""
    built = House(Path(tempfile.mkdtemp(prefix="windlass-fuzz-")))
    built.project("reviews")
    built.base_model()
    built.dataset("reviews")
    return built


@cache
def described() -> BaseSchema:
    schema = from_asgi("/v1/openapi.json", house().app)
    # A schema cannot say which names exist or which versions were read: those refusals are documented problems.
    schema.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "4xx", "503"]
    schema.config.checks.negative_data_rejection.expected_statuses = ["4xx"]
    return schema


def operations() -> list[Any]:
    found: list[Any] = [result.ok() for result in described().get_all_operations() if isinstance(result, Ok)]
    assert len(found) > 50
    return [pytest.param(operation, id=operation.label.replace(" ", "")) for operation in found]


@pytest.fixture(scope="module", autouse=True)
def running() -> Iterator[None]:
    with house().client:
        yield


@pytest.mark.parametrize("operation", operations())
def test_with_a_key_the_api_does_what_it_says(operation: Any) -> None:
    headers = {"Authorization": str(house().client.headers["Authorization"])}

    @BOUNDED
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        case.call_and_validate(headers=headers)

    check()


@pytest.mark.parametrize("operation", operations())
def test_without_a_key_nothing_but_the_public_routes_answers(operation: Any) -> None:
    @BOUNDED
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        response = case.call(headers={"Authorization": ""})
        if case.operation.path in PUBLIC:
            assert response.status_code < 500
        else:
            assert response.status_code == 401

    check()
