"""Warm trainers as RayJobs of the lowest priority in the namespaces of projects."""

from collections.abc import Sequence

from windlass.domain.errors import UnavailableError
from windlass.domain.warm_trainers import Placement, WarmTrainer, WarmTrainerState
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
from windlass.kube.jobs.pod_spec import owned_secret
from windlass.kube.jobs.ray_job import RayJobSettings, secret_name, trainer_status, warm_ray_job, warm_trainer_digest
from windlass.kube.kinds import POOL, RAY_JOB
from windlass.kube.kueue.cluster_objects import RayJob
from windlass.kube.names import (
    CONTROL_PLANE_LABEL,
    POOL_LABEL,
    PROJECT_LABEL,
    RUN_LABEL,
    WARM_TRAINER_LABEL,
    namespace_of,
)
from windlass.kube.objects import Object, Ref
from windlass.kube.resources import GPUPool
from windlass.ports import TrainerState
from windlass.runtime.context import WARM_TRAINER_FILE, WarmTrainerContext

_MANAGER = "windlass-worker"


class KubernetesWarmTrainers:
    """Implements ``ports.WarmTrainers``.

    Args:
        client: with the permissions of the account ``windlass-worker``.
        settings: what the installation sets for trainers.
    """

    def __init__(self, client: KubeClient, settings: RayJobSettings) -> None:
        self._client, self._settings = client, settings
        self._resources: dict[str, str] = {}
        """What the queues of each pool count, as of the last list: a GPUPool may have been created again."""

    def list(self) -> Sequence[WarmTrainer]:
        """Return those of this control plane."""
        self._resources.clear()
        selector = f"{WARM_TRAINER_LABEL},{CONTROL_PLANE_LABEL}={self._settings.control_plane}"
        try:
            return [self._parse(each) for each in self._client.list(RAY_JOB, labels=selector).items]
        except NoKindMatchError:
            return []
        except KubeApiError as error:
            raise UnavailableError(error.message) from error

    def create(self, place: Placement, name: str, context: WarmTrainerContext) -> None:
        """Create the RayJob, then the Secret of its pods, which do not start before it exists."""
        try:
            manifest = warm_ray_job(place, name, self._resource(place.pool), self._settings)
            live = self._client.create(manifest, manager=_MANAGER)
            files = {WARM_TRAINER_FILE: context.model_dump_json(), **ca_bundle_files()}
            self._client.create(owned_secret(secret_name(name, 1), files, live), manager=_MANAGER)
        except (KubeConflictError, KubeForbiddenError, KubeInvalidError, KubeNotFoundError):
            return
        except KubeApiError as error:
            raise UnavailableError(error.message) from error

    def delete(self, trainer: WarmTrainer) -> None:
        """Delete the RayJob if no run has claimed it."""
        ref = Ref(RAY_JOB, trainer.name, namespace_of(trainer.project))
        try:
            found = self._client.find(ref)
            if found is not None and RUN_LABEL not in found["metadata"]["labels"]:
                self._client.delete(ref, uid=found["metadata"]["uid"], version=found["metadata"]["resourceVersion"])
        except (KubeConflictError, KubeForbiddenError):
            return  # a run has just claimed it, or the project is gone
        except KubeApiError as error:
            raise UnavailableError(error.message) from error

    def _parse(self, subject: Object) -> WarmTrainer:
        metadata, parsed = subject["metadata"], RayJob.parse(subject)
        pool = metadata["labels"].get(POOL_LABEL, "")
        return WarmTrainer(
            project=metadata["labels"].get(PROJECT_LABEL, ""),
            pool=pool,
            name=metadata["name"],
            state=_state(subject),
            outdated=metadata["labels"][WARM_TRAINER_LABEL] != self._digest(pool),
            created_at=parsed.metadata.creation_timestamp,
        )

    def _digest(self, pool: str) -> str:
        try:
            return warm_trainer_digest(self._resource(pool), self._settings)
        except KubeNotFoundError:
            return ""

    def _resource(self, pool: str) -> str:
        if pool not in self._resources:
            found = self._client.get(Ref(POOL, pool))
            self._resources[pool] = GPUPool.model_validate(found, extra="ignore").spec.resource_name
        return self._resources[pool]


def _state(subject: Object) -> WarmTrainerState:
    if RUN_LABEL in subject["metadata"]["labels"]:
        return WarmTrainerState.CLAIMED
    status = trainer_status(subject)
    if status.ended or "deletionTimestamp" in subject["metadata"]:
        return WarmTrainerState.ENDED
    is_pending = subject["spec"].get("suspend", False) and status.state is not TrainerState.RUNNING
    return WarmTrainerState.PENDING if is_pending else WarmTrainerState.ADMITTED
