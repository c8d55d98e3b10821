"""Clients connected to a stub server in the same process."""

from collections.abc import Iterator

import pytest
from tests.unit.sdk.stub_server import StubServer

from windlass.sdk import AsyncClient, Client

KEY = "wlk_test_secret"


@pytest.fixture
def server() -> Iterator[StubServer]:
    with StubServer() as stub:
        yield stub


@pytest.fixture
def client(server: StubServer) -> Iterator[Client]:
    with Client(server.url, KEY, "team-a") as made:
        yield made


@pytest.fixture
def async_client(server: StubServer) -> AsyncClient:
    return AsyncClient(server.url, KEY, "team-a")
