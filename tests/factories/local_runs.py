"""A run of the local backend against the real control plane, with the stub trainer."""

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.factories.run_contexts import run_context
from tests.factories.served_control_plane import ServedControlPlane

from windlass.domain.specs import DeploySpec, JobSpec, Task
from windlass.orchestration import processes
from windlass.orchestration.local import LocalPipelineBackend
from windlass.orchestration.processes import ProcessRecord
from windlass.ports import BackendRun, BackendState
from windlass.runtime.context import RAY_ADDRESS_VARIABLE, RunContext

TRAINER = Path(__file__).parents[1] / "fakes/stub_trainer.py"


def spec(**changes: Any) -> JobSpec:
    given = {"task": Task.CHAT, "base_model": "base", "dataset": "data", "model": "model", **changes}
    return JobSpec.model_validate(given)


def step_settings(*behaviours: str, **changes: Any) -> dict[str, Any]:
    trainer = [sys.executable, str(TRAINER), *behaviours]
    return {
        "trainer": trainer,
        "restart_backoff_seconds": [0.05],
        "termination_grace_seconds": 5.0,
        "control_plane_timeout_seconds": 60.0,
        **changes,
    }


def reported_events(control_plane: ServedControlPlane) -> list[tuple[int | None, str]]:
    """Return the attempt and the code of every event."""
    return [(event.attempt, event.code) for event in control_plane.events]


def trainer_record(workspace: Path) -> ProcessRecord:
    """Return the record of the newest trainer of a run."""
    newest = max((workspace / "trainer").iterdir(), key=lambda folder: int(folder.name))
    record = ProcessRecord.load(newest / "process.json")
    assert record is not None
    return record


@dataclass
class LocalRun:
    """A run before its submission; ``behaviours`` has one entry per start of its trainer."""

    control_plane: ServedControlPlane
    root: Path
    behaviours: tuple[str, ...]
    job: JobSpec = field(default_factory=lambda: spec(deploy=DeploySpec(endpoint="endpoint")))
    settings: dict[str, Any] = field(default_factory=dict)
    context: RunContext = field(init=False)

    def __post_init__(self) -> None:
        self.context = self.control_plane.bind(run_context(self.root, self.job))

    @property
    def name(self) -> str:
        return self.context.identity.name

    @property
    def folder(self) -> Path:
        """The run's folder, which is its workspace too."""
        return self.root / "runs" / self.name

    def backend(self) -> LocalPipelineBackend:
        """A new backend over the same folder, as of a restarted server."""
        return LocalPipelineBackend(self.root / "runs", sys.executable, self.variables)

    def variables(self) -> dict[str, str]:
        """Return the environment variables of its processes."""
        settings = json.dumps(step_settings(*self.behaviours, **self.settings))
        return {"WINDLASS_STEP_SETTINGS": settings, RAY_ADDRESS_VARIABLE: self.control_plane.ray_address}

    def submit(self) -> LocalPipelineBackend:
        backend = self.backend()
        backend.submit(self.context)
        return backend

    def until(self, *states: BackendState, limit: float = 90) -> BackendRun:
        """Poll until the run is in one of the states, by default until it has ended."""
        deadline = time.monotonic() + limit
        while True:
            run = self.backend().poll(self.name)
            if run.state in states if states else run.state is not BackendState.RUNNING:
                return run
            assert time.monotonic() < deadline, (run, self.log())
            time.sleep(0.05)

    def wait_training(self, attempt: int = 1) -> None:
        """Wait until the trainer of an attempt has reported its first event."""
        self.control_plane.wait_for(lambda p: (attempt, "training_started") in reported_events(p), timeout=90)

    def record(self) -> ProcessRecord:
        record = ProcessRecord.load(self.folder / "process.json")
        assert record is not None
        return record

    def trainer(self) -> ProcessRecord:
        return trainer_record(self.folder)

    def pids(self) -> list[int]:
        """Every process of the run."""
        return processes.pids(self.record())

    def trainer_starts(self) -> int:
        """How often a trainer was started."""
        path = self.folder / "trainer_starts"
        return path.stat().st_size if path.exists() else 0

    def log(self) -> str:
        path = self.folder / "run.log"
        return path.read_text() if path.exists() else ""

    def end(self) -> None:
        """Kill what is left of the run."""
        self.backend().kill(self.name)
