"""Run contexts and environments without a model or data."""

from dataclasses import replace
from pathlib import Path

from windlass.domain.specs import JobSpec
from windlass.runtime.context import (
    CONTEXT_NAME,
    RunContext,
    RunEnvironment,
    RunIdentity,
    RunInputs,
    RunLocations,
)


def run_locations(store: Path) -> RunLocations:
    """Return the locations of a run whose object store is a folder."""
    return RunLocations(
        dataset=(store / "data/rows").as_uri(),
        base_model=(store / "base/tiny").as_uri(),
        checkpoints=(store / "checkpoints").as_uri(),
        artifacts=(store / "artifacts").as_uri(),
    )


def run_context(
    root: Path, spec: JobSpec, *, api_url: str = "http://127.0.0.1:9", has_gpus: bool = False
) -> RunContext:
    """Create a run context with the store below ``root``, of a pool that counts GPUs or CPU slots."""
    return RunContext(
        api_url=api_url,
        run_token="secret-run-token",
        identity=RunIdentity(project="demo", job="job_1", run="run_1", number=1, name="job-1-r1"),
        spec=spec,
        inputs=RunInputs(
            dataset_version="dsv_1", base_model="tiny", world_size=spec.resources.world_size(has_gpus=has_gpus)
        ),
        locations=run_locations(root / "store"),
    )


def run_environment(root: Path, context: RunContext) -> RunEnvironment:
    """Write the context to a workspace below ``root``, as a launcher does."""
    workspace = root / "workspace"
    workspace.mkdir(exist_ok=True)
    environment = RunEnvironment(context, workspace / CONTEXT_NAME, workspace)
    context.write(environment.context_file)
    return environment


def with_token(environment: RunEnvironment, token: str) -> RunEnvironment:
    """Return the environment with another run token."""
    return replace(environment, context=environment.context.model_copy(update={"run_token": token}))
