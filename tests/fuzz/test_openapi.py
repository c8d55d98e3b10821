"""Property tests of the API against its OpenAPI document, with and without an API key."""

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
from tests.fakes.harness import ControlPlaneHarness

from windlass_api.authn import PUBLIC

BOUNDED = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))


@cache
def harness() -> ControlPlaneHarness:
    """Return one platform shared by all operations of this process."""
    built = ControlPlaneHarness(Path(tempfile.mkdtemp(prefix="windlass-fuzz-")))
    built.create_project("reviews")
    built.create_base_model()
    built.create_dataset("reviews")
    return built


@cache
def openapi_schema() -> BaseSchema:
    schema = from_asgi("/v1/openapi.json", harness().app)
    # A schema cannot express which names or versions exist, so documented 4xx problems are accepted.
    schema.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "4xx", "503"]
    schema.config.checks.negative_data_rejection.expected_statuses = ["4xx"]
    return schema


def operation_params() -> list[Any]:
    operations: list[Any] = [result.ok() for result in openapi_schema().get_all_operations() if isinstance(result, Ok)]
    assert len(operations) > 50
    return [pytest.param(operation, id=operation.label.replace(" ", "")) for operation in operations]


@pytest.fixture(scope="module", autouse=True)
def start_app() -> Iterator[None]:
    with harness().client:
        yield


@pytest.mark.parametrize("operation", operation_params())
def test_api_conforms_to_its_openapi_document(operation: Any) -> None:
    headers = {"Authorization": str(harness().client.headers["Authorization"])}

    @BOUNDED
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        case.call_and_validate(headers=headers)

    check()


@pytest.mark.parametrize("operation", operation_params())
def test_only_public_routes_accept_anonymous_requests(operation: Any) -> None:
    @BOUNDED
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        response = case.call(headers={"Authorization": ""})
        if case.operation.path in PUBLIC:
            assert response.status_code < 500
        else:
            assert response.status_code == 401

    check()
