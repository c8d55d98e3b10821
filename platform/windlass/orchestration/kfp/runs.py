"""Runs of a Kubeflow Pipelines server (v2beta1) and the nodes of their workflows, as far as Windlass reads them."""

import json
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

_ACTIVE: Final = frozenset({"PENDING", "RUNNING", "CANCELING", ""})
"""The state is missing while the workflow controller has not picked the run up."""
_CANCELED: Final = frozenset({"CANCELING", "CANCELED"})
_EXECUTOR: Final = "executor"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class RunPhase(Enum):
    """What a state means for a run."""

    ACTIVE = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    UNDOCUMENTED = auto()
    """A state that no version of the API documents for a run, or that is not one of a run that Windlass submits."""


class StateChange(_Part):
    """An entry of the history of a run or task."""

    state: str = ""


class ServerTask(_Part):
    """A node of the workflow, as v2beta1 shows it. Some have no name, and some no state."""

    display_name: str = ""
    state: str = ""


class _Details(_Part):
    task_details: tuple[ServerTask, ...] = ()


class ServerRun(_Part):
    """A run. ``error`` of a failed one is empty: see ``WorkflowNode``."""

    run_id: str
    state: str = ""
    state_history: tuple[StateChange, ...] = ()
    run_details: _Details = _Details()

    @property
    def phase(self) -> RunPhase:
        """What its state means."""
        if self.state in _ACTIVE:
            return RunPhase.ACTIVE
        if self.state == "SUCCEEDED":
            return RunPhase.SUCCEEDED
        return RunPhase.FAILED if self.state in ("FAILED", "CANCELED") else RunPhase.UNDOCUMENTED

    @property
    def was_terminated(self) -> bool:
        """Whether it was terminated. Its last state is then FAILED like that of others.

        A retry continues the history; only what follows it counts.
        """
        states = [change.state for change in self.state_history] + [self.state]
        last_start = max((number for number, state in enumerate(states) if state == "RUNNING"), default=0)
        return any(state in _CANCELED for state in states[last_start:])

    def has_started(self, step: str) -> bool:
        """Return whether the executor of a step runs or has ended; drivers do not count.

        Executors of all steps have the same name: valid for a pipeline with one step.
        """
        tasks = self.run_details.task_details
        has_step = any(task.display_name == step for task in tasks)
        return has_step and any(
            task.display_name.startswith(_EXECUTOR) and task.state not in ("", "PENDING") for task in tasks
        )


class WorkflowNode(_Part):
    """A node of the workflow, as its manifest has it: the only place with the message of an error."""

    id: str
    name: str = ""
    displayName: str = ""  # noqa: N815 - the name in the manifest
    type: str = ""
    phase: str = ""
    message: str | None = None
    startedAt: str | None = None  # noqa: N815 - the name in the manifest

    @property
    def is_executor(self) -> bool:
        """Whether it is the pod of a step."""
        return self.type == "Pod" and self.displayName.startswith(_EXECUTOR)

    @classmethod
    def of_manifest(cls, reply: Mapping[str, Any]) -> tuple[Self, ...]:
        """Return the nodes of a v1beta1 run; none if the manifest cannot be read."""
        try:
            manifest = json.loads(reply["pipeline_runtime"]["workflow_manifest"])
            return tuple(cls.model_validate(node) for node in (manifest["status"].get("nodes") or {}).values())
        except (KeyError, TypeError, ValueError, ValidationError):
            return ()


def problem_of(nodes: Sequence[WorkflowNode]) -> str:
    """Return the message of the node that explains best why a run does not go on or has failed; empty if none does."""
    for phases in (("Failed", "Error"), ("Pending",), ("Running",)):
        for node in nodes:
            if node.phase in phases and node.type == "Pod" and node.message:
                return node.message
    return ""


def exception_of(log: str) -> str:
    """Return the exception that ended a step, with its message, from the log of its pod; empty if there is none."""
    _, traceback, lines = log.rpartition("Traceback (most recent call last):\n")
    if not traceback:
        return ""
    return next((line for line in lines.splitlines() if line and not line[0].isspace()), "")
