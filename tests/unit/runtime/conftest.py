"""A control plane over real HTTP, and the context of a run that speaks to it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.factories.run_contexts import run_context
from tests.fakes.control_plane import FakeControlPlane

from windlass.domain.specs import JobSpec
from windlass.runtime.context import RunContext

SPEC = JobSpec.model_validate(
    {"task": "text-classification", "base_model": "tiny", "dataset": "rows@1", "model": "tuned"}
)


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as running:
        yield running


@pytest.fixture
def context(plane: FakeControlPlane, tmp_path: Path) -> RunContext:
    return run_context(tmp_path, SPEC, api_url=plane.url)


@pytest.fixture
def attempt(plane: FakeControlPlane) -> int:
    number: int = plane.claim({"trainer": "test"})["attempt"]
    return number


@pytest.fixture
def sequences(plane: FakeControlPlane) -> Callable[[], list[int]]:
    """Return the numbers of the batches that were taken, repetitions left out."""

    def taken() -> list[int]:
        reports = [
            op.body["sequence"] for op in list(plane.operations) if op.path.endswith("/reports") and op.status == 200
        ]
        return list(dict.fromkeys(reports))

    return taken
