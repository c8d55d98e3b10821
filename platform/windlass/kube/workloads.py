"""What a control plane runs in its cluster, to end it before the control plane is uninstalled.

Without the control plane, trainers can report nothing and would hold their quota, and nothing routes predictions to
model servers. The database keeps the jobs and endpoints: another installation starts them again.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple

from windlass.domain.errors import UnavailableError
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError, KubeConflictError, KubeNotFoundError, NoKindMatchError
from windlass.kube.jobs.pipeline_backend import KubernetesRunFolders
from windlass.kube.jobs.task_jobs import TaskJobs
from windlass.kube.kfp.run_end import KfpRunFolders
from windlass.kube.kinds import DEPLOYMENT, ENDPOINT, POD, RAY_JOB
from windlass.kube.names import CONTROL_PLANE_LABEL, WARM_TRAINER_LABEL
from windlass.kube.objects import Kind, Ref

WORKER_DEPLOYMENT: Final = "windlass-worker"
WORKER_SELECTOR: Final = "app.kubernetes.io/name=windlass,app.kubernetes.io/component=worker"
_MANAGER: Final = "windlass-uninstall"
_PARALLEL: Final = 8
_SECONDS: Final = 180.0
_POLL_SECONDS: Final = 0.5
_log = logging.getLogger(__name__)


class EndedWorkloads(NamedTuple):
    """How many there were."""

    tasks: int
    endpoints: int
    runs_left: int = 0
    """Runs that may go on in Kubeflow Pipelines."""


class ControlPlaneWorkloads:
    """What a control plane runs: Jobs and warm trainers with their RayJobs, ModelEndpoints with their RayServices.

    Runs in Kubeflow Pipelines have RayJobs too.

    Args:
        client: with the permissions of the account ``windlass-uninstall``.
        namespace: of the control plane.
        control_plane: id of the control plane; others may use the same cluster.
        server_runs: runs in Kubeflow Pipelines; None if pipelines run as Jobs.
    """

    def __init__(
        self, client: KubeClient, namespace: str, control_plane: str, server_runs: KfpRunFolders | None = None
    ) -> None:
        self._client, self._namespace, self._control_plane = client, namespace, control_plane
        self._server_runs = server_runs

    def end(self) -> EndedWorkloads:
        """Stop the worker, which would start them again; then delete them, and wait until their pods are gone.

        Raises:
            UnavailableError: the API server cannot be reached, or a pod does not end; ``end`` can be repeated.
        """
        try:
            self._stop_worker()
            endpoints = self._begin_deletion(ENDPOINT)
            tasks = self._delete_tasks()
            runs, left = (0, 0) if self._server_runs is None else self._server_runs.end_all()
            # after the runs, which may have claimed some
            for ref in [*endpoints, *self._begin_deletion(RAY_JOB, f"{WARM_TRAINER_LABEL},")]:
                self._wait(partial(self._is_gone, ref), f"{ref} is not deleted")
        except KubeApiError as error:
            raise UnavailableError(error.message) from error
        return EndedWorkloads(tasks + runs, len(endpoints), left)

    def _stop_worker(self) -> None:
        try:
            self._client.patch(
                Ref(DEPLOYMENT, WORKER_DEPLOYMENT, self._namespace), {"spec": {"replicas": 0}}, manager=_MANAGER
            )
        except KubeNotFoundError:
            _log.info("there is no worker")
        self._wait(
            lambda: not self._client.list(POD, self._namespace, labels=WORKER_SELECTOR).items,
            "the pods of the worker do not end",
        )

    def _begin_deletion(self, kind: Kind, selector: str = "") -> list[Ref]:
        """Begin the deletion of this control plane's objects; the garbage collector deletes their dependents first."""
        try:
            found = self._client.list(kind, labels=f"{selector}{CONTROL_PLANE_LABEL}={self._control_plane}").items
        except NoKindMatchError:
            return []
        for each in found:
            try:
                self._client.delete(Ref.of(each), uid=each["metadata"]["uid"], foreground=True)
            except KubeConflictError:
                continue  # another object has this name now
        return [Ref.of(each) for each in found]

    def _delete_tasks(self) -> int:
        tasks = TaskJobs(self._client, self._namespace)
        folders = KubernetesRunFolders(self._client, tasks)
        try:
            runs = folders.names()
            others = sorted(set(tasks.names()) - set(runs))
            with ThreadPoolExecutor(_PARALLEL) as executor:
                for future in [
                    *(executor.submit(folders.delete, name) for name in runs),
                    *(executor.submit(tasks.delete, name) for name in others),
                ]:
                    future.result()
        finally:
            tasks.close()
        return len(runs) + len(others)

    def _is_gone(self, ref: Ref) -> bool:
        return self._client.find(ref) is None

    def _wait(self, is_done: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not is_done():
            if time.monotonic() > deadline:
                raise UnavailableError(f"{problem}; a pod may be on a node that is not ready")
            time.sleep(_POLL_SECONDS)
