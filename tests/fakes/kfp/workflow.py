"""The workflow of a run on the fake Kubeflow Pipelines server: Argo nodes that change one state at a time.

Nodes form a chain, as the steps of a sequential pipeline do: workflow, root-driver, root, then a driver, the step and
its executor for each step. Drivers and executors are pods. The recordings of a real server are sequences of views of
such a chain (``tests/contracts/test_kfp_recordings.py``).
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NEVER = "0001-01-01T00:00:00Z"
"""The end of a node that runs."""
_PHASES = {"PENDING": "Pending", "RUNNING": "Running", "SUCCEEDED": "Succeeded", "FAILED": "Failed", "": "Omitted"}


@dataclass
class ArgoNode:
    """One Argo node. A node that was omitted has the state ``""``."""

    id: str
    name: str
    display_name: str
    is_pod: bool
    template: str = ""
    state: str = ""
    message: str = ""
    history: list[dict[str, str]] = field(default_factory=list)
    started_at: str = ""
    ended_at: str = NEVER
    child: str = ""
    log: str = ""
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def move(self, state: str, now: str) -> None:
        """Change the state."""
        self.state = state
        self.history.append({"update_time": now} | ({"state": state} if state else {}))
        self.started_at = self.started_at or now
        self.ended_at = NEVER if state in ("PENDING", "RUNNING") else now

    def task(self, run_id: str, created_at: str) -> dict[str, Any]:
        """Return it as v2beta1 shows it."""
        shown: dict[str, Any] = {
            "run_id": run_id,
            "task_id": self.task_id,
            "display_name": self.display_name,
            "create_time": created_at,
            "start_time": self.started_at,
            "end_time": self.ended_at,
            "state": self.state,
            "state_history": [dict(entry) for entry in self.history],
            "child_tasks": [{"pod_name": self.child}] if self.child else [],
        }
        return {name: value for name, value in shown.items() if value not in ("", [])}

    def argo(self) -> dict[str, Any]:
        """Return it as the workflow manifest has it."""
        return {
            "id": self.id,
            "name": self.name,
            "displayName": self.display_name,
            "type": "Pod" if self.is_pod else "DAG",
            "templateName": self.template,
            "phase": _PHASES[self.state],
            "message": self.message or None,
            "startedAt": self.started_at,
            "finishedAt": None if self.ended_at == NEVER else self.ended_at,
        }


@dataclass(frozen=True)
class StepEnd:
    """How a step's executor ends."""

    succeeds: bool
    log: str = ""


