"""The fixtures of the tests of the whole chain."""

from collections.abc import Iterator

import pytest
from tests.integration.cluster import conftest
from tests.integration.cluster.chain.installation import installation, served, trained

__all__ = ["installation", "reset_cluster", "served", "trained"]


@pytest.fixture(scope="package", autouse=True)
def reset_cluster() -> Iterator[None]:
    """Delete what the tests created after the last module, since the modules share an installation."""
    yield from conftest.reset()
