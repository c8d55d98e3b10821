"""The in-memory serving back end fulfils the contract; ``LocalServing`` runs it in ``tests/integration/serve``."""

import pytest
from tests.contracts.serving_backend import ServingBackendContract
from tests.factories.served_apps import make_served_app
from tests.fakes.backends import MemoryServing

from windlass.domain.endpoints import ServedApp


class TestMemoryServing(ServingBackendContract):
    @pytest.fixture
    def backend(self) -> MemoryServing:
        return MemoryServing(broken={"bad"})

    @pytest.fixture
    def good(self) -> ServedApp:
        return make_served_app("good")

    @pytest.fixture
    def bad(self) -> ServedApp:
        return make_served_app("bad")
