"""A server in this process that answers as a test says: where what matters is how the transport behaves."""

from collections.abc import Iterator

import pytest
from tests.unit.sdk.stand_in import StandIn

from windlass.sdk import AsyncClient, Client

KEY = "wlk_test_secret"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture
def client(server: StandIn) -> Iterator[Client]:
    with Client(server.url, KEY, "team-a") as made:
        yield made


@pytest.fixture
def async_client(server: StandIn) -> AsyncClient:
    return AsyncClient(server.url, KEY, "team-a")
