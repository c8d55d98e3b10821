"""Relaxes a CRD, to store objects that our models reject, as after an upgrade with a stricter schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.integration.cluster.waiting import eventually

from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeInvalidError
from windlass.kube.objects import Kind, Object, Ref

_DEFINITION = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")


@contextmanager
def relaxed_schema(client: KubeClient, definition: str, probe: Object) -> Iterator[None]:
    """Remove the schema of a CRD's spec for the block; ``probe`` is an object that the schema rejects."""
    ref = Ref(_DEFINITION, definition)
    strict: list[Any] = client.get(ref)["spec"]["versions"]
    relaxed: list[Any] = client.get(ref)["spec"]["versions"]
    schema = relaxed[0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema.pop("x-kubernetes-validations", None)
    client.patch(ref, {"spec": {"versions": relaxed}}, manager="test")

    def accepts_probe() -> bool:
        try:
            client.create(probe, manager="test", dry_run=True)
        except KubeInvalidError:
            return False
        return True

    try:
        eventually(accepts_probe, "the relaxed schema is in force")
        yield
    finally:
        client.patch(ref, {"spec": {"versions": strict}}, manager="test")
