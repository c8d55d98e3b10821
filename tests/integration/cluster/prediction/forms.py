"""Two forms of jobs: bare Workloads, for which the test acts as the job controller, and Jobs with pods."""

from typing import Any, Protocol

from tests.integration.cluster.api_objects import create, delete, object_path, patch
from tests.integration.cluster.objects import queued_job
from tests.testcluster.cluster_api import ClusterApi

from windlass.domain.quota import ResourceDemand

Json = dict[str, Any]
GPU = "nvidia.com/gpu"
PRIORITIES = (0, 1, 2)


class Form(Protocol):
    """Creates and deletes jobs of one form."""

    def submit(self, api: ClusterApi, demand: ResourceDemand) -> None: ...
    def end(self, api: ClusterApi, job: str) -> None: ...
    def report_ready(self, api: ClusterApi, workload: Json) -> None: ...
    def finish_eviction(self, api: ClusterApi, workload: Json) -> None: ...
    def delete_all(self, api: ClusterApi, space: str) -> None: ...


class BareWorkloads:
    """Workload objects without an owner."""

    def submit(self, api: ClusterApi, demand: ResourceDemand) -> None:
        space, name = demand.job.split("/")
        container = {"name": "main", "image": "none", "resources": {"requests": {GPU: str(demand.gpus)}}}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        manifest = {
            "apiVersion": "kueue.x-k8s.io/v1beta2",
            "kind": "Workload",
            "metadata": {"name": name, "namespace": space},
            "spec": {
                "queueName": demand.pool,
                "priority": demand.priority,
                "podSets": [{"name": "main", "count": 1, "template": template}],
            },
        }
        create(api, manifest)

    def end(self, api: ClusterApi, job: str) -> None:
        space, name = job.split("/")
        delete(api, object_path("Workload", name, space))

    def report_ready(self, api: ClusterApi, workload: Json) -> None:
        """Report the pods of an admitted Workload as ready, else Kueue evicts it after its timeout."""
        conditions = workload["status"]["conditions"]
        when = max(each["lastTransitionTime"] for each in conditions)
        ready = _condition("PodsReady", "True", "Started", when)
        self._write_status(api, workload, {"conditions": [*_without(conditions, {"PodsReady"}), ready]})

    def finish_eviction(self, api: ClusterApi, workload: Json) -> None:
        """Release the quota, as Kueue's job controllers do after a stopped job's pods are deleted."""
        conditions = workload["status"]["conditions"]
        when = max(each["lastTransitionTime"] for each in conditions)
        new = [
            _condition("QuotaReserved", "False", "Pending", when),
            _condition("Admitted", "False", "NoReservation", when),
            _condition("PodsReady", "False", "WaitForStart", when),
            _condition("Requeued", "True", "Preempted", when),
        ]
        kept = _without(conditions, {each["type"] for each in new})
        self._write_status(api, workload, {"admission": None, "conditions": kept + new})

    def _write_status(self, api: ClusterApi, workload: Json, status: Json) -> None:
        """After a concurrent write by Kueue the next poll tries again."""
        meta = workload["metadata"]
        change = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": status}
        patch(api, f"{object_path('Workload', meta['name'], meta['namespace'])}/status", change, may_conflict=True)

    def delete_all(self, api: ClusterApi, space: str) -> None:
        delete(api, object_path("Workload", space=space))


class QueuedJobs:
    """Jobs with pods on fake nodes; Kueue's controller creates and stops their Workloads."""

    def make_priorities(self, api: ClusterApi) -> None:
        for priority in PRIORITIES:
            manifest = {
                "apiVersion": "kueue.x-k8s.io/v1beta2",
                "kind": "WorkloadPriorityClass",
                "metadata": {"name": f"prediction-{priority}"},
                "value": priority,
            }
            create(api, manifest, may_exist=True)

    def submit(self, api: ClusterApi, demand: ResourceDemand) -> None:
        space, name = demand.job.split("/")
        manifest = queued_job(space, name, demand.gpus, "3600s")
        manifest["metadata"]["labels"] = {
            "kueue.x-k8s.io/queue-name": demand.pool,
            "kueue.x-k8s.io/priority-class": f"prediction-{demand.priority}",
        }
        create(api, manifest)

    def end(self, api: ClusterApi, job: str) -> None:
        space, name = job.split("/")
        delete(api, object_path("Job", name, space), propagationPolicy="Background")

    def report_ready(self, api: ClusterApi, workload: Json) -> None:
        """Kueue's controller does it."""

    def finish_eviction(self, api: ClusterApi, workload: Json) -> None:
        """Do nothing: the job controller stops the pods."""

    def delete_all(self, api: ClusterApi, space: str) -> None:
        delete(api, object_path("Job", space=space), propagationPolicy="Background")


def _condition(kind: str, status: str, reason: str, when: str) -> Json:
    return {"type": kind, "status": status, "reason": reason, "message": "by the test", "lastTransitionTime": when}


def _without(conditions: list[Json], kinds: set[str]) -> list[Json]:
    return [each for each in conditions if each["type"] not in kinds]
