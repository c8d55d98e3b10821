"""Names, labels and annotations of what Windlass makes in a cluster: all follow from the wish, none is looked up."""

GROUP_LABEL = "windlass.dev"
MANAGED_BY = "app.kubernetes.io/managed-by"
OWNER = "windlass"

PROJECT_LABEL = f"{GROUP_LABEL}/project"
POOL_LABEL = f"{GROUP_LABEL}/pool"
PROJECT_UID_LABEL = f"{GROUP_LABEL}/project-uid"
ENDPOINT_LABEL = f"{GROUP_LABEL}/endpoint"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Kueue's: the LocalQueue that an object waits in."""

QUEUES_ANNOTATION = f"{GROUP_LABEL}/queues"
"""On a project's namespace: its queues and what each counts, ``a100=nvidia.com/gpu,mi300=amd.com/gpu``. Admission
policies read it."""
CEILING_ANNOTATION = f"{GROUP_LABEL}/priority-ceiling"
"""On a project's namespace: how high the priority of its jobs may be. A label's value could not be negative."""
CLOSED_ANNOTATION = f"{GROUP_LABEL}/closed"
"""On the namespace of a project that is being deleted: admission policies let no new job in."""

FIELD_MANAGER = "windlass-operators"
"""The name by which the operators own fields (server-side apply)."""
FINALIZER = f"{GROUP_LABEL}/operators"
"""Holds a custom resource until what it stands for is gone."""
DIGEST_ANNOTATION = f"{GROUP_LABEL}/applied"
"""sha256 of the wish that was last applied: shows that a wish has changed, also by a field less."""
ADOPT_ANNOTATION = f"{GROUP_LABEL}/adopt"
"""On an object that others made: ``Project/search`` gives it to that project, once and for good."""

TRAINER_ACCOUNT = "windlass-trainer"
SERVER_ACCOUNT = "windlass-server"


def namespace_of(project: str) -> str:
    """Return a project's namespace."""
    return f"wl-{project}"


def project_of(namespace: str) -> str | None:
    """Return the project whose namespace it is, None for others."""
    return namespace.removeprefix("wl-") if namespace.startswith("wl-") else None


def cluster_queue_of(project: str, pool: str) -> str:
    """Return the ClusterQueue of a project and pool. Names hold no dot, so that no two pairs share a queue."""
    return f"{project}.{pool}"


def host_flavor_of(pool: str) -> str:
    """Return the ResourceFlavor of what pods of a pool's jobs take besides GPUs. No pool's name holds a dot."""
    return f"{pool}.host"


def local_queue_of(pool: str) -> str:
    """Return the LocalQueue of a pool in each project's namespace."""
    return pool


def cohort_of(cohort: str) -> str:
    """Return the Kueue Cohort of a cohort: cohorts that others made under the plain name stay theirs."""
    return f"{OWNER}-{cohort}"


def labels(project: str | None = None, pool: str | None = None) -> dict[str, str]:
    """Return the labels of an object that Windlass owns."""
    found = {MANAGED_BY: OWNER, PROJECT_LABEL: project, POOL_LABEL: pool}
    return {name: value for name, value in found.items() if value is not None}
