"""Pools and projects as the operators render them, jobs, and the resulting state, for one test."""

import json
import os
from pathlib import Path
from typing import Any

from tests.factories.observations import observation
from tests.integration.cluster.api_objects import create, delete, object_path
from tests.integration.cluster.objects import queued_job
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import ClusterApi

from windlass.domain.jobs import Reason
from windlass.kube.kueue.explain import explain_pending
from windlass.kube.names import cluster_queue_of, namespace_of
from windlass.kube.resources import GPUPool, Project
from windlass_operators.render import gpu_pool, namespace, queues

Json = dict[str, Any]
VISIBILITY = "/apis/visibility.kueue.x-k8s.io/v1beta2"
TAINTS = [{"key": "nvidia.com/gpu", "value": "present"}, {"key": "kwok.x-k8s.io/node", "value": "fake"}]


def share(nominal: int, **limits: int) -> Json:
    """A quota without its pool, which the scenario adds."""
    return {"nominal": nominal, **limits}


class ClusterScenario:
    """One pool, named after the test, with a queue for each of its projects.

    All tests share the projects, since deleting a namespace is slow.
    """

    def __init__(self, api: ClusterApi, name: str) -> None:
        self.api, self.name = api, name
        self.pools: dict[str, GPUPool] = {}
        self.projects: list[str] = []

    def project(self, suffix: str) -> str:
        return f"stage-{suffix}"

    def clear(self) -> None:
        """Delete everything except the namespaces."""
        for name in self.projects:
            space = namespace_of(name)
            for kind in ("Job", "RayJob", "Workload"):
                for path in self._named(object_path(kind, space=space)):
                    delete(self.api, path, propagationPolicy="Background")
            for path in self._named(object_path("Pod", space=space)):
                # Without a grace period: its node may be gone, so that no kubelet confirms the deletion.
                delete(self.api, path, gracePeriodSeconds=0)
            delete(self.api, object_path("LocalQueue", self.name, space))
            delete(self.api, object_path("ClusterQueue", cluster_queue_of(name, self.name)))
        delete(self.api, object_path("ResourceFlavor", self.name))

    def _named(self, path: str) -> list[str]:
        return [f"{path}/{one['metadata']['name']}" for one in self.api.items(path) if self._ours(one)]

    def _ours(self, one: Json) -> bool:
        queue = one["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name") or one["spec"].get("queueName")
        return self.name in one["metadata"]["name"] or queue == self.name

    def set_up(self, nodes: str = "a100", *, flavor: bool = True, cohort: bool = False, **shares: Json) -> None:
        """Create the pool on nodes of one kind, and a project for each share."""
        spec = {"nodeLabels": {"windlass.dev/pool": nodes}, "taints": TAINTS}
        self.pools = {self.name: GPUPool.model_validate({"metadata": {"name": self.name}, "spec": spec})}
        made = gpu_pool.objects(self.pools[self.name]) if flavor else []
        for suffix, quota in shares.items():
            name = self.project(suffix)
            self.projects.append(name)
            desired = {"cohort": self.name if cohort else None, "quotas": [{"pool": self.name, **quota}]}
            project = Project.model_validate({"metadata": {"name": name, "uid": name}, "spec": desired})
            space = namespace.namespace(project, self.pools)
            # No Pod Security labels: the pods of the tests are minimal.
            space["metadata"]["labels"] = {"windlass.dev/project": name}
            made += [space, *queues.objects(project, self.pools)]
        for one in made:
            # Namespaces are shared by tests, and cohorts by projects.
            create(self.api, one, may_exist=one["kind"] in {"Namespace", "Cohort"})

    def job(self, suffix: str, name: str, gpus: int, *, priority: int = 0, **pod: Any) -> str:
        """Submit a Job and return its id, namespace/name. ``pod`` overrides the pod spec, ``image`` the image."""
        space, name = namespace_of(self.project(suffix)), f"{self.name}-{name}"
        wanted = queued_job(space, name, gpus, "3600s")
        wanted["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = self.name
        spec = wanted["spec"]["template"]["spec"]
        if image := pod.pop("image", ""):
            spec["containers"][0]["image"] = image
            spec["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": str(gpus)}}
        spec |= pod
        if priority:
            order = {"kind": "WorkloadPriorityClass", "metadata": {"name": f"stage-{priority}"}, "value": priority}
            create(self.api, {"apiVersion": "kueue.x-k8s.io/v1beta2", **order}, may_exist=True)
            wanted["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] = f"stage-{priority}"
        create(self.api, wanted)
        return f"{space}/{name}"

    def ray_job(self, suffix: str, name: str, workers: int) -> str:
        """Submit a RayJob, a CPU head and workers with one GPU each, named as by Windlass; return the job's id."""
        space = namespace_of(self.project(suffix))
        head = {"containers": [{"name": "head", "image": "no-node-pulls-it", "resources": {"requests": {"cpu": "1"}}}]}
        gpu = {"limits": {"nvidia.com/gpu": "1"}}
        worker = {"containers": [{"name": "worker", "image": "no-node-pulls-it", "resources": gpu}]}
        group = {"groupName": "w", "replicas": workers, "minReplicas": workers, "maxReplicas": workers}
        create(
            self.api,
            {
                "apiVersion": "ray.io/v1",
                "kind": "RayJob",
                "metadata": {
                    "name": name,
                    "namespace": space,
                    "labels": {"kueue.x-k8s.io/queue-name": self.name},
                },
                "spec": {
                    "entrypoint": "none",
                    "shutdownAfterJobFinishes": True,
                    "suspend": True,
                    "rayClusterSpec": {
                        "headGroupSpec": {"rayStartParams": {}, "template": {"spec": head}},
                        "workerGroupSpecs": [group | {"rayStartParams": {}, "template": {"spec": worker}}],
                    },
                },
            },
        )
        return f"job_{name.split('-')[1]}"

    def seen(self, job: str) -> Json:
        """Read all that ``explain`` asks for."""
        api, spaces = self.api, [namespace_of(name) for name in self.projects]
        queues_ = {cluster_queue_of(name, self.name) for name in self.projects}
        # A job that Windlass named is known by its id; the tests have such jobs in the first project alone.
        space, _, name = job.rpartition("/")
        space = space or spaces[0]
        mine = cluster_queue_of(space.removeprefix("wl-"), self.name)
        return {
            "job": job,
            "pools": [one.wire() for one in self.pools.values()],
            "clusterQueues": [
                one for one in api.items(object_path("ClusterQueue")) if one["metadata"]["name"] in queues_
            ],
            "localQueues": [
                one
                for each in spaces
                for one in api.items(object_path("LocalQueue", space=each))
                if one["metadata"]["name"] == self.name
            ],
            "cohorts": [
                one for one in api.items(object_path("Cohort")) if one["metadata"]["name"] == f"windlass-{self.name}"
            ],
            "workloads": [
                one for each in spaces for one in api.items(object_path("Workload", space=each)) if self._ours(one)
            ],
            "pendingWorkloads": api.read(f"{VISIBILITY}/clusterqueues/{mine}/pendingworkloads"),
            "pods": api.items(f"/api/v1/namespaces/{space}/pods?labelSelector=batch.kubernetes.io/job-name={name}"),
            "nodes": api.items(object_path("Node")),
            "events": [
                one
                for one in api.items(f"/api/v1/namespaces/{space}/events")
                if self.name in one["involvedObject"].get("name", "")
            ],
        }

    def reason(self, job: str) -> Reason | None:
        return explain_pending(observation(self.seen(job)))

    def until(self, job: str, code: str, seconds: float = 30) -> Reason:
        """Wait until a job's reason has a code, and return the reason."""
        found: list[Reason | None] = []

        def there() -> bool:
            raw = self.seen(job)
            found.append(explain_pending(observation(raw)))
            last = found[-1]
            if last is not None and last.code == code:
                record(self.name, raw)
                return True
            return False

        try:
            eventually(there, f"{job} has the reason {code}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it has {found[-1]}") from error
        assert found[-1] is not None
        return found[-1]

    def until_runs(self, job: str, seconds: float = 30) -> None:
        eventually(lambda: self.reason(job) is None and self.workload(job) is not None, f"{job} runs", seconds)

    def workload(self, job: str) -> Json | None:
        space, name = job.split("/")
        found = self.api.items(object_path("Workload", space=space))
        mine = [one for one in found if one["metadata"].get("ownerReferences", [{}])[0].get("name") == name]
        return mine[0] if mine else None


_NOISE = {
    "dnsPolicy",
    "enableServiceLinks",
    "finalizers",
    "generateName",
    "generation",
    "imagePullPolicy",
    "managedFields",
    "preemptionPolicy",
    "reportingComponent",
    "reportingInstance",
    "resourceVersion",
    "schedulerName",
    "securityContext",
    "selfLink",
    "serviceAccount",
    "serviceAccountName",
    "source",
    "terminationGracePeriodSeconds",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tolerations",
    "topologyRequest",
    "volumeMounts",
    "volumes",
}
"""Fields that no test reads and that make recordings long."""


def record(name: str, raw: Json) -> None:
    """Write the observed state for the unit tests if WINDLASS_TESTCLUSTER_RECORD names a folder."""
    if folder := os.environ.get("WINDLASS_TESTCLUSTER_RECORD"):
        involved = {pod["spec"].get("nodeName") for pod in raw["pods"]}
        kept = raw | {
            "nodes": [_node(one) for one in raw["nodes"] if one["metadata"]["name"] in involved],
            "events": [one for one in raw["events"] if one["type"] == "Warning"][-3:],
        }
        Path(folder, f"{name}.json").write_text(lines(_without_noise(kept)), "utf-8")


def lines(raw: Json) -> str:
    """The state as JSON with one object per line."""
    parts = []
    for key, value in sorted(raw.items()):
        text = json.dumps(value)
        if isinstance(value, list) and value:
            items = [json.dumps(one, separators=(",", ":"), sort_keys=True) for one in value]
            text = "[\n" + ",\n".join(items) + "\n]"
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _node(node: Json) -> Json:
    ready = [one for one in node["status"]["conditions"] if one["type"] == "Ready"]
    return {"metadata": {"name": node["metadata"]["name"]}, "spec": {}, "status": {"conditions": ready}}


def _without_noise(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_noise(one) for key, one in value.items() if key not in _NOISE}
    return [_without_noise(one) for one in value] if isinstance(value, list) else value
