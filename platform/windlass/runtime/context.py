"""The input of one pipeline run, and what its launcher gives to each process of the run.

The context says what to do and holds no path of any machine, so that every back end can hand it over: as a file here,
as a Secret in a cluster. Paths and addresses of the place where a process runs are in its environment variables.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from windlass.domain.datasets import CleaningStep
from windlass.domain.reports import JobWarning
from windlass.domain.specs import JobSpec
from windlass.kit.files import write_atomic

CONTEXT_VARIABLE = "WINDLASS_RUN_CONTEXT"
"""Environment variable with the path of the context file."""
WORKSPACE_VARIABLE = "WINDLASS_RUN_WORKSPACE"
"""Environment variable with the path of the workspace."""
RAY_ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Environment variable with the address of the Ray that trainers join; Ray itself reads it too."""
KFP_RUN_ID_VARIABLE = "WINDLASS_KFP_RUN_ID"
"""Environment variable with the id of the run on its Kubeflow Pipelines server."""
DRAIN_VARIABLE = "WINDLASS_RUN_DRAIN_SECONDS"
"""Environment variable with ``RunEnvironment.drain_seconds``."""
THREADS_VARIABLE = "OMP_NUM_THREADS"
"""Environment variable with ``RunEnvironment.cpu_threads``. OpenMP, torch and numpy read it too, and Ray sets it in the
processes that it starts if it is not set."""
TRANSFER_URL_VARIABLE = "WINDLASS_TRANSFER_URL"
"""Environment variable with the URL of the control plane, for a process that has no run."""
TRANSFER_TOKEN_VARIABLE = "WINDLASS_TRANSFER_TOKEN_FILE"  # noqa: S105 - the name of a variable
"""Environment variable with the path of its token, which is read for every request: a Secret may be renewed."""
WARM_TRAINER_VARIABLE = "WINDLASS_WARM_TRAINER"
"""Environment variable with the path of the file with the ``WarmTrainerContext``."""
WARM_TRAINER_FILE = "warm-trainer.json"
"""Name of this file."""
CONTEXT_NAME = "context.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunIdentity(_Part):
    """Which run this is."""

    project: str
    """The project's name."""
    job: str
    run: str
    number: int
    name: str
    """Unique, and a valid Kubernetes name: ``job-<26>-r<number>``."""


class RunInputs(_Part):
    """What the names in the spec meant when the job was accepted."""

    dataset_version: str
    dataset_steps: tuple[CleaningStep, ...] = ()
    """Steps that made the version from the uploaded rows, in order."""
    base_model: str
    base_model_licence: str = ""
    """As in the catalogue, usually an SPDX identifier; empty when unknown."""
    world_size: int
    """Training processes."""
    warnings: tuple[JobWarning, ...] = ()
    """Warnings about the dataset version."""


class RunLocations(_Part):
    """URIs for ``ports.FolderTransfer``."""

    dataset: str
    """One JSONL file per split in the internal form (``windlass.domain.datasets``)."""
    base_model: str
    """Safetensors weights, ``config.json`` and the tokenizer."""
    checkpoints: str
    """Parent of the checkpoints of all attempts."""
    artifacts: str
    """Parent of the trained models of all attempts."""

    def checkpoint(self, attempt: int, step: int) -> str:
        """Return where an attempt publishes its checkpoint of a step."""
        return f"{self.checkpoints}/{attempt}/{step}"

    def artifact(self, attempt: int) -> str:
        """Return where an attempt publishes the trained model."""
        return f"{self.artifacts}/{attempt}"


class RunContext(_Part):
    """Input of the steps and the trainer of one run."""

    api_url: str
    run_token: str
    identity: RunIdentity
    spec: JobSpec
    inputs: RunInputs
    locations: RunLocations

    def write(self, path: Path) -> None:
        """Write the context file, with mode 0600 because it holds the run token."""
        write_atomic(path, self.model_dump_json(), mode=0o600)


class WarmTrainerContext(_Part):
    """Which warm trainer this is, and where it asks for its run (docs/adr/0057)."""

    api_url: str
    token: str
    project: str
    name: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file."""
        return cls.model_validate_json(path.read_bytes())


@dataclass(frozen=True)
class RunEnvironment:
    """What a process of a run gets from its launcher."""

    context: RunContext
    context_file: Path
    workspace: Path
    """Local scratch folder: spools, logs, temporary files. On one machine all steps of the run share it; in a cluster
    each pod has its own."""
    drain_seconds: float | None = None
    """How long a trainer waits, before it exits, until the control plane has accepted all of its reports.

    None: the pipeline step reads the workspace of the trainer, so reports that wait there are not lost.
    """
    cpu_threads: int | None = None
    """CPU threads of each trainer process. None: a share of the machine for each CPU slot of the job."""

    @classmethod
    def of(
        cls,
        context_file: Path,
        workspace: Path,
        drain_seconds: float | None = None,
        cpu_threads: int | None = None,
    ) -> Self:
        """Read the context file."""
        context = RunContext.model_validate_json(context_file.read_bytes())
        return cls(context, context_file, workspace, drain_seconds, cpu_threads)

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the context file that the environment variables name."""
        drain, threads = environment.get(DRAIN_VARIABLE), environment.get(THREADS_VARIABLE, "")
        return cls.of(
            Path(environment[CONTEXT_VARIABLE]),
            Path(environment[WORKSPACE_VARIABLE]),
            None if drain is None else float(drain),
            int(threads) if threads.isdecimal() and int(threads) else None,
        )

    def variables(self) -> dict[str, str]:
        """Return the environment variables from which another process loads this."""
        drain = {} if self.drain_seconds is None else {DRAIN_VARIABLE: f"{self.drain_seconds:g}"}
        threads = {} if self.cpu_threads is None else {THREADS_VARIABLE: str(self.cpu_threads)}
        return {CONTEXT_VARIABLE: str(self.context_file), WORKSPACE_VARIABLE: str(self.workspace), **drain, **threads}

    def current_api_url(self) -> str:
        """Return the current URL of the control plane; a server that restarts on another port updates the file."""
        try:
            return RunContext.model_validate_json(self.context_file.read_bytes()).api_url
        except (OSError, ValidationError):
            return self.context.api_url
