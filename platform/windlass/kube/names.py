"""Names, labels and annotations of the objects that Windlass creates; all are derived from the spec."""

GROUP_LABEL = "windlass.dev"
MANAGED_BY = "app.kubernetes.io/managed-by"
OWNER = "windlass"

PROJECT_LABEL = f"{GROUP_LABEL}/project"
POOL_LABEL = f"{GROUP_LABEL}/pool"
PROJECT_UID_LABEL = f"{GROUP_LABEL}/project-uid"
ENDPOINT_LABEL = f"{GROUP_LABEL}/endpoint"
SERVICE_LABEL = f"{GROUP_LABEL}/service"
"""On the pods of a model server: their RayService."""
CONTROL_PLANE_LABEL = f"{GROUP_LABEL}/control-plane"
"""On an object of a control plane: its id, since several control planes may use one cluster."""
APPLICATION_ANNOTATION = f"{GROUP_LABEL}/application"
"""On a RayService: the key of its application."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Kueue's label: the LocalQueue of an object."""

PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
"""Kueue's label: the WorkloadPriorityClass of an object."""
RUN_LABEL = f"{GROUP_LABEL}/run"
"""Name of the pipeline run that an object belongs to."""
JOB_LABEL = f"{GROUP_LABEL}/job"
"""Id of the job that an object belongs to, with a hyphen for the underscore."""
WARM_TRAINER_LABEL = f"{GROUP_LABEL}/warm-trainer"
"""On the RayJob of a warm trainer: a digest of the settings it was created with."""
TASK_LABEL = f"{GROUP_LABEL}/task"
"""Kind of task that a Job of the control plane runs."""
BATCH_JOB_LABEL = "batch.kubernetes.io/job-name"
"""Kubernetes' label on the pods of a Job."""
RAY_CLUSTER_LABEL = "ray.io/cluster"
"""KubeRay's label on the pods of a RayCluster."""

QUEUES_ANNOTATION = f"{GROUP_LABEL}/queues"
"""On a project's namespace: its queues with the resource of each, ``a100=nvidia.com/gpu,mi300=amd.com/gpu``. Read by
admission policies."""
CEILING_ANNOTATION = f"{GROUP_LABEL}/priority-ceiling"
"""On a project's namespace: the maximum priority of its jobs. A label value could not be negative."""
CLOSED_ANNOTATION = f"{GROUP_LABEL}/closed"
"""On the namespace of a project that is being deleted: admission policies reject new jobs."""

FIELD_MANAGER = "windlass-operators"
"""The operators' field manager (server-side apply)."""
FINALIZER = f"{GROUP_LABEL}/operators"
"""Keeps a custom resource until its children are deleted."""
DIGEST_ANNOTATION = f"{GROUP_LABEL}/applied"
"""sha256 of the last applied manifest: detects a changed manifest, including removed fields."""
ADOPT_ANNOTATION = f"{GROUP_LABEL}/adopt"
"""On an object that others created: ``Project/search`` lets that project adopt it."""

START_ANNOTATION = f"{GROUP_LABEL}/trainer-start"
"""On a RayJob: how often the trainer of its run has been started, this time included."""

SLICE_REPLACEMENT_ANNOTATION = "kueue.x-k8s.io/workload-slice-replacement-for"
"""On a slice of an elastic workload: the slice whose place it takes."""
KFP_RUN_LABEL = "pipeline/runid"
"""The label of Kubeflow Pipelines on the objects of a run: its id there."""
KFP_TRIES_ANNOTATION = f"{GROUP_LABEL}/kfp-tries"
"""On the record of a run: how many run ids have been used to create it in Kubeflow Pipelines."""
KFP_REQUESTED_ANNOTATION = f"{GROUP_LABEL}/kfp-requested-at"
"""On the record of a run: when its creation was requested last, in seconds since 1970."""
KFP_NAMESPACE_ANNOTATION = f"{GROUP_LABEL}/kfp-namespace"
"""On the record of a run: the namespace of its pods."""
KILLED_ANNOTATION = f"{GROUP_LABEL}/killed"
"""On the record of a run that the worker has killed."""

PAUSED_ANNOTATION = f"{GROUP_LABEL}/paused"
"""On a suspended Job that is to be resumed; a suspended Job without it was stopped."""

RUNNER_ACCOUNT = "windlass-runner"
"""Of pipeline runs, in the system namespace."""
TRAINER_ACCOUNT = "windlass-trainer"
SERVER_ACCOUNT = "windlass-server"


def namespace_of(project: str) -> str:
    """Return a project's namespace."""
    return f"wl-{project}"


def project_of(namespace: str) -> str | None:
    """Return the project of a namespace, None if it is not a project's."""
    return namespace.removeprefix("wl-") if namespace.startswith("wl-") else None


def cluster_queue_of(project: str, pool: str) -> str:
    """Return the ClusterQueue of a project and pool. Names contain no dot, so the result is unique."""
    return f"{project}.{pool}"


def host_flavor_of(pool: str) -> str:
    """Return the ResourceFlavor of cpu and memory of a pool's jobs. Pool names contain no dot."""
    return f"{pool}.host"


def local_queue_of(pool: str) -> str:
    """Return the LocalQueue of a pool in every project's namespace."""
    return pool


def cohort_of(cohort: str) -> str:
    """Return the Kueue Cohort of a cohort; the prefix avoids conflicts with cohorts that others created."""
    return f"{OWNER}-{cohort}"


def labels(project: str | None = None, pool: str | None = None) -> dict[str, str]:
    """Return the labels of an object that Windlass owns."""
    values = {MANAGED_BY: OWNER, PROJECT_LABEL: project, POOL_LABEL: pool}
    return {name: value for name, value in values.items() if value is not None}
