"""Back ends that process data, train and serve outside of this process."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from windlass.domain.datasets import DataRequest, DataResult
from windlass.domain.endpoints import ServedApp, ServingStatus
from windlass.domain.jobs import Reason
from windlass.domain.models import ImportedModel, ImportRequest
from windlass.runtime.context import RunContext


class TaskFailedError(Exception):
    """The process of a data task or an import has ended without a result. The text has the end of its log."""


class DataProcessor(Protocol):
    """Parses tenant data outside of this process."""

    def start(self, name: str, request: DataRequest) -> None:
        """Start, or do nothing when ``name`` has begun before (also by an earlier server).

        Raises:
            UnavailableError, OSError: it cannot be started now; nothing has begun.
        """
        ...

    def poll(self, name: str) -> DataResult | None:
        """Return the result, or None while it runs.

        Raises:
            NotFoundError: it has not begun, is deleted, or was interrupted without a result by a restart of the
                machine. ``start`` may be called.
            TaskFailedError: the process died, or its result is not valid. ``start`` may be called again after
                ``delete``.
            UnavailableError, OSError: this cannot be determined now; ``poll`` can be repeated.
        """
        ...

    def problem(self, name: str) -> str:
        """Return why it does not run now; empty while it runs, after its end, and where it is not known."""
        ...

    def delete(self, name: str) -> None:
        """Stop it if it runs, and delete its state and its result (not the version that it published)."""
        ...


class ModelImporter(Protocol):
    """Checks a base model outside of this process, and converts it if necessary."""

    def check_source(self, source: Path) -> None:
        """Check, without reading it, that ``source`` is where an import can read it.

        Raises:
            InvalidError: it is not.
        """
        ...

    def start(self, name: str, request: ImportRequest) -> None:
        """Start an import, or do nothing when ``name`` has begun before.

        An interrupted import that has published the model is completed.

        Raises:
            UnavailableError, OSError: it cannot be started now; nothing has begun.
        """
        ...

    def poll(self, name: str) -> ImportedModel | None:
        """Return the imported model, or None while it runs.

        Raises:
            InvalidError: the source is rejected; the message has the reason.
            NotFoundError, TaskFailedError, UnavailableError, OSError: as of ``DataProcessor.poll``.
        """
        ...

    def problem(self, name: str) -> str:
        """As of ``DataProcessor``."""
        ...

    def delete(self, name: str) -> None:
        """Stop it if it runs, and delete its state and its result (not the model that it published)."""
        ...


class BackendState(StrEnum):
    """The state of a run in a pipeline back end."""

    UNKNOWN = "unknown"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    """Stopped on a preempt or cancel command."""
    LOST = "lost"


class BackendRun(BaseModel):
    """One run in the back end."""

    model_config = ConfigDict(frozen=True)
    name: str
    state: BackendState
    message: str = ""
    paused: bool = False
    """Whether the processes of a running run have been ended by ``pause``."""
    reason: Reason | None = None
    """Why it does not start or go on, or why it has ended without success, where that can be explained."""


class PipelineBackend(Protocol):
    """Runs the compiled pipeline of a job under a deterministic name."""

    def submit(self, context: RunContext) -> bool:
        """Start the run; no effect, and False, when a run with this name exists."""
        ...

    def poll(self, run_name: str) -> BackendRun:
        """Return the run. ``lost``: its process exited without a result; ``unknown``: never submitted."""
        ...

    def pause(self, run_name: str) -> None:
        """End the processes of a running run that waits for its resources, so that they use none; returns at once.

        What has requested the resources stays. No effect where those processes also hold the request, or cannot be
        ended without the run: ``poll`` then never returns ``paused``.
        """
        ...

    def resume(self, run_name: str) -> None:
        """Start the processes of a paused run again; no effect on another one. They go on where the run was."""
        ...

    def kill(self, run_name: str) -> None:
        """Kill all processes of the run and wait until they have exited; no error when there is none."""
        ...


class RunFolders(Protocol):
    """What runs leave outside of the object store: tokens, logs, spooled reports; in a cluster Jobs and Secrets."""

    def names(self) -> list[str]:
        """Return the names of the runs that have files."""
        ...

    def delete(self, run_name: str) -> None:
        """Kill remaining processes of the run and delete its files; no error when there are none."""
        ...


class RayCluster(Protocol):
    """The Ray cluster that trainers and model servers join."""

    def ensure(self) -> str:
        """Start it if it is not running; return its address.

        Raises:
            UnavailableError: it does not start; the message has the tail of its log.
        """
        ...

    def stop(self) -> None:
        """Stop all of its processes."""
        ...


class JoinableRay(RayCluster, Protocol):
    """A Ray cluster that processes of this machine join."""

    def environment(self) -> dict[str, str]:
        """Return the environment variables that a process needs to join it."""
        ...

    def address(self) -> str:
        """Return the address of the running cluster.

        Raises:
            UnavailableError: it does not run.
        """
        ...


class ServingBackend(Protocol):
    """Serves model versions. Level-triggered: ``apply`` sets the complete desired state."""

    def apply(self, apps: Sequence[ServedApp]) -> None:
        """Set the served applications: start new ones, remove those not listed, leave the others unchanged."""
        ...

    def status(self) -> ServingStatus:
        """Return the status of all desired applications, and of removed ones until they have stopped."""
        ...

    def stop(self) -> None:
        """Stop what runs on this machine. Model servers of a cluster go on serving."""
        ...
