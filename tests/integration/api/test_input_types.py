"""Every value from a caller is of a type whose values can be stored, read again and sent."""

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.text import text_problem
from windlass_api.routers import health, internal
from windlass_api.routers.v1 import datasets, endpoints, jobs, models, platform, projects, usage

MAX_TEXT = 1 << 20
BAD_VALUES: tuple[Any, ...] = (
    "a\ud800b",
    "a\x00b",
    "a\x1b[2Jb",
    "a" * (MAX_TEXT + 1),
    math.inf,
    -math.inf,
    math.nan,
)
MODULES_OF_RUNS = ("windlass.domain.reports", "windlass.domain.artifacts", "windlass.wire.runs")
"""What the processes of a run send: output of programs may have control characters, and batches have a total size."""
NOT_STORED = {"PredictIn.inputs": "text for a model"}
"""Fields whose texts may have control characters."""


def routes() -> Iterator[APIRoute]:
    for module in (health, platform, projects, usage, datasets, jobs, models, endpoints, internal):
        for route in module.router.routes:
            assert isinstance(route, APIRoute)
            yield route


def request_models() -> set[type[BaseModel]]:
    """The models of all request bodies, and the models in their fields."""
    found: set[type[BaseModel]] = set()

    def add(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in found:
            found.add(annotation)
            for field in annotation.model_fields.values():
                add(field.annotation)
        for argument in get_args(annotation):
            add(argument)

    for route in routes():
        if route.body_field is not None:
            add(route.body_field.field_info.annotation)
    return found


def probe_of(annotation: Any, info: Any, config: ConfigDict | None = None) -> type[BaseModel]:
    """A model whose only field ``value`` has this type and these constraints."""
    probe: type[BaseModel] = create_model("Probe", __config__=config, value=(annotation, info))
    return probe


def inputs() -> dict[str, type[BaseModel]]:
    """A probe for each field of a body and for each parameter."""
    found = {
        f"{model.__module__}.{model.__name__}.{name}": probe_of(field.annotation, field, model.model_config)
        for model in request_models()
        for name, field in model.model_fields.items()
    }
    for route in routes():
        for parameter in get_flat_params(route.dependant):
            info = parameter.field_info
            found[f"{route.operation_id or route.name}.{parameter.alias}"] = probe_of(info.annotation, info)
    return found


def shaped(annotation: Any, bad: Any) -> Iterator[Any]:
    """Yield values of the shape of an annotation that have ``bad`` at a leaf of its type."""
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if annotation is Any or annotation is type(bad):
        yield bad
    elif origin in (list, tuple):
        yield from ([value] for value in shaped(arguments[0], bad))
    elif origin is dict:
        yield from ({"a": value} for value in shaped(arguments[1], bad))
        if isinstance(bad, str):
            yield from ({bad: value} for good in ("a", 1.0) for value in shaped(arguments[1], good))
    elif origin is Annotated:
        yield from shaped(arguments[0], bad)
    elif origin is not Literal:
        for argument in arguments:
            yield from shaped(argument, bad)


def is_storable(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_storable(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple):
        return all(is_storable(item) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, str) or (len(value) <= MAX_TEXT and not text_problem(value, multiline=True))


def accepted_bad_values(name: str, probe: type[BaseModel]) -> Iterator[str]:
    of_run = name.startswith(MODULES_OF_RUNS)
    for bad in (value for value in BAD_VALUES if not of_run or isinstance(value, float) or "\ud800" in value):
        for value in shaped(probe.model_fields["value"].annotation, bad):
            alias = probe.model_fields["value"].validation_alias or probe.model_fields["value"].alias or "value"
            try:
                stored = probe.model_validate({str(alias): value}).value  # type: ignore[attr-defined]  # created above
            except ValidationError:
                continue
            if not is_storable(stored):
                yield repr(bad)[:20]


def test_no_input_accepts_a_value_that_cannot_be_stored() -> None:
    probes = inputs()
    assert len(probes) > 150
    accepted = {
        name: list(accepted_bad_values(name, probe))
        for name, probe in probes.items()
        if not name.endswith(tuple(NOT_STORED))
    }
    assert {name: values for name, values in accepted.items() if values} == {}


SURROGATE, TOO_BIG = '"\\ud800"', "1e999"


@pytest.mark.parametrize(
    ("field", "pointer"),
    [
        (
            f'"evaluation": {{"gates": [{{"metric": {SURROGATE}, "operator": ">=", "threshold": 1}}]}}',
            "/spec/evaluation",
        ),
        (
            f'"evaluation": {{"gates": [{{"metric": "f1", "operator": ">=", "threshold": {TOO_BIG}}}]}}',
            "/spec/evaluation",
        ),
        ('"evaluation": {"gates": ["f1 >= 1e999"]}', "/spec/evaluation"),
        (f'"method": {{"type": "lora", "target_modules": [{SURROGATE}]}}', "/spec/method/target_modules"),
        (f'"training": {{"max_grad_norm": {TOO_BIG}}}', "/spec/training/max_grad_norm"),
        (f'"training": {{"early_stopping": {{"min_delta": {TOO_BIG}}}}}', "/spec/training/early_stopping/min_delta"),
    ],
)
def test_a_job_that_could_not_be_read_again_is_refused_and_names_its_field(
    ready: ControlPlaneHarness, field: str, pointer: str
) -> None:
    spec = json.dumps({"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"})
    body = f'{{"spec": {spec[:-1]}, {field}}}}}'
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    reply = ready.client.post("/v1/projects/ours/jobs", content=body.encode(), headers=headers)
    assert reply.status_code == 422, reply.text
    assert all(item["pointer"].startswith(pointer) for item in reply.json()["errors"])
    assert ready.client.get("/v1/projects/ours/jobs").json()["items"] == []


def test_null_for_a_value_that_cannot_be_absent_is_refused(harness: ControlPlaneHarness) -> None:
    harness.client.post("/v1/pools", json={"name": "a100", "capacity": 4})
    reply = harness.client.patch("/v1/pools/a100", json={"price_per_gpu_hour": None}, headers={"If-Match": '"1"'})
    assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (422, "/price_per_gpu_hour")


def test_a_text_with_a_control_character_is_refused_with_its_position(harness: ControlPlaneHarness) -> None:
    reply = harness.client.post("/v1/projects", json={"name": "search", "display_name": "a\x1b[2J"})
    assert reply.json()["errors"] == [
        {"pointer": "/display_name", "detail": "must not contain the control character U+001B (at position 2)"}
    ]


@pytest.mark.parametrize("path", ["/v1/projects/a%00b/jobs", "/v1/projects/%ED%A0%80", "/v1/base-models/" + "a" * 5000])
def test_a_path_that_names_nothing_possible_is_a_client_error(harness: ControlPlaneHarness, path: str) -> None:
    assert 400 <= harness.client.get(path).status_code < 500


def test_an_alias_is_no_number(harness: ControlPlaneHarness) -> None:
    harness.create_project("ours")
    reply = harness.client.put("/v1/projects/ours/models/m/aliases/2", json={"version": 1})
    assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (422, "/path/alias")
