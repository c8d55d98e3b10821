"""A definition that takes more than our models do, as after an upgrade that is stricter than what is stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.integration.cluster.waiting import eventually

from windlass.kube.client import Client
from windlass.kube.errors import InvalidError
from windlass.kube.objects import Kind, Object, Ref

_DEFINITION = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")


@contextmanager
def loosened(client: Client, definition: str, probe: Object) -> Iterator[None]:
    """Take the schema of the spec out of a definition for a time; ``probe`` is something that it refused before."""
    ref = Ref(_DEFINITION, definition)
    strict: list[Any] = client.get(ref)["spec"]["versions"]
    loose: list[Any] = client.get(ref)["spec"]["versions"]
    schema = loose[0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema.pop("x-kubernetes-validations", None)
    client.patch(ref, {"spec": {"versions": loose}}, manager="test")

    def taken() -> bool:
        try:
            client.create(probe, manager="test", dry_run=True)
        except InvalidError:
            return False
        return True

    try:
        eventually(taken, "the loosened definition is in force")
        yield
    finally:
        client.patch(ref, {"spec": {"versions": strict}}, manager="test")
