"""Run contexts for tests: no model, no data."""

from pathlib import Path

from windlass.domain.specs import JobSpec
from windlass.runtime.context import RunContext


def run_context(root: Path, spec: JobSpec, *, api_url: str = "http://127.0.0.1:9") -> RunContext:
    """Make the context of a run whose store and workspace lie below ``root``."""
    store, workspace = root / "store", root / "workspace"
    store.mkdir(exist_ok=True)
    workspace.mkdir(exist_ok=True)
    return RunContext(
        api_url=api_url,
        run_token="secret-run-token",
        project="demo",
        job="job_1",
        run="run_1",
        run_number=1,
        run_name="job-1-r1",
        spec=spec,
        store_root=store,
        dataset_prefix="data/rows",
        dataset_version="dsv_1",
        base_model_prefix="base/tiny",
        base_model="tiny",
        checkpoint_prefix="checkpoints/job_1",
        artifact_prefix="artifacts/job_1",
        workspace=workspace,
        ray_address="127.0.0.1:0",
    )
