"""The environment of a run's processes as environment variables."""

from pathlib import Path

import pytest
from tests.factories.local_runs import spec
from tests.factories.run_contexts import run_context

from windlass.runtime.context import (
    CONTEXT_NAME,
    CONTEXT_VARIABLE,
    THREADS_VARIABLE,
    WORKSPACE_VARIABLE,
    RunEnvironment,
)


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    run_context(tmp_path, spec()).write(tmp_path / CONTEXT_NAME)
    return {CONTEXT_VARIABLE: str(tmp_path / CONTEXT_NAME), WORKSPACE_VARIABLE: str(tmp_path)}


def test_another_process_loads_the_same_environment(variables: dict[str, str]) -> None:
    loaded = RunEnvironment.load(variables | {THREADS_VARIABLE: "16", "WINDLASS_RUN_DRAIN_SECONDS": "60"})
    assert (loaded.cpu_threads, loaded.drain_seconds) == (16, 60.0)
    assert RunEnvironment.load(loaded.variables()) == loaded


@pytest.mark.parametrize("value", ["", "0", "4,2", "many"])
def test_other_values_of_omp_num_threads_leave_the_number_to_the_trainer(variables: dict[str, str], value: str) -> None:
    loaded = RunEnvironment.load(variables | {THREADS_VARIABLE: value})
    assert loaded.cpu_threads is None
    assert THREADS_VARIABLE not in loaded.variables()
