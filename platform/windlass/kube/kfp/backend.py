"""Pipeline runs on a Kubeflow Pipelines server."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from windlass.domain.errors import UnavailableError
from windlass.kube.client import KubeClient
from windlass.kube.jobs.ray_job_launcher import delete_ray_job
from windlass.kube.kfp.run_end import RunKiller
from windlass.kube.kfp.run_record import RunRecord, RunRecords, find_run, run_id_of
from windlass.kube.kfp.run_report import EXPLAIN_SECONDS, RunReader, explain_undocumented
from windlass.kube.kfp.workflows import delete_workflows
from windlass.orchestration.kfp.client import Created, KfpClient
from windlass.orchestration.kfp.observer import RunObserver
from windlass.orchestration.kfp.package import PIPELINE_NAME, SECRET_PARAMETER, STEP, PipelinePackage
from windlass.orchestration.kfp.runs import RunPhase, ServerRun
from windlass.ports import BackendRun, BackendState
from windlass.runtime.context import RunContext

_SETTLE_SECONDS: Final = 30.0
"""How long a creation whose reply was lost may take until the server shows the run."""
_MAX_TRIES: Final = 5
_DESCRIPTION: Final = "Windlass job {job} of project {project} trains {model}: windlass job get {job} -p {project}"
_MAX_DISPLAY_NAME: Final = 128
"""The server starts the workflow of a run with a long name, and replies with an error."""


@dataclass(frozen=True)
class KfpSettings:
    """The installation's settings for a Kubeflow Pipelines server."""

    package: PipelinePackage
    multi_user: bool = False
    """Whether runs, experiments and pipelines are in the namespaces of projects."""
    service_account: str = ""
    """Of the pods of runs; empty: the default of the server."""
    start_seconds: float = 900.0
    """Time after which a run is lost whose step has not started, as with an image that cannot be pulled."""