class Workflow:
    """The nodes of one workflow.

    Args:
        steps: display names, in order.
        ends: how steps end, by name. A step that is missing runs until ``ends`` has it.
        unpullable: whether the image of the steps does not exist.
        now: returns the time of the server.
    """

    def __init__(
        self,
        pipeline: str,
        steps: Sequence[str],
        ends: Mapping[str, StepEnd],
        now: Callable[[], str],
        *,
        unpullable: bool = False,
    ) -> None:
        self.name = f"{pipeline}-{uuid.uuid4().hex[:5]}"
        self.nodes: list[ArgoNode] = []
        self.phase = ""
        """Empty until the controller has picked it up, then as the state of a run."""
        self.log_is_gone = False
        self._steps, self._ends, self._now, self._unpullable = list(steps), ends, now, unpullable
        self._stopping = self._retrying = False

    @property
    def ended(self) -> bool:
        return self.phase in ("SUCCEEDED", "FAILED")

    @property
    def started_step(self) -> str | None:
        """The step whose executor runs."""
        last = self.nodes[-1] if self.nodes else None
        return self._step_of(last) if last and last.display_name == "executor" and last.state == "RUNNING" else None

    def advance(self) -> None:
        """Make the next change, if there is one to make."""
        if self.ended:
            return
        if not self.nodes:
            self.phase = "RUNNING"
            self._add(self.name, is_pod=False, state="RUNNING")
            self._add("root-driver", is_pod=True, state="PENDING", template="system-dag-driver")
            return
        if self._retrying:
            self._restart_failed()
            return
        last = self.nodes[-1]
        if self._stopping:
            self._kill(last)
        elif last.state == "PENDING":
            self._start(last)
        elif last.display_name == "executor":
            self._end_executor(last)
        else:
            self._end_driver(last)

    def stop(self) -> None:
        """Begin to stop it: ``activeDeadlineSeconds`` is 0."""
        self._stopping = True

    def retry(self) -> None:
        """Run the failed step again, in a pod of the same name. The nodes change with the next ``advance``."""
        self.phase, self._stopping, self._retrying = "RUNNING", False, True

    def _restart_failed(self) -> None:
        self._retrying = False
        failed = next(node for node in self.nodes if node.state == "FAILED" and node.is_pod)
        for node in self.nodes:
            if node.state == "FAILED":
                node.message = ""
                node.move("PENDING" if node.is_pod else "RUNNING", self._now())
        self.nodes = [node for node in self.nodes if node is not failed] + [failed]

    def _start(self, pod: ArgoNode) -> None:
        if self._unpullable and pod.display_name == "executor":
            pod.message = 'ErrImagePull: failed to pull and unpack image "no.such/image:1": not found'
            return
        pod.move("RUNNING", self._now())

    def _end_driver(self, driver: ArgoNode) -> None:
        driver.move("SUCCEEDED", self._now())
        if driver.display_name == "root-driver":
            self._add("root", is_pod=False, state="RUNNING")
            self._add_driver(self._steps[0])
            return
        step = driver.display_name.removesuffix("-driver")
        self._add(step, is_pod=False, state="RUNNING")
        self._add("executor", is_pod=True, state="PENDING", template="system-container-impl", below=step)

    def _end_executor(self, executor: ArgoNode) -> None:
        step = self._step_of(executor)
        end = self._ends.get(step)
        if end is None:
            return
        executor.log = end.log
        state = "SUCCEEDED" if end.succeeds else "FAILED"
        executor.move(state, self._now())
        self._named(step).move(state, self._now())
        if not end.succeeds:
            executor.message = "main: Error (exit code 1)"
            self._omit_after(step)
            self._close("FAILED")
        elif following := self._steps[self._steps.index(step) + 1 :]:
            self.nodes = [node for node in self.nodes if node.state]  # a retried step: the others were omitted
            self._add_driver(following[0])
        else:
            self._close("SUCCEEDED")

    def _kill(self, pod: ArgoNode) -> None:
        """First end the pod that runs, then close the workflow."""
        if pod.state in ("PENDING", "RUNNING"):
            pod.move("FAILED", self._now())
            pod.message, pod.ended_at = "Step exceeded its deadline", NEVER
            return
        pod.ended_at = self._now()
        if pod.display_name == "executor":
            step = self._step_of(pod)
            self._named(step).move("FAILED", self._now())
            self._omit_after(step)
        elif pod.display_name != "root-driver":
            step = pod.display_name.removesuffix("-driver")
            self._omit(step)
            self._omit_after(step)
        self._close("FAILED")

    def _close(self, state: str) -> None:
        self.phase = state
        for node in self.nodes:
            if node.display_name in ("root", self.name):
                node.move(state, self._now())

    def _omit_after(self, step: str) -> None:
        following = self._steps[self._steps.index(step) + 1 :]
        if following:
            self._omit(f"{following[0]}-driver")
            self._omit(following[0])

    def _omit(self, display_name: str) -> None:
        if not any(node.display_name == display_name for node in self.nodes):
            self._add(display_name, is_pod=False, state="")

    def _add_driver(self, step: str) -> None:
        self._add(f"{step}-driver", is_pod=True, state="PENDING", template="system-container-driver")

    def _add(self, display_name: str, *, is_pod: bool, state: str, template: str = "", below: str = "") -> None:
        path = [self.name] if display_name == self.name else [self.name, "root", below, display_name]
        if display_name in ("root", "root-driver"):
            path = [self.name, display_name]
        name, number = ".".join(part for part in path if part), str(uuid.uuid4().int)[:10]
        node = ArgoNode(f"{self.name}-{number}", name, display_name, is_pod, template)
        node.move(state, self._now())
        if self.nodes:
            self.nodes[-1].child = node.id
        self.nodes.append(node)

    def _named(self, display_name: str) -> ArgoNode:
        return next(node for node in self.nodes if node.display_name == display_name)

    @staticmethod
    def _step_of(executor: ArgoNode) -> str:
        return executor.name.split(".")[-2]
