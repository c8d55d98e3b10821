"""Pipeline runs as pods: one batch Job per run, which executes the compiled pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from windlass.kube.client import KubeClient
from windlass.kube.jobs.pod_spec import CONTEXT_PATH, WORKSPACE_PATH, RestrictedPod
from windlass.kube.jobs.ray_job import RayJobSettings, run_labels
from windlass.kube.jobs.ray_job_launcher import RAY_JOB_SETTINGS_VARIABLE, delete_ray_job
from windlass.kube.jobs.task_job import TaskJob, TaskState, task_job
from windlass.kube.jobs.task_jobs import TaskJobs
from windlass.kube.names import PROJECT_LABEL, RUNNER_ACCOUNT
from windlass.kube.objects import Object
from windlass.orchestration.run_result import TERMINATION_LOG_VARIABLE, RunResult
from windlass.ports import BackendRun, BackendState
from windlass.runtime.context import CONTEXT_NAME, CONTEXT_VARIABLE, WORKSPACE_VARIABLE, RunContext

_KIND: Final = "run"
_TERMINATION_LOG: Final = "/dev/termination-log"
_PROGRAM: Final = ("tini", "--", "python", "-m", "windlass_pipelines.run")


@dataclass(frozen=True)
class RunnerSettings:
    """The installation's settings for pipeline runs."""

    image: str
    amounts: Mapping[str, str]
    """Requests and limits of a runner."""
    ray_job: RayJobSettings


def runner_job(context: RunContext, namespace: str, settings: RunnerSettings) -> Object:
    """Return the Job of a run.

    It has a token of the account that creates RayJobs. When the cluster evicts its pod, the next pod adopts the RayJob.
    """
    name = context.identity.name
    template = RestrictedPod(
        container="runner",
        image=settings.image,
        amounts=settings.amounts,
        secret=name,
        command=_PROGRAM,
        service_account=RUNNER_ACCOUNT,
        api_token=True,
        reports_log=True,
        variables={
            CONTEXT_VARIABLE: f"{CONTEXT_PATH}/{CONTEXT_NAME}",
            WORKSPACE_VARIABLE: WORKSPACE_PATH,
            TERMINATION_LOG_VARIABLE: _TERMINATION_LOG,
            RAY_JOB_SETTINGS_VARIABLE: settings.ray_job.model_dump_json(),
        },
    )
    return task_job(_KIND, name, namespace, template, run_labels(context))


class KubernetesPipelineBackend:
    """Implements ``ports.PipelineBackend``.

    A killed run keeps its Job, suspended, until ``KubernetesRunFolders`` deletes it: ``poll`` then still knows the run.
    """

    def __init__(self, client: KubeClient, tasks: TaskJobs, settings: RunnerSettings) -> None:
        self._client, self._tasks, self._settings = client, tasks, settings

    def submit(self, context: RunContext) -> bool:
        """Create the Job of the run; a no-op, and False, when it exists.

        Raises:
            UnavailableError: it cannot be created now; ``submit`` can be retried.
        """
        if self._tasks.find(context.identity.name) is not None:
            return False
        manifest = runner_job(context, self._tasks.namespace, self._settings)
        return self._tasks.create(manifest, {CONTEXT_NAME: context.model_dump_json()})

    def poll(self, run_name: str) -> BackendRun:
        """Return the run as last observed.

        Raises:
            UnavailableError: the Jobs cannot be listed.
        """
        task = self._tasks.find(run_name)
        return BackendRun(name=run_name, state=BackendState.UNKNOWN) if task is None else _run(run_name, task)

    def pause(self, run_name: str) -> None:
        """End the pod of a running run; its RayJob stays in Kueue's queue.

        Raises:
            UnavailableError: the API server cannot be reached.
        """
        if self._state(run_name) is TaskState.RUNNING:
            self._tasks.pause(run_name)

    def resume(self, run_name: str) -> None:
        """Start another pod of a paused run, which adopts the RayJob. Raises as ``pause``."""
        if self._state(run_name) is TaskState.PAUSED:
            self._tasks.resume(run_name)

    def _state(self, run_name: str) -> TaskState | None:
        task = self._tasks.find(run_name)
        return None if task is None else task.state

    def kill(self, run_name: str) -> None:
        """End the pod of the run, then its RayJob, and wait until their pods are gone.

        Raises:
            UnavailableError: the API server cannot be reached, or a pod does not end.
        """
        task = self._tasks.find(run_name)
        if task is None:
            return
        if task.state in (TaskState.RUNNING, TaskState.PAUSED):
            self._tasks.stop(run_name)  # first, because it would create the RayJob again
        delete_ray_job(self._client, _project(task), run_name)


class KubernetesRunFolders:
    """Implements ``ports.RunFolders``: the Job of a run with its Secret and pods, and its RayJob."""

    def __init__(self, client: KubeClient, tasks: TaskJobs) -> None:
        self._client, self._tasks = client, tasks

    def names(self) -> list[str]:
        """Return the names of the runs that have a Job."""
        return self._tasks.names(_KIND)

    def delete(self, run_name: str) -> None:
        """Delete the objects of a run, and wait until its pods have ended."""
        task = self._tasks.find(run_name)
        if task is not None:
            self._tasks.stop(run_name)
            delete_ray_job(self._client, _project(task), run_name)
            self._tasks.delete(run_name)


def _project(task: TaskJob) -> str:
    return str(task.job["metadata"]["labels"][PROJECT_LABEL])


def _run(name: str, task: TaskJob) -> BackendRun:
    state = task.state
    if state in (TaskState.RUNNING, TaskState.PAUSED):
        paused = state is TaskState.PAUSED
        return BackendRun(name=name, state=BackendState.RUNNING, paused=paused, reason=task.reason)
    if state is TaskState.STOPPED:
        return BackendRun(name=name, state=BackendState.LOST, message="the run was killed")
    if state is TaskState.FAILED:
        return BackendRun(name=name, state=BackendState.LOST, message=task.failure, reason=task.reason)
    if task.message is None:
        return BackendRun(name=name, state=BackendState.LOST, message="the pod with the result of the run is gone")
    try:
        result = RunResult.model_validate_json(task.message)
    except ValidationError as error:
        message = f"the result of the run cannot be read: {error.error_count()} validation errors"
        return BackendRun(name=name, state=BackendState.LOST, message=message)
    return BackendRun(name=name, state=BackendState(result.state), message=result.message, reason=result.reason)