class KfpPipelineBackend:
    """Implements ``ports.PipelineBackend``.

    The ids of a run on the server are derived from its name. A creation is never repeated with the same id: the server
    would start a second workflow. One whose reply was lost is found by its id; if it does not appear, the next one has
    another id, and the run with the first existing id counts. The others are deleted.

    Args:
        kube: with the permissions of the worker, for Secrets and RayJobs.
        server: the server.
        records: what is remembered about runs.
        settings: of the installation.
        clock: seconds since 1970.
        sleep: waits between two observations of a run that is being killed.
    """

    def __init__(
        self,
        kube: KubeClient,
        server: KfpClient,
        records: RunRecords,
        settings: KfpSettings,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._kube, self._server, self._records, self._settings = kube, server, records, settings
        self._clock = clock
        self._reader, self._observer = RunReader(server), RunObserver(server, clock)
        self._killer = RunKiller(kube, server, records, clock=clock, sleep=sleep)
        self._started: set[str] = set()
        """Runs whose step was seen to run; surplus runs of them are deleted."""
        self._found: dict[str, RunRecord] = {}
        """Records of runs that the server has shown: only the end and a kill change them."""

    # ------------------------------------------------------------ submit

    def submit(self, context: RunContext) -> bool:
        """Create the run; a no-op, and False, when it exists.

        Raises:
            UnavailableError: it cannot be created now, or it is not known whether it was; ``submit`` can be retried.
        """
        name = context.identity.name
        record = self._records.create(context)
        if record.killed or find_run(self._server, record) is not None:
            return False
        if record.requested_at is not None and self._clock() - record.requested_at < _SETTLE_SECONDS:
            raise UnavailableError(f"Kubeflow Pipelines has not confirmed run {name}, and does not show it yet")
        if record.tries >= _MAX_TRIES:
            raise UnavailableError(f"Kubeflow Pipelines has lost {record.tries} requests to create run {name}")
        if self._server.run(run_id_of(name, record.tries + 1)) is not None:  # its record was deleted
            self._records.note_request(record, record.tries + 1, self._clock())
            return False
        self._delete_unstored(record, record.run_ids)
        body = self._body(context, record)
        self._records.create_context(record, context)
        if not self._create(record, body):
            raise UnavailableError(f"the reply to the creation of run {name} in Kubeflow Pipelines was lost")
        return True

    def _create(self, record: RunRecord, body: dict[str, Any]) -> bool:
        """Create the run with the next id; return False if it is not known whether it exists."""
        requested = self._records.note_request(record, record.tries + 1, self._clock())
        try:
            created = self._server.create_run(body)
        except UnavailableError:
            self._records.note_request(requested, record.tries, record.requested_at)  # nothing was started: it is free
            raise
        if created is Created.YES:
            return True
        # the time to settle begins now: the request may have taken as long as its timeout
        settling = self._records.note_request(requested, requested.tries, self._clock())
        return find_run(self._server, settling) is not None

    def _body(self, context: RunContext, record: RunRecord) -> dict[str, Any]:
        identity, spec, namespace = context.identity, context.spec, self._namespace_of(record)
        return {
            "run_id": run_id_of(identity.name, record.tries + 1),
            "display_name": f"{spec.model} ({identity.name})"[:_MAX_DISPLAY_NAME],
            "description": _DESCRIPTION.format(job=identity.job, project=identity.project, model=spec.model),
            "experiment_id": self._server.ensure_experiment(
                f"windlass-{identity.project}", f"Runs of the Windlass project {identity.project}", namespace
            ),
            "pipeline_version_reference": self._server.ensure_version(PIPELINE_NAME, self._settings.package, namespace),
            "runtime_config": {"parameters": {SECRET_PARAMETER: identity.name}},
            **({"service_account": self._settings.service_account} if self._settings.service_account else {}),
        }

    # ------------------------------------------------------------ poll

    def poll(self, run_name: str) -> BackendRun:
        """Return the run; one that has not ended may be two seconds old.

        Raises:
            UnavailableError: the server cannot be reached.
        """
        record, run = self._observe(run_name)
        if record is None or run is None:
            return BackendRun(name=run_name, state=BackendState.UNKNOWN)
        if run.phase is RunPhase.UNDOCUMENTED:
            return BackendRun(name=run_name, state=BackendState.RUNNING, reason=explain_undocumented(run.state))
        if run.phase is RunPhase.ACTIVE:
            return self._active(record, run)
        record = self._records.find(run_name) or record  # another worker may have killed it
        self._delete_surplus(record, run)
        ended = self._reader.read_ended(run_name, run, self._clock(), killed=record.killed)
        delete_ray_job(self._kube, record.project, run_name)
        self._records.delete_context(record)
        self._forget(run_name)
        return ended

    def _observe(self, name: str) -> tuple[RunRecord | None, ServerRun | None]:
        """Return the record and the run; the record of a run that was found before may be old."""
        record = self._found.get(name)
        if record is not None and (run := self._read(record)) is not None:
            return record, run
        record = self._records.find(name)
        run = None if record is None else self._read(record)
        if record is not None and run is not None:
            self._found[name] = record
        else:
            self._found.pop(name, None)
        return record, run

    def _read(self, record: RunRecord) -> ServerRun | None:
        return self._observer.read(record.name, record.run_ids, self._namespace_of(record))

    def _namespace_of(self, record: RunRecord) -> str:
        """Return the namespace of a run for the server; empty if it has none."""
        return record.namespace if self._settings.multi_user else ""

    def _forget(self, name: str) -> None:
        self._observer.forget(name)
        self._reader.forget(name)
        self._found.pop(name, None)
        self._started.discard(name)

    def _active(self, record: RunRecord, run: ServerRun) -> BackendRun:
        """Return an active run; end one whose step does not start."""
        running = BackendRun(name=record.name, state=BackendState.RUNNING)
        if record.name in self._started:
            return running
        if run.has_started(STEP):
            self._delete_surplus(self._records.find(record.name) or record, run)
            self._started.add(record.name)
            return running
        now = self._clock()
        seconds = now - (record.requested_at or 0.0)
        if seconds < min(EXPLAIN_SECONDS, self._settings.start_seconds):
            return running
        reason = self._reader.explain_waiting(record.name, run, now)
        if seconds < self._settings.start_seconds:
            return running.model_copy(update={"reason": reason})
        self.kill(record.name)
        return BackendRun(name=record.name, state=BackendState.LOST, message=reason.message, reason=reason)

    def _delete_surplus(self, record: RunRecord, run: ServerRun) -> None:
        others = [run_id for run_id in record.run_ids if run_id != run.run_id]
        for run_id in others:
            self._server.delete_run(run_id)
        self._delete_unstored(record, others)
        delete_workflows(self._kube, record.namespace, run.run_id, keep_first=True)

    def _delete_unstored(self, record: RunRecord, run_ids: Iterable[str]) -> None:
        """Delete the workflows with ids of which the server has no run."""
        for run_id in run_ids:
            delete_workflows(self._kube, record.namespace, run_id)

    # ------------------------------------------------------------ pause and kill

    def pause(self, run_name: str) -> None:
        """Do nothing: a pod of the server cannot be ended without its run."""

    def resume(self, run_name: str) -> None:
        """Do nothing: no run is paused."""

    def kill(self, run_name: str) -> None:
        """Terminate the run and wait until it has ended, then delete its RayJob and wait until its pods are gone.

        Raises:
            UnavailableError: a server cannot be reached, or the run or a pod does not end.
        """
        self._forget(run_name)
        self._killer.kill(run_name)
