"""The in-memory serving back end fulfils the contract; ``LocalServing`` runs it in ``tests/integration/serve``."""

import pytest
from tests.contracts.serving_backend import ServingBackendContract
from tests.fakes.backends import MemoryServing

from windlass.domain.endpoints import ReplicaRange, ServedApp
from windlass.domain.specs import Task


def _app(key: str) -> ServedApp:
    return ServedApp(
        key=key,
        project="ours",
        endpoint=key,
        task=Task.CHAT,
        artifact_uri="file:///nowhere",
        digest="0" * 64,
        model_name=key,
        replicas=ReplicaRange(),
        max_batch_size=1,
        batch_wait_ms=0,
    )


class TestMemoryServing(ServingBackendContract):
    @pytest.fixture
    def backend(self) -> MemoryServing:
        return MemoryServing(broken={"bad"})

    @pytest.fixture
    def good(self) -> ServedApp:
        return _app("good")

    @pytest.fixture
    def bad(self) -> ServedApp:
        return _app("bad")
