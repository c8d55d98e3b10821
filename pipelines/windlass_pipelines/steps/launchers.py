"""Chooses what runs the trainers of a pipeline run: processes of this machine, or RayJobs in a cluster."""

import json
import os
from functools import partial

from windlass.kube.names import KFP_RUN_LABEL
from windlass.orchestration.local_launcher import LocalLauncher
from windlass.ports import Launcher
from windlass.runtime.client import RunApiClient
from windlass.runtime.context import KFP_RUN_ID_VARIABLE, RAY_ADDRESS_VARIABLE, RunEnvironment
from windlass_pipelines.steps.settings import StepSettings

_RAY_JOB_SETTINGS_VARIABLE = "WINDLASS_RAY_JOB_SETTINGS"
"""``windlass.kube.jobs.ray_job_launcher.RAY_JOB_SETTINGS_VARIABLE``, whose module loads the Kubernetes client."""


def new_launcher(environment: RunEnvironment, settings: StepSettings) -> Launcher:
    """Return the launcher of a run."""
    ray_job_settings = os.environ.get(_RAY_JOB_SETTINGS_VARIABLE)
    if ray_job_settings is None:
        return LocalLauncher(environment.workspace, settings.trainer, os.environ[RAY_ADDRESS_VARIABLE])
    # imported here: a run on one machine need not load the Kubernetes client
    from windlass.kube.client import KubeClient, load_configuration  # noqa: PLC0415 - see above
    from windlass.kube.jobs.ray_job import RayJobSettings  # noqa: PLC0415 - see above
    from windlass.kube.jobs.ray_job_launcher import RayJobLauncher  # noqa: PLC0415 - see above

    return RayJobLauncher(
        KubeClient(load_configuration()),
        environment.context.identity.project,
        RayJobSettings.model_validate_json(ray_job_settings),
        assign=partial(_assign_warm_trainer, environment, settings),
    )


def _assign_warm_trainer(environment: RunEnvironment, settings: StepSettings, name: str) -> None:
    with RunApiClient(environment, retry_seconds=settings.control_plane_timeout_seconds) as client:
        client.assign_warm_trainer(name)


def trainers_outlive_run() -> bool:
    """Return whether trainers go on when the processes of their run end: another pod of the run adopts them."""
    return _RAY_JOB_SETTINGS_VARIABLE in os.environ


def label_trainers() -> None:
    """Let the RayJobs that this process and its children create carry the id of the run on its server."""
    given, run_id = os.environ.get(_RAY_JOB_SETTINGS_VARIABLE), os.environ.get(KFP_RUN_ID_VARIABLE)
    if given is not None and run_id:
        os.environ[_RAY_JOB_SETTINGS_VARIABLE] = json.dumps(json.loads(given) | {"labels": {KFP_RUN_LABEL: run_id}})


def delete_own_trainer(environment: RunEnvironment) -> None:
    """Delete the RayJob of the run in the background, if the run with the id of this process has created it.

    Best effort: the pod ends about a second after its SIGTERM. The worker deletes the RayJob in any case.
    """
    run_id = os.environ.get(KFP_RUN_ID_VARIABLE)
    if not trainers_outlive_run() or not run_id:
        return
    from windlass.kube.client import KubeClient, load_configuration  # noqa: PLC0415 - as in new_launcher
    from windlass.kube.jobs.ray_job_launcher import delete_labelled_ray_job  # noqa: PLC0415 - as in new_launcher

    identity = environment.context.identity
    client = KubeClient(load_configuration())
    delete_labelled_ray_job(client, identity.project, identity.name, {KFP_RUN_LABEL: run_id})
