"""Trainers as RayJobs in the namespaces of projects, which Kueue admits."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from windlass.domain.errors import FencedError, InvalidError, UnavailableError
from windlass.kit.ca_bundle import ca_bundle_files
from windlass.kube.client import KubeClient
from windlass.kube.errors import (
    KubeApiError,
    KubeConflictError,
    KubeForbiddenError,
    KubeInvalidError,
    KubeNotFoundError,
    NoKindMatchError,
)
from windlass.kube.explain_job import explain_trainer_failure
from windlass.kube.jobs.pod_spec import owned_secret
from windlass.kube.jobs.ray_job import (
    RayJobSettings,
    can_be_warm,
    claim_fields,
    ray_job,
    secret_name,
    start_of,
    trainer_status,
    warm_trainer_digest,
)
from windlass.kube.kinds import NAMESPACE, POD, POOL, RAY_JOB
from windlass.kube.kueue.cluster_objects import Pod, RayJob
from windlass.kube.names import (
    POOL_LABEL,
    RAY_CLUSTER_LABEL,
    RUN_LABEL,
    RUNNER_ACCOUNT,
    WARM_TRAINER_LABEL,
    namespace_of,
)
from windlass.kube.objects import Object, Ref
from windlass.kube.resources import GPUPool
from windlass.ports.launcher import RunLostError, TrainerState, TrainerStatus
from windlass.runtime.context import CONTEXT_NAME, RunContext

RAY_JOB_SETTINGS_VARIABLE = "WINDLASS_RAY_JOB_SETTINGS"
"""Environment variable of a pipeline run with ``RayJobSettings`` as JSON; unset: its trainers are local processes."""
_MANAGER = RUNNER_ACCOUNT
"""The field manager of the objects of runs."""
_POLL_SECONDS = 1.0
"""Minimum time between two requests for the status of a RayJob."""
_MAX_CLAIM_TRIES = 5
_KILL_SECONDS = 120.0
_KILL_POLL_SECONDS = 0.2


class RayJobLauncher:
    """Implements ``ports.Launcher`` for the runs of one project.

    The RayJob of a run is new and has the name of the run, or is that of a warm trainer, which the run has claimed; a
    further start replaces it. While Kueue has not admitted it, or has
    preempted it, the trainer is pending. A trainer ships its own output to the control plane, so ``read_log`` is empty.
    ``stop`` deletes the RayJob in the background: KubeRay then sends SIGTERM to the trainer. A control plane that wants
    a checkpoint first asks for it in its replies to the reports of the trainer.

    Args:
        client: with the permissions of the account ``windlass-runner``.
        project: name of the project.
        settings: what the installation sets for trainers.
        clock: seconds; limits how often the API server is asked.
        assign: tells the control plane that the run has claimed the warm trainer of this name; None: none is claimed.
    """

    def __init__(
        self,
        client: KubeClient,
        project: str,
        settings: RayJobSettings,
        clock: Callable[[], float] = time.monotonic,
        assign: Callable[[str], None] | None = None,
    ) -> None:
        self._client, self._project, self._settings, self._clock = client, project, settings, clock
        self._assign = assign
        self._launched: dict[str, int] = {}
        """The newest start of each run that this process has launched or adopted."""
        self._polled: dict[str, tuple[float, TrainerStatus]] = {}

    def launch(self, context: RunContext, start: int) -> None:
        """Claim a warm trainer, or create the RayJob and the Secret with the context of the run.

        Whatever exists of this start is adopted.

        Raises:
            RunLostError: the project is being deleted, or Windlass may not create objects in it.
            InvalidError: the pool does not exist, or the cluster rejects the RayJob.
            UnavailableError: the API server cannot be reached.
        """
        name = context.identity.name
        try:
            existing = find_ray_job(self._client, self._project, name)
            if existing is not None and start_of(existing) < start:
                delete_ray_job(self._client, self._project, name)
                existing = None
            live = existing or self._claim_warm_trainer(context, start)
            if live is None:
                live = self._create(ray_job(context, start, self._resource(context), self._settings))
            self._hand_over(context, start, live)
        except FencedError as error:
            raise RunLostError(error.message) from error
        except (KubeForbiddenError, KubeNotFoundError) as error:
            raise RunLostError(f"the RayJob cannot be created: {error.message}") from error
        except KubeInvalidError as error:
            raise InvalidError(f"the cluster rejects the RayJob: {error.message}") from error
        except KubeApiError as error:
            raise UnavailableError(error.message) from error
        self._launched[name] = start_of(live)
        self._polled.pop(name, None)

    def poll(self, run_name: str) -> TrainerStatus:
        """Return the status of the newest start, at most a second old; the last known one during an outage."""
        now, known = self._clock(), self._polled.get(run_name)
        if known is not None and now - known[0] < _POLL_SECONDS:
            return known[1]
        try:
            found = find_ray_job(self._client, self._project, run_name)
        except KubeApiError:
            start = self._launched.get(run_name, 0)
            status = known[1] if known else TrainerStatus(state=TrainerState.PENDING, start=start)
        else:
            status = self._missing(run_name) if found is None else self._explained(found)
        self._polled[run_name] = (now, status)
        return status

    def read_log(self, run_name: str, offset: int) -> bytes:
        """Return nothing: the trainer sends its output to the control plane itself."""
        del run_name, offset
        return b""

    def stop(self, run_name: str) -> None:
        """Delete the RayJob in the background; errors are ignored, because a kill follows."""
        try:
            found = find_ray_job(self._client, self._project, run_name)
            if found is not None:
                self._client.delete(Ref.of(found), uid=found["metadata"]["uid"])
        except KubeApiError:
            return

    def kill(self, run_name: str) -> None:
        """Delete the RayJob, and wait until its pods are gone.

        Raises:
            UnavailableError: the API server cannot be reached, or a pod does not end.
        """
        self._polled.pop(run_name, None)
        delete_ray_job(self._client, self._project, run_name)

    def _hand_over(self, context: RunContext, start: int, live: Object) -> None:
        """Let the trainer get the context of the run: from the control plane, or from a Secret."""
        if self._assign is not None and WARM_TRAINER_LABEL in live["metadata"]["labels"]:
            self._assign(live["metadata"]["name"])
            return
        files = {CONTEXT_NAME: context.model_dump_json(), **ca_bundle_files()}
        self._create_if_missing(owned_secret(secret_name(context.identity.name, start), files, live))

    def _claim_warm_trainer(self, context: RunContext, start: int) -> Object | None:
        """Let the run have the warm trainer that was started first; None if there is none for it.

        Each change names the version of the RayJob that was read, so only one run can claim it.
        """
        if self._assign is None or not can_be_warm(context):
            return None
        digest = warm_trainer_digest(self._resource(context), self._settings)
        selector = f"{WARM_TRAINER_LABEL}={digest},{POOL_LABEL}={context.spec.resources.pool},!{RUN_LABEL}"
        found = self._client.list(RAY_JOB, namespace_of(self._project), labels=selector).items
        ordered = sorted(found, key=lambda item: str(item["metadata"]["name"]))
        return next((live for each in ordered if (live := self._claim(each, context, start)) is not None), None)

    def _claim(self, found: Object | None, context: RunContext, start: int) -> Object | None:
        """Claim one warm trainer; None if it does not run, or another run has claimed it.

        Kueue and KubeRay change it too, so a conflict alone does not mean that it is claimed.
        """
        for _ in range(_MAX_CLAIM_TRIES):
            if found is None or not _can_be_claimed(found):
                return None
            fields = claim_fields(context, start, self._settings, _age_seconds(found))
            fields["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
            try:
                return self._client.patch(Ref.of(found), fields, manager=_MANAGER)
            except KubeConflictError:
                found = self._client.find(Ref.of(found))
            except KubeNotFoundError:
                return None
        return None

    def _resource(self, context: RunContext) -> str:
        """Return the resource that the queue of the job's pool counts."""
        name = context.spec.resources.pool
        found = self._client.find(Ref(POOL, name))
        if found is None:
            raise InvalidError(f"pool {name} does not exist any more", hint="submit the job to another pool")
        return GPUPool.model_validate(found, extra="ignore").spec.resource_name

    def _create(self, manifest: Object) -> Object:
        try:
            return self._client.create(manifest, manager=_MANAGER)
        except KubeConflictError:  # the reply to an earlier request was lost
            return self._client.get(Ref.of(manifest))

    def _create_if_missing(self, manifest: Object) -> None:
        try:
            self._client.create(manifest, manager=_MANAGER)
        except KubeConflictError:
            return

    def _explained(self, found: Object) -> TrainerStatus:
        """Return the status of the trainer; of a failed one with its reason, from its pods."""
        status = trainer_status(found)
        if status.state is not TrainerState.FAILED:
            return status
        subject = RayJob.parse(found)
        try:
            labels = f"{RAY_CLUSTER_LABEL}={subject.status.ray_cluster_name}"
            pods = self._client.list(POD, namespace_of(self._project), labels=labels).items
        except KubeApiError:
            pods = []
        return status.model_copy(update={"reason": explain_trainer_failure(subject, Pod.parse_all(pods))})

    def _missing(self, run_name: str) -> TrainerStatus:
        start = self._launched.get(run_name, 0)
        if not start:
            return TrainerStatus(state=TrainerState.UNKNOWN)
        return TrainerStatus(state=TrainerState.LOST, start=start, message="its RayJob was deleted")


