"""The OpenAPI document explains everything that a client sends and receives."""

from collections.abc import Iterator
from typing import Any

from tests.fakes.harness import ControlPlaneHarness


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_schema_and_field_has_a_description(harness: ControlPlaneHarness) -> None:
    schemas = harness.app.openapi()["components"]["schemas"]
    assert len(schemas) > 80
    undescribed = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, value in {"": schema, **schema.get("properties", {})}.items()
        if not value.get("description")
    ]
    assert undescribed == []


def test_every_operation_and_parameter_has_a_description(harness: ControlPlaneHarness) -> None:
    document = harness.app.openapi()
    undescribed = []
    for name, operation in operations(document):
        assert operation["summary"], name
        undescribed += [name] * (not operation.get("description"))
        undescribed += [
            f"{name} {item['name']}" for item in operation.get("parameters", []) if "description" not in item
        ]
    assert undescribed == []
    assert document["servers"] == [{"url": "/", "description": "this server"}]


def test_every_request_body_has_an_example(harness: ControlPlaneHarness) -> None:
    document = harness.app.openapi()
    missing = []
    for name, operation in operations(document):
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        reference = schema.get("$ref", "").rpartition("/")[2]
        if reference and not document["components"]["schemas"][reference].get("examples"):
            missing.append(name)
    assert missing == []


CREATED_OTHERWISE = {"model", "alias", "path", "session"}
"""Parameters that name what no operation returns: models come from jobs, sessions from sign-ins."""
CHOSEN_BY_CLIENTS = {"user", "group", "month", "name", "pool", "project"}
"""Parameters whose value a client chooses on a route that creates or reads: names of members, files and metrics."""


def links_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Source, target and parameters of each link."""
    for _, operation in operations(document):
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                yield operation["operationId"], link["operationId"], link["parameters"]


def test_links_give_every_parameter_of_the_path_of_an_existing_operation(harness: ControlPlaneHarness) -> None:
    document = harness.app.openapi()
    paths = {operation["operationId"]: name.split(" ", 1)[1] for name, operation in operations(document)}
    links = list(links_of(document))
    assert len(links) >= 60
    for source, target, parameters in links:
        given = {name.removeprefix("path.") for name in parameters if name.startswith("path.")}
        assert given == {part.partition("}")[0] for part in paths[target].split("{")[1:]}, (source, target)
        for value in parameters.values():
            if value.startswith("$request.path."):
                assert "{" + value.removeprefix("$request.path.") + "}" in paths[source]


def test_every_operation_on_an_object_is_the_target_of_a_link(harness: ControlPlaneHarness) -> None:
    document = harness.app.openapi()
    targets = {target for _, target, _ in links_of(document)}
    for name, operation in operations(document):
        parameters = {part.partition("}")[0] for part in name.split("{")[1:]}
        if parameters - CHOSEN_BY_CLIENTS and not parameters & CREATED_OTHERWISE:
            assert operation["operationId"] in targets or operation["operationId"] in {
                "listJobMetricPoints",
                "putUploadFile",
                "signUploadParts",
            }, name
