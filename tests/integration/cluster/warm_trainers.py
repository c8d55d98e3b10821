"""Sets how many warm trainers a project keeps, and shows them."""

import json

from tests.testcluster.cluster_api import ClusterApi, Json, kubectl
from tests.testcluster.layout import LocalCluster

_LABEL = "windlass.dev/warm-trainer"


def keep(cluster: LocalCluster, project: str, pool: str, count: int) -> None:
    """Set how many warm trainers wait for runs."""
    patch = json.dumps({"spec": {"warmTrainers": [{"pool": pool, "count": count}]}})
    kubectl(cluster, "patch", "projects.windlass.dev", project, "--type=merge", "--patch", patch)


def ray_jobs(cluster: LocalCluster, project: str, job: str | None = None) -> list[Json]:
    """The RayJobs of warm trainers without a run, or of a job."""
    selector, label = _LABEL.replace("/", "%2F"), None if job is None else job.replace("_", "-")
    with ClusterApi(cluster) as api:
        found = list(api.items(f"/apis/ray.io/v1/namespaces/wl-{project}/rayjobs?labelSelector={selector}"))
    return [each for each in found if each["metadata"]["labels"].get("windlass.dev/job") == label]


def are_ready(cluster: LocalCluster, project: str, count: int) -> bool:
    """Whether this number of warm trainers runs."""
    return [each.get("status", {}).get("jobStatus") for each in ray_jobs(cluster, project)] == ["RUNNING"] * count
