"""What parses, trains and serves outside of this process."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from windlass.domain.datasets import DataRequest, DataResult
from windlass.domain.endpoints import ServedApp, ServingStatus
from windlass.domain.models import ImportedModel
from windlass.runtime.context import RunContext


class DataProcessor(Protocol):
    """Parses tenant bytes outside this process."""

    def start(self, name: str, request: DataRequest) -> None:
        """Begin, or do nothing when ``name`` was begun before (also by an earlier server)."""
        ...

    def poll(self, name: str) -> DataResult | None:
        """Return the result, or None while it runs.

        Raises:
            UnavailableError: the process died; its last words are in the message. ``start`` may be called again
                after ``forget``.
        """
        ...

    def forget(self, name: str) -> None:
        """Stop it if it runs and drop what is kept of it (not its output)."""
        ...


class ModelImporter(Protocol):
    """Checks, and where it must converts, a base model outside this process."""

    def start(self, name: str, source: Path, target: Path) -> None:
        """Begin to make ``target`` from ``source``, or do nothing when ``name`` was begun before."""
        ...

    def poll(self, name: str) -> ImportedModel | None:
        """Return what was imported, or None while it runs.

        Raises:
            InvalidError: the source is refused; the message says why.
            UnavailableError: the process died.
        """
        ...

    def forget(self, name: str) -> None:
        """Stop it if it runs and drop what is kept of it (not its target)."""
        ...


class BackendState(StrEnum):
    """What a pipeline back end knows of a run."""

    UNKNOWN = "unknown"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    """It obeyed a preempt or cancel command; nothing went wrong."""
    LOST = "lost"


class BackendRun(BaseModel):
    """One run as the back end sees it."""

    model_config = ConfigDict(frozen=True)
    name: str
    state: BackendState
    message: str = ""


class PipelineBackend(Protocol):
    """Runs the compiled pipeline of one job under a deterministic name."""

    def submit(self, context: RunContext) -> None:
        """Start the run, or adopt the one that has this name already: never a second one."""
        ...

    def poll(self, run_name: str) -> BackendRun:
        """Look. ``lost``: its process is gone without a result; ``unknown``: never submitted here."""
        ...

    def kill(self, run_name: str) -> None:
        """End every process of the run at once; returns when they are gone. No error when there is none."""
        ...


class RunFolders(Protocol):
    """What runs leave behind outside of the object store: tokens, logs, spooled reports."""

    def names(self) -> list[str]:
        """Return the names of the runs that have something left."""
        ...

    def forget(self, run_name: str) -> None:
        """End what of the run still lives and remove its leavings; no error when there are none."""
        ...


class RayCluster(Protocol):
    """The Ray that trainers and servers of this mode join."""

    def ensure(self) -> str:
        """Start it if it is not running; return its address.

        Raises:
            UnavailableError: it does not come up; the message has its last words.
        """
        ...

    def stop(self) -> None:
        """End all of its processes."""
        ...


class ServingBackend(Protocol):
    """Serves model versions; level-based: told the whole wish, it converges."""

    def apply(self, apps: Sequence[ServedApp]) -> None:
        """Make ``apps`` the served set: start what is new, remove what is not named, leave the rest alone."""
        ...

    def status(self) -> ServingStatus:
        """Look at what is served now: everything wished, and what is no longer wished until it is gone."""
        ...

    def stop(self) -> None:
        """Remove everything and release the port."""
        ...
