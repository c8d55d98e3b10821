"""A new control plane in this process for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.databases import database_kind, run_on_both
from tests.fakes.harness import ControlPlaneHarness

__all__ = ["database_kind"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests with ``pytest.mark.database`` on the databases that it names; the others run on SQLite."""
    if metafunc.definition.get_closest_marker("database"):
        run_on_both(metafunc)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ControlPlaneHarness]:
    built = ControlPlaneHarness(tmp_path)
    with built.client:
        yield built
    built.close()


@pytest.fixture
def ready(harness: ControlPlaneHarness) -> ControlPlaneHarness:
    """A platform with a project that can submit jobs."""
    harness.create_project("ours")
    harness.create_base_model()
    harness.create_dataset("ours")
    return harness