def _can_be_claimed(subject: Object) -> bool:
    metadata = subject["metadata"]
    is_free = RUN_LABEL not in metadata["labels"] and "deletionTimestamp" not in metadata
    return is_free and trainer_status(subject).state is TrainerState.RUNNING


def _age_seconds(subject: Object) -> float:
    created_at = RayJob.parse(subject).metadata.creation_timestamp
    return 0.0 if created_at is None else max(0.0, (datetime.now(UTC) - created_at).total_seconds())


def find_ray_job(client: KubeClient, project: str, run_name: str) -> Object | None:
    """Return the RayJob of a run, or None; also if its project is gone, with the permission to read RayJobs in it.

    It has the name of the run, or was that of a warm trainer.

    Raises:
        KubeApiError: the request failed.
    """
    try:
        found = client.list(RAY_JOB, namespace_of(project), labels=f"{RUN_LABEL}={run_name}").items
        return max(found, key=start_of, default=None)
    except NoKindMatchError:
        return None
    except KubeForbiddenError:
        if client.find(Ref(NAMESPACE, namespace_of(project))) is not None:
            raise
        return None


def delete_ray_job(client: KubeClient, project: str, run_name: str) -> None:
    """Delete the RayJob of a run, and wait until its pods are gone; no error when there is none.

    Raises:
        UnavailableError: the API server cannot be reached, or a pod does not end.
    """
    deadline = time.monotonic() + _KILL_SECONDS
    try:
        while (found := find_ray_job(client, project, run_name)) is not None:
            ref, uid = Ref.of(found), found["metadata"]["uid"]
            client.delete(ref, uid=uid, foreground=True)
            while (left := find_ray_job(client, project, run_name)) is not None and left["metadata"]["uid"] == uid:
                if time.monotonic() > deadline:
                    raise UnavailableError(f"the pods of {ref} do not end; they may be on a node that is not ready")
                time.sleep(_KILL_POLL_SECONDS)
    except KubeApiError as error:
        raise UnavailableError(f"the RayJob of {run_name} cannot be deleted: {error.message}") from error


def delete_labelled_ray_job(client: KubeClient, project: str, run_name: str, labels: Mapping[str, str]) -> None:
    """Delete the RayJob of a run in the background if it has these labels; errors are ignored."""
    try:
        found = find_ray_job(client, project, run_name)
        if found is not None and labels.items() <= found["metadata"].get("labels", {}).items():
            client.delete(Ref.of(found), uid=found["metadata"]["uid"])
    except KubeApiError:
        return
