"""Stands in for kubelet and for the programs in the pods of pipeline runs: each run trains a few steps and registers.

Every request goes to all replicas of the API at the same time, as when a reply is lost and the request is repeated.
"""

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.factories.replicas import ControlPlaneReplicas

from windlass.kube.kinds import BATCH_JOB, POD, SECRET
from windlass.kube.names import BATCH_JOB_LABEL, TASK_LABEL
from windlass.kube.objects import Object, Ref
from windlass.orchestration.run_result import RunResult
from windlass.runtime.context import CONTEXT_NAME, RunContext
from windlass.wire.runs import RUNS_PATH

BATCHES, POINTS = 4, 5
_SECONDS = 240.0


@dataclass
class StubPods:
    """Runs a thread for each Job of a pipeline run, from its first batch of reports on after ``release``."""

    replicas: ControlPlaneReplicas
    released: threading.Event = field(default_factory=threading.Event)
    started: list[str] = field(default_factory=list)
    """Names of the runs in the order of their start."""
    waiting: set[str] = field(default_factory=set)
    """Names of the runs that have sent their first batch and wait for ``released``."""
    errors: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start to run Jobs."""
        self._thread = threading.Thread(target=self._run_jobs)
        self._thread.start()

    def close(self) -> None:
        """Let the pods end, and wait for them."""
        self._stopping.set()
        self.released.set()
        for thread in (self._thread, *self._threads):
            thread.join()

    def _run_jobs(self) -> None:
        while not self._stopping.wait(0.1):
            for job in self.replicas.kube.api.of_kind(BATCH_JOB):
                name = job["metadata"]["name"]
                secret = self.replicas.kube.api.objects.get(Ref(SECRET, name, job["metadata"]["namespace"]))
                if secret is not None and name not in self.started:
                    self.started.append(name)
                    context = RunContext.model_validate_json(secret["stringData"][CONTEXT_NAME])
                    self._threads.append(threading.Thread(target=self._run, args=(job, context)))
                    self._threads[-1].start()

    def _run(self, job: Object, context: RunContext) -> None:
        try:
            self._train(context)
        except AssertionError as error:
            self.errors.append(f"{context.identity.name}: {error}")
        self._end_pod(job)

    def _train(self, context: RunContext) -> None:
        attempt = self._post(context, "attempts:acquire", {"trainer": "pod"})["attempt"]
        for number in range(1, BATCHES + 1):
            self._report(context, attempt, number, *_training_items(number))
            if number == 1:
                self.waiting.add(context.identity.name)
                self.released.wait(_SECONDS)
        result = {"type": "result", "outcome": "succeeded", "manifest": {"files": {}}, "evaluation": {"accuracy": 1.0}}
        self._report(context, attempt, BATCHES + 1, result)
        self._post(context, "register", {})

    def _report(self, context: RunContext, attempt: int, sequence: int, *items: dict[str, Any]) -> None:
        stamped = [{"time": datetime.now(UTC).isoformat(), **item} for item in items]
        body = {"source": "rank0", "sequence": sequence, "items": stamped}
        self._post(context, f"attempts/{attempt}/reports", body)

    def _post(self, context: RunContext, path: str, body: dict[str, Any]) -> dict[str, Any]:
        deadline, answers = time.monotonic() + _SECONDS, []
        while not self._stopping.is_set() and time.monotonic() < deadline:
            path_of_run = f"{RUNS_PATH}/{context.identity.run}/{path}"
            answers = self.replicas.send(path_of_run, context.run_token, body)
            if accepted := [answer for answer in answers if answer.status_code == 200]:
                reply: dict[str, Any] = accepted[0].json()
                return reply
            time.sleep(0.2)
        raise AssertionError(f"{path} was not accepted: {[answer.text for answer in answers]}")

    def _end_pod(self, job: Object) -> None:
        api, metadata = self.replicas.kube.api, job["metadata"]
        ended = {"exitCode": 0, "message": RunResult(state="succeeded").termination_message()}
        status = {"containerStatuses": [{"name": "runner", "state": {"terminated": ended}}], "phase": "Succeeded"}
        labels = {BATCH_JOB_LABEL: metadata["name"], TASK_LABEL: metadata["labels"][TASK_LABEL]}
        pod = {"name": metadata["name"], "namespace": metadata["namespace"], "labels": labels}
        api.create({"apiVersion": POD.api_version, "kind": POD.kind, "metadata": pod, "spec": {}, "status": status})
        api.patch(Ref.of(job), {"status": {"conditions": [{"type": "Complete", "status": "True"}]}})


def _training_items(number: int) -> list[dict[str, Any]]:
    steps = range((number - 1) * POINTS + 1, number * POINTS + 1)
    points = [{"type": "metric", "name": "train_loss", "step": step, "value": 1 / step} for step in steps]
    event = {"type": "event", "code": "batch_done", "message": f"batch {number}"}
    return [*points, event, {"type": "log", "text": f"line {number}\n"}]
