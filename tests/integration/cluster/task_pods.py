"""Drives the Jobs of the control plane in place of the kubelet.

Their pods ask for more CPU than any node has, so that they wait. The pod of a data task or an import publishes its
result as its program does: by the transfer routes of a real control plane, with the token of its Secret.
"""

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.charts.rendering import SYSTEM
from tests.factories.pod_settings import task_settings
from tests.factories.s3_server import S3Server
from tests.factories.transfer_server import TransferServer
from tests.integration.cluster.installed import WORKER, admin_client
from tests.integration.cluster.waiting import eventually
from tests.testcluster.layout import LocalCluster

from windlass.kube.client import KubeClient, load_configuration
from windlass.kube.errors import KubeUnavailableError
from windlass.kube.jobs.result_tasks import ResultTasks
from windlass.kube.jobs.task_jobs import TaskJobs
from windlass.kube.kinds import BATCH_JOB, POD, SECRET
from windlass.kube.objects import Object, Ref
from windlass.orchestration.task_result import RESULT_NAME, publish_result
from windlass.services.transfer_tokens import TransferTokens

AMOUNTS = {"cpu": "900000m", "memory": "64Mi"}
SETTINGS = task_settings(amounts=AMOUNTS, models_claim="base-models")
KUBELET = "kubelet"


class CountingClient(KubeClient):
    """Counts the Jobs that it has created; ``failing`` prevents every write, ``failing_kinds`` the writes of kinds."""

    jobs, failing = 0, False
    failing_kinds: frozenset[str] = frozenset()

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__(load_configuration(cluster.kubeconfig), guard=self._fail, impersonate=WORKER)

    def create(self, manifest: Object, *, manager: str, dry_run: bool = False) -> Object:
        self._fail(manifest["kind"])
        created = super().create(manifest, manager=manager, dry_run=dry_run)
        self.jobs += manifest["kind"] == "Job"
        return created

    def patch(self, ref: Ref, fields: Object, *, manager: str, subresource: str = "") -> Object:
        self._fail(f"patch of {ref.kind.kind}")
        return super().patch(ref, fields, manager=manager, subresource=subresource)

    def _fail(self, kind: str = "") -> None:
        if self.failing or kind in self.failing_kinds:
            raise KubeUnavailableError("cannot create it: try again")


class WaitingPods:
    """The pods of one Job, which the account of the worker creates."""

    def __init__(self, cluster: LocalCluster, root: Path, job: str, container: str) -> None:
        self.admin, self.worker = admin_client(cluster), CountingClient(cluster)
        self.root, self.container, self.job = root, container, Ref(BATCH_JOB, job, SYSTEM)
        self._watched = list[TaskJobs]()

    def watch(self) -> TaskJobs:
        """Return the Jobs as another server observes them."""
        self._watched.append(TaskJobs(self.worker, SYSTEM))
        return self._watched[-1]

    def exit(self, message: str = "") -> None:
        """End the waiting pod with exit code 0 and a termination message."""
        self._end_pod("Succeeded", {"exitCode": 0, "reason": "Completed", "message": message})

    def crash(self) -> None:
        """Kill the program of the waiting pod."""
        self._end_pod("Failed", {"exitCode": 137, "reason": "Error"})

    def evict(self) -> None:
        """End the waiting pod as the eviction API does."""
        target = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        self._end_pod("Failed", {"exitCode": 143, "reason": "Error"}, conditions=[target])

    def _end_pod(self, phase: str, terminated: Object, **status: Any) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        state = {"terminated": {"startedAt": now, "finishedAt": now, **terminated}}
        ended = {"name": self.container, "image": "i", "imageID": "i", "ready": False, "restartCount": 0}
        fields = {"status": {"phase": phase, "containerStatuses": [ended | {"state": state}], **status}}
        self.admin.patch(Ref.of(self.pod()), fields, manager=KUBELET, subresource="status")

    def pod(self) -> Object:
        """Wait for the pod that has not ended."""
        eventually(lambda: bool(self.waiting_pods()), f"a pod of {self.job.name}", 60)
        return self.waiting_pods()[0]

    def waiting_pods(self) -> list[Object]:
        """Return the pods that have not ended and are not being deleted."""
        pods = self.admin.list(POD, SYSTEM, labels=f"batch.kubernetes.io/job-name={self.job.name}").items
        live = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
        return [pod for pod in live if pod["status"]["phase"] == "Pending"]

    def restart_machine(self) -> None:
        """Lose the Job, as a cluster that is restored from a backup."""
        if self.admin.find(self.job) is not None:
            self.admin.delete(self.job, foreground=True)
        eventually(lambda: self.admin.find(self.job) is None, f"Job {self.job.name} is deleted", 60)
        eventually(lambda: all(self._is_gone(tasks) for tasks in self._watched), "the servers have seen it", 60)

    def _is_gone(self, tasks: TaskJobs) -> bool:
        return tasks.find(self.job.name) is None

    def fail_starts(self, *, fail: bool) -> None:
        self.worker.failing = fail

    def starts(self) -> int:
        return self.worker.jobs

    def close(self) -> None:
        self.worker.failing = False
        while self._watched:
            self._watched.pop().close()
        self.restart_machine()


class ResultPods(WaitingPods):
    """The pods of a task that publishes a result, with the control plane and the object store that they reach."""

    def __init__(self, cluster: LocalCluster, root: Path, s3: S3Server, kind: str, name: str) -> None:
        super().__init__(cluster, root, name.replace("_", "-"), kind)
        (root / "home").mkdir()
        self.server, self.name, self._pods = TransferServer(root / "home", s3), name, 0

    def tasks(self) -> ResultTasks:
        """Return the tasks of another server."""
        return ResultTasks(self.container, self.watch(), self.server.store, SETTINGS)

    def tokens(self) -> TransferTokens:
        return TransferTokens(self.server.harness.deps.hasher, self.server.harness.clock, self.server.store)

    def publish(self, result: str) -> None:
        """Publish the result of the waiting pod."""
        [container] = self.pod()["spec"]["containers"]
        command = container["command"]
        token = self.admin.get(Ref(SECRET, self.job.name, SYSTEM))["data"]["token"]
        self._pods += 1
        work = self.root / f"pod-{self._pods}"
        work.mkdir()
        (work / RESULT_NAME).write_text(result)
        transfer = self.server.transfer(base64.b64decode(token).decode())
        publish_result(work, command[command.index("--publish-result") + 1], transfer)

    def publish_and_exit(self, result: str) -> None:
        self.publish(result)
        self.exit()

    def close(self) -> None:
        super().close()
        self.server.close()
