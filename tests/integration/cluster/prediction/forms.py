"""The two forms in which jobs come: bare Workloads, for which we do a job controller's part, and Jobs with pods."""

from typing import Any, Protocol

from tests.bed.cluster_api import ClusterApi
from tests.integration.cluster.objects import queued_job
from tests.integration.cluster.writing import create, delete, patch, path_of

from windlass.domain.quota import Claim

Json = dict[str, Any]
GPU = "nvidia.com/gpu"
PRIORITIES = (0, 1, 2)


class Form(Protocol):
    """How a job comes and goes."""

    def submit(self, api: ClusterApi, claim: Claim) -> None: ...
    def end(self, api: ClusterApi, job: str) -> None: ...
    def finish_eviction(self, api: ClusterApi, workload: Json) -> None: ...
    def delete_all(self, api: ClusterApi, space: str) -> None: ...


class BareWorkloads:
    """Workload objects that nobody owns."""

    def submit(self, api: ClusterApi, claim: Claim) -> None:
        space, name = claim.job.split("/")
        container = {"name": "main", "image": "none", "resources": {"requests": {GPU: str(claim.gpus)}}}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        wanted = {
            "apiVersion": "kueue.x-k8s.io/v1beta2",
            "kind": "Workload",
            "metadata": {"name": name, "namespace": space},
            "spec": {
                "queueName": claim.pool,
                "priority": claim.priority,
                "podSets": [{"name": "main", "count": 1, "template": template}],
            },
        }
        create(api, wanted)

    def end(self, api: ClusterApi, job: str) -> None:
        space, name = job.split("/")
        delete(api, path_of("Workload", name, space))

    def finish_eviction(self, api: ClusterApi, workload: Json) -> None:
        """Give the quota back, as Kueue's job controllers do when a stopped job's pods are gone."""
        meta, told = workload["metadata"], workload["status"]["conditions"]
        changed = {
            "QuotaReserved": ("False", "Pending"),
            "Admitted": ("False", "NoReservation"),
            "Requeued": ("True", "Preempted"),
        }
        when = max(each["lastTransitionTime"] for each in told)
        kept = [each for each in told if each["type"] not in changed]
        new = [
            {"type": kind, "status": status, "reason": reason, "message": "stopped", "lastTransitionTime": when}
            for kind, (status, reason) in changed.items()
        ]
        change = {
            "metadata": {"resourceVersion": meta["resourceVersion"]},
            "status": {"admission": None, "conditions": kept + new},
        }
        path = path_of("Workload", meta["name"], meta["namespace"])
        # When Kueue wrote in between, the next look tries again.
        patch(api, f"{path}/status", change, may_conflict=True)

    def delete_all(self, api: ClusterApi, space: str) -> None:
        delete(api, path_of("Workload", space=space))


class Jobs:
    """Jobs, whose pods run on fake nodes; Kueue's own controller makes and stops their Workloads."""

    def make_priorities(self, api: ClusterApi) -> None:
        for priority in PRIORITIES:
            wanted = {
                "apiVersion": "kueue.x-k8s.io/v1beta2",
                "kind": "WorkloadPriorityClass",
                "metadata": {"name": f"prediction-{priority}"},
                "value": priority,
            }
            create(api, wanted, may_exist=True)

    def submit(self, api: ClusterApi, claim: Claim) -> None:
        space, name = claim.job.split("/")
        wanted = queued_job(space, name, claim.gpus, "3600s")
        wanted["metadata"]["labels"] = {
            "kueue.x-k8s.io/queue-name": claim.pool,
            "kueue.x-k8s.io/priority-class": f"prediction-{claim.priority}",
        }
        create(api, wanted)

    def end(self, api: ClusterApi, job: str) -> None:
        space, name = job.split("/")
        delete(api, path_of("Job", name, space), propagationPolicy="Background")

    def finish_eviction(self, api: ClusterApi, workload: Json) -> None:
        """Nothing to do: the job's controller stops its pods."""

    def delete_all(self, api: ClusterApi, space: str) -> None:
        delete(api, path_of("Job", space=space), propagationPolicy="Background")
