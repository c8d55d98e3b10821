"""Links of the OpenAPI document: which operations take what the response of another one has created.

Tools that follow links, and tests of sequences of operations, use them.
"""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

_IDENTIFIED_BY = {"job": "id", "upload": "id", "key": "id", "change": "id", "erasure": "id", "number": "number"}
"""The field of a response that is the value of a path parameter, if it is not ``name``."""
_CREATES = {
    "createKey": "key",
    "createPool": "pool",
    "createProject": "project",
    "createDataset": "dataset",
    "createUpload": "upload",
    "createBaseModel": "name",
    "createJob": "job",
    "createServiceAccount": "account",
    "createServiceAccountKey": "key",
    "renewServiceAccountKey": "key",
    "createEndpoint": "endpoint",
    "retryJob": "job",
    "renewKey": "key",
    "putQuota": "change",
    "commitUpload": "number",
    "cleanDatasetVersion": "number",
    "startErasure": "erasure",
}
"""The path parameter of what an operation creates."""
_FURTHER = {"commitUpload": {"dataset": "$response.body#/dataset"}}
"""Parameters that are in no path of the operation itself."""
_CREATED = {200, 201, 202}


def add_links(document: Json) -> None:
    """Add links to the successful responses of all operations that create something."""
    operations = {
        operation["operationId"]: (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    for source, parameter in _CREATES.items():
        if source not in operations:
            continue  # this application does not have the routes
        path, _, operation = operations[source]
        known = {name: f"$request.path.{name}" for name in _path_parameters(path)} | _FURTHER.get(source, {})
        known[parameter] = f"$response.body#/{_IDENTIFIED_BY.get(parameter, 'name')}"
        links = dict(_links(operations, source, parameter, known))
        for status, response in operation["responses"].items():
            if status.isdigit() and int(status) in _CREATED:
                response["links"] = links


def _links(
    operations: dict[str, tuple[str, str, Json]], source: str, parameter: str, known: dict[str, str]
) -> Iterator[tuple[str, Json]]:
    """Yield the links to the operations all of whose path parameters are known, and which need the new object."""
    for target, (path, _, operation) in operations.items():
        needed = _path_parameters(path)
        if target == source or parameter not in needed or not set(needed) <= known.keys():
            continue
        if parameter == "name" and not path.startswith("/v1/base-models"):
            continue  # the name of something else
        if parameter == "number" and "/datasets/" not in path:
            continue  # the version of a model
        parameters = {f"path.{name}": known[name] for name in needed}
        if any(each["name"] == "If-Match" for each in operation.get("parameters", [])):
            parameters["header.If-Match"] = "$response.header.ETag"
        yield target, {"operationId": target, "parameters": parameters}


def _path_parameters(path: str) -> list[str]:
    return [part.partition("}")[0] for part in path.split("{")[1:]]
