"""The control plane in one process, fresh for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = House(tmp_path)
    with built.client:
        yield built
    built.close()


@pytest.fixture
def ready(house: House) -> House:
    """A house with a project that can submit jobs."""
    house.project("ours")
    house.base_model()
    house.dataset("ours")
    return house
