"""What a server can do. It depends on the back ends that the server was composed with."""

from dataclasses import dataclass
from enum import StrEnum

from windlass.domain.errors import CapabilityMissingError


class Capability(StrEnum):
    """Something that not every server can do."""

    TRAINING = "training"
    """Runs jobs."""
    SERVING = "serving"
    """Serves endpoints."""
    GPU_SERVING = "gpu-serving"
    """Serves endpoints on GPUs of its pools."""
    POOL_WRITES = "pool-writes"
    """Owns the pools; otherwise they are copies of the cluster's resources."""
    PROJECT_WRITES = "project-writes"
    """Owns projects and members; otherwise they are copies of the cluster's resources."""
    LOCAL_MODELS = "local-models"
    """Imports base models from its own disk; otherwise their files are uploaded."""


@dataclass(frozen=True)
class _Missing:
    """The error of a missing capability."""

    message: str
    hint: str


_KUBECTL = "change the {kind} with kubectl (kubectl explain {plural}); see docs/guides/quotas.md"
_MISSING = {
    Capability.TRAINING: _Missing(
        "this server has no training backend",
        "preview a job with `windlass job simulate`; submit jobs to a server that has one",
    ),
    Capability.SERVING: _Missing("this server has no serving backend", "use a server that has one"),
    Capability.GPU_SERVING: _Missing(
        "this server serves endpoints on CPUs only: its GPUs and CPU slots are for jobs",
        "leave out `gpus` and `pool`, or use a server in a cluster",
    ),
    Capability.LOCAL_MODELS: _Missing(
        "this server imports no base model from its disk: a pod cannot read it",
        "upload the files: `windlass base-model add NAME FOLDER` reads the folder on your machine",
    ),
    Capability.POOL_WRITES: _Missing(
        "pools are read-only on this server: they are copies of the cluster's GPUPools",
        _KUBECTL.format(kind="GPUPool", plural="gpupools"),
    ),
    Capability.PROJECT_WRITES: _Missing(
        "projects and their members are read-only on this server: they are copies of the cluster's Projects",
        _KUBECTL.format(kind="Project", plural="projects"),
    ),
}


def capability_missing(capability: Capability) -> CapabilityMissingError:
    """Return the error of a server that does not have the capability."""
    missing = _MISSING[capability]
    return CapabilityMissingError(missing.message, hint=missing.hint, context={"capability": capability.value})
