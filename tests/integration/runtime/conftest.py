"""The control plane over real HTTP, and the environment of a run that uses it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.factories.run_contexts import run_context, run_environment
from tests.factories.served_control_plane import ServedControlPlane

from windlass.domain.specs import JobSpec
from windlass.runtime.context import RunEnvironment

SPEC = JobSpec.model_validate(
    {"task": "text-classification", "base_model": "tiny", "dataset": "rows@1", "model": "tuned"}
)


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[ServedControlPlane]:
    with ServedControlPlane(tmp_path) as running:
        yield running


@pytest.fixture
def environment(control_plane: ServedControlPlane, tmp_path: Path) -> RunEnvironment:
    return control_plane.environment(run_environment(tmp_path, run_context(tmp_path, SPEC)))


@pytest.fixture
def attempt(control_plane: ServedControlPlane, environment: RunEnvironment) -> int:
    return control_plane.runs.acquire_attempt("test").attempt


@pytest.fixture
def sequences(control_plane: ServedControlPlane) -> Callable[[], list[int]]:
    """Return the distinct numbers of the accepted batches."""
    return lambda: list(dict.fromkeys(body["sequence"] for body in control_plane.sent("/reports") if body["items"]))
