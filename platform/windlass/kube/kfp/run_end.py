"""Ends runs on a Kubeflow Pipelines server, and deletes what they have outside of it."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from windlass.domain.errors import UnavailableError
from windlass.kube.client import KubeClient
from windlass.kube.jobs.ray_job_launcher import delete_ray_job
from windlass.kube.kfp.run_record import RunRecords
from windlass.kube.kfp.workflows import delete_workflows
from windlass.orchestration.kfp.client import KfpClient
from windlass.orchestration.kfp.runs import RunPhase

_NOT_ENDED: Final = frozenset({RunPhase.ACTIVE, RunPhase.UNDOCUMENTED})
_KILL_SECONDS: Final = 120.0
_KILL_POLL_SECONDS: Final = 0.5
_PARALLEL: Final = 8
_END_ALL_SECONDS: Final = 300.0
"""Time after which runs that are still to be ended are only deleted from Kubernetes: an uninstallation must end."""
_log = logging.getLogger(__name__)


class RunKiller:
    """Terminates runs.

    Args:
        kube: with the permissions to delete RayJobs, and workflows where the server runs them.
        server: the server.
        records: what is remembered about runs.
        clock: seconds.
        sleep: waits between two observations of a run that is being killed.
    """

    def __init__(
        self,
        kube: KubeClient,
        server: KfpClient,
        records: RunRecords,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._kube, self._server, self._records = kube, server, records
        self._clock, self._sleep = clock, sleep

    def kill(self, run_name: str) -> None:
        """Terminate a run, wait until it has ended, and delete its RayJob with its pods, and its Secret.

        Raises:
            UnavailableError: a server cannot be reached, or the run or a pod does not end.
        """
        record = self._records.find(run_name)
        if record is None:
            return
        runs = [run for run_id in record.run_ids if (run := self._server.run(run_id)) is not None]
        active = [run for run in runs if run.phase in _NOT_ENDED]
        if active or not runs:
            self._records.note_kill(run_name)
        for run in active:
            self._terminate(run.run_id)
        stored = {run.run_id for run in runs}
        for run_id in record.run_ids:
            if run_id not in stored:
                delete_workflows(self._kube, record.namespace, run_id)
        delete_ray_job(self._kube, record.project, run_name)  # last, because the step would create it again
        self._records.delete_context(record)

    def _terminate(self, run_id: str) -> None:
        """Terminate a run, and wait until its state is final. The server does not stop what its step has created."""
        deadline = self._clock() + _KILL_SECONDS
        self._server.terminate(run_id)
        while (run := self._server.run(run_id)) is not None and run.phase in _NOT_ENDED:
            if self._clock() > deadline:
                raise UnavailableError(f"run {run_id} of Kubeflow Pipelines does not end after it was terminated")
            self._sleep(_KILL_POLL_SECONDS)


class KfpRunFolders:
    """Implements ``ports.RunFolders``: the record and Secret of a run, surplus runs of it, and its RayJob.

    The run itself stays in the history of the server.
    """

    def __init__(self, kube: KubeClient, killer: RunKiller, server: KfpClient, records: RunRecords) -> None:
        self._kube, self._killer, self._server, self._records = kube, killer, server, records

    def names(self) -> list[str]:
        """Return the names of the runs that have a record."""
        return self._records.names()

    def delete(self, run_name: str) -> None:
        """Kill what is left of a run, and delete what it has outside of the server."""
        record = self._records.find(run_name)
        if record is None:
            return
        self._killer.kill(run_name)
        existing = [run_id for run_id in record.run_ids if self._server.run(run_id) is not None]
        for run_id in existing[1:]:
            self._server.delete_run(run_id)
        self._records.delete(record)

    def end_all(self) -> tuple[int, int]:
        """Delete all runs as ``delete`` does, and what a run has in Kubernetes where the server does not end it.

        Returns how many there were, and how many of them may go on.

        Raises:
            UnavailableError: the API server cannot be reached, or a pod of a RayJob does not end.
        """
        names = self.names()
        problem = self._server_problem() if names else ""
        if problem:
            _log.warning("runs in Kubeflow Pipelines may go on", extra={"runs": len(names), "problem": problem})
        end = self._abandon if problem else partial(self._end, until=time.monotonic() + _END_ALL_SECONDS)
        with ThreadPoolExecutor(_PARALLEL) as executor:
            ended = list(executor.map(end, names))
        return len(names), ended.count(False)

    def _server_problem(self) -> str:
        """Return why the server cannot be used; empty if it can."""
        try:
            self._server.is_multi_user()
        except UnavailableError as error:
            return error.message
        return ""

    def _end(self, run_name: str, until: float) -> bool:
        try:
            self._delete_before(until, run_name)
        except UnavailableError as error:
            _log.warning("a run may go on in Kubeflow Pipelines", extra={"run": run_name, "problem": error.message})
            return self._abandon(run_name)
        return True

    def _delete_before(self, until: float, run_name: str) -> None:
        if time.monotonic() > until:
            raise UnavailableError(f"other runs have not ended within {_END_ALL_SECONDS:.0f} seconds")
        self.delete(run_name)

    def _abandon(self, run_name: str) -> bool:
        """Delete what a run has in Kubernetes, and the run goes on in Kubeflow Pipelines.

        Its pod ends with its workflow; without the permission to delete that, it goes on.
        """
        record = self._records.find(run_name)
        if record is not None:
            for run_id in record.run_ids:
                delete_workflows(self._kube, record.namespace, run_id)
            delete_ray_job(self._kube, record.project, run_name)
            self._records.delete(record)
        return False
