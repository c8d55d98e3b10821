"""A new control plane in this process for each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.factories.databases import database_kind, run_on_both
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun

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


@pytest.fixture
def job(ready: ControlPlaneHarness) -> dict[str, Any]:
    """A job whose run was submitted."""
    job = ready.submit("ours", key="one")
    ready.run_worker_once(2)
    return job


@pytest.fixture
def run(ready: ControlPlaneHarness, job: dict[str, Any]) -> SimulatedRun:
    """The run of ``job``, with a live attempt of the trainer ``first``."""
    run = ready.simulated_run(job)
    assert run.acquire_attempt("first").status_code == 200
    return run
