"""Every operation of the OpenAPI document as a request, with values for its parameters and an example for its body."""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI

_SPEC = {
    "task": "text-classification",
    "base_model": "tiny",
    "dataset": "reviews",
    "model": "classifier",
    "name": "a job",
    "method": {"type": "lora", "target_modules": ["query"]},
    "evaluation": {"gates": ["accuracy >= 0.1"]},
    "resources": {"pool": "local"},
    "deploy": {"endpoint": "desk"},
}
_EXAMPLES: dict[str, Any] = {
    "createJob": {"spec": _SPEC},
    "simulateJob": {"spec": _SPEC},
    "createChatCompletion": {"messages": [{"role": "user", "content": "hello"}]},
    "createBaseModel": {
        "name": "uploaded",
        "licence": "mit",
        "source": "a test",
        "files": [{"path": "config.json", "bytes": 2, "sha256": "0" * 64}],
    },
}
"""Bodies with more fields than the example in the document, or for those without an example."""
_PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class ExampleRequest:
    """One operation. ``body`` is None for operations without a JSON body."""

    id: str
    method: str
    path: str
    query: tuple[str, ...]
    body: Any = None
    sends_bytes: bool = False
    """Whether the body is a part of a file."""

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters of the path."""
        return _PARAMETER.findall(self.path)

    @property
    def changes(self) -> bool:
        """Whether the operation may change something."""
        return self.method != "GET"

    def value_name(self, parameter: str) -> str:
        """The name of a parameter's value: ``name``, ``path`` and ``key`` mean different things."""
        if parameter == "key" and "{account}" in self.path:
            return "account key"
        if parameter not in {"name", "path"}:
            return parameter
        owner = self.path.partition("/{" + parameter + "}")[0]
        return f"{owner.rpartition('/')[2]} {parameter}" if "base-models" not in owner else f"base model {parameter}"

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the path with its parameters replaced, percent-encoded as a careful client does."""

        def value(match: re.Match[str]) -> str:
            name = self.value_name(match[1])
            assert name in values, f"{self.path}: build_tenant has no object for the parameter {name!r}"
            return quote(values[name], safe="")

        return _PARAMETER.sub(value, self.path)


@dataclass
class RequestParts:
    """What a test client needs besides method and path."""

    json: Any = None
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def example_requests(app: FastAPI) -> list[ExampleRequest]:
    """Return the operations of the document."""
    document = app.openapi()
    return [
        _operation(document, path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> ExampleRequest:
    content = operation.get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
    examples = document["components"]["schemas"].get(reference, {}).get("examples", [None])
    parameters = [each for each in operation.get("parameters", []) if each["in"] == "query"]
    return ExampleRequest(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        query=tuple(each["name"] for each in parameters),
        body=_EXAMPLES.get(operation["operationId"], examples[0]),
        sends_bytes="application/octet-stream" in content,
    )


def request_parts(operation: ExampleRequest, names: Mapping[str, Any], key: str = "k") -> RequestParts:
    """Return body and headers of a valid request; ``names`` replaces values of the example by the names of fields."""
    headers = {"If-Match": '"1"', "Idempotency-Key": key}
    if operation.sends_bytes:
        return RequestParts(content=b"12345", headers=headers)
    body = _renamed(deepcopy(operation.body), names)
    return RequestParts(json=body, headers=headers | ({"Content-Type": "application/json"} if body is not None else {}))


def _renamed(value: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: names.get(name, _renamed(item, names)) for name, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return value


def text_fields(value: Any, pointer: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the positions of all texts in a JSON value."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from text_fields(item, (*pointer, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from text_fields(item, (*pointer, number))
    elif isinstance(value, str):
        yield pointer


def replaced(value: Any, pointer: tuple[str | int, ...], text: str) -> Any:
    """Return a copy of a JSON value with another text at a position."""
    copy = deepcopy(value)
    target = copy
    for part in pointer[:-1]:
        target = target[part]
    target[pointer[-1]] = text
    return copy
