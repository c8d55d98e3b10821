"""Builds the input of a pipeline run from the stored job: resolves names, and turns keys into URIs."""

from windlass.domain.jobs import Run, RunState
from windlass.domain.storage_layout import artifacts_prefix, checkpoints_prefix, dataset_version_prefix
from windlass.ports import ReadUnitOfWork
from windlass.runtime.context import RunContext, RunIdentity, RunInputs, RunLocations
from windlass.services.base import ServiceDependencies, WorkerDependencies
from windlass.services.datasets import all_steps


def build_run_context(deps: WorkerDependencies, run_id: str, api_url: str) -> RunContext | None:
    """Return the input of a run that must be submitted; None when it was submitted, stopped or deleted before.

    ``api_url`` is where the run's processes reach the control plane.
    """
    with deps.database.read() as uow:
        run = uow.all_projects().runs.find({"id": run_id})
        if run is None or run.state is not RunState.PENDING or run.stop is not None:
            return None
        return run_context(deps, uow, run, api_url)


def run_context(deps: ServiceDependencies, uow: ReadUnitOfWork, run: Run, api_url: str) -> RunContext:
    """Return the input of a run; it is the same whenever it is built."""
    job = uow.project(run.project).jobs.get({"id": run.job})
    base = uow.base_models.get({"id": job.base_model})
    project = uow.projects.get({"id": run.project}).name
    steps = all_steps(uow.project(run.project), job.dataset_version)
    uri = deps.store.uri
    return RunContext(
        api_url=api_url,
        run_token=deps.hasher.run_token(run.id),
        identity=RunIdentity(project=project, job=job.id, run=run.id, number=run.number, name=run.name),
        spec=job.spec,
        inputs=RunInputs(
            dataset_version=job.dataset_ref,
            dataset_steps=steps,
            base_model=base.name,
            base_model_licence=base.known_licence,
            world_size=job.world_size,
            warnings=job.warnings,
        ),
        locations=RunLocations(
            dataset=uri(dataset_version_prefix(run.project, job.dataset_version)),
            base_model=uri(base.prefix),
            checkpoints=uri(checkpoints_prefix(job)),
            artifacts=uri(artifacts_prefix(job)),
        ),
    )
