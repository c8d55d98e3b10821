"""Serves the fake Kubeflow Pipelines in a cluster, where the steps of its runs are Jobs: ``python -m`` in a pod."""

import argparse
import threading
from dataclasses import dataclass, field

from kubernetes import client, config
from tests.fakes.kfp.server import KfpServer
from tests.fakes.kfp.step_pod import PipelineStep, step_job
from tests.fakes.kfp.store import KfpServerSettings, KfpStore, StoredRun
from tests.fakes.kfp.workflow import ArgoNode, StepEnd

_PERIOD_SECONDS = 0.5
_ENDED = ("Succeeded", "Failed")


@dataclass
class StepJobs:
    """Creates a Job for each step that starts, and ends the step with its pod."""

    server: KfpServer
    namespace: str
    stopped: threading.Event = field(default_factory=threading.Event)
    created: dict[str, str] = field(default_factory=dict)
    """Run ids by the names of Jobs."""

    def run(self) -> None:
        while not self.stopped.wait(_PERIOD_SECONDS):
            with self.server.lock:
                runs = list(self.server.store.runs.values())
            for run in runs:
                self._advance(run)
            self._delete_of_deleted_runs({run.id for run in runs})

    def _advance(self, run: StoredRun) -> None:
        workflow = run.workflows[0]
        with self.server.lock:
            node = workflow.nodes[-1] if workflow.nodes else None
            step = workflow.started_step
        has_pod = node is not None and (step is not None or node.id in self.created)
        if node is not None and has_pod and not workflow.ended and not self._has_ended(run, node, step):
            return
        with self.server.lock:
            self.server.store.advance(run)

    def _has_ended(self, run: StoredRun, node: ArgoNode, step: str | None) -> bool:
        """Whether the pod of a step has ended; create its Job first, and end the pod of a canceled run."""
        if node.id not in self.created:
            if run.canceling or step is None:
                return True
            client.BatchV1Api().create_namespaced_job(
                self.namespace, step_job(self._step(run, node, step), self.namespace)
            )
            self.created[node.id] = run.id
        pods = client.CoreV1Api().list_namespaced_pod(self.namespace, label_selector=f"job-name={node.id}").items
        if not pods:
            return False
        [pod] = pods
        if pod.status.phase not in _ENDED:
            if run.canceling:  # as Argo ends the pods of a workflow that is stopped
                deadline = {"spec": {"activeDeadlineSeconds": 1}}
                client.CoreV1Api().patch_namespaced_pod(pod.metadata.name, self.namespace, deadline)
            return False
        log = client.CoreV1Api().read_namespaced_pod_log(pod.metadata.name, self.namespace)
        with self.server.lock:
            node.log = log
            if step is not None:
                end = StepEnd(succeeds=pod.status.phase == "Succeeded", log=node.log)
                self.server.store.ends.setdefault(run.id, {})[step] = end
        return True

    def _step(self, run: StoredRun, node: ArgoNode, step: str) -> PipelineStep:
        return PipelineStep(
            run_id=run.id,
            name=step,
            node=node.id,
            documents=self.server.store.documents_of(run.body),
            parameters=run.body.get("runtime_config", {}).get("parameters", {}),
            service_account=run.body.get("service_account") or "pipeline-runner",
        )

    def _delete_of_deleted_runs(self, existing: set[str]) -> None:
        for job, run_id in list(self.created.items()):
            if run_id not in existing:
                client.BatchV1Api().delete_namespaced_job(job, self.namespace, propagation_policy="Background")
                del self.created[job]


def main() -> None:
    """Serve until the process ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--service-account", action="append", default=["pipeline-runner"])
    options = parser.parse_args()
    config.load_incluster_config()
    settings = KfpServerSettings(service_accounts=frozenset(options.service_account), calls_per_change=0)
    with KfpServer(KfpStore(settings), ("", options.port)) as server:
        threading.Thread(target=StepJobs(server, options.namespace).run, daemon=True).start()
        server.serve_forever()


if __name__ == "__main__":
    main()
