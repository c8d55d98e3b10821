"""One run of the local back end against the fake control plane, with the stand-in trainer."""

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.control_plane import FakeControlPlane

from windlass.domain.specs import DeploySpec, JobSpec, Task
from windlass.orchestration import processes
from windlass.orchestration.local import LocalPipelineBackend
from windlass.orchestration.processes import ProcessRecord
from windlass.ports import BackendRun, BackendState
from windlass.runtime.context import RunContext

TRAINER = Path(__file__).with_name("trainer.py")
RUN_NAME = "job-01-r1"


def spec(**changes: Any) -> JobSpec:
    given = {"task": Task.CHAT, "base_model": "base", "dataset": "data", "model": "model", **changes}
    return JobSpec.model_validate(given)


def run_context(plane: FakeControlPlane, root: Path, job: JobSpec | None = None) -> RunContext:
    return RunContext(
        api_url=plane.url,
        run_token=plane.token,
        project="project",
        job=plane.job,
        run=plane.run,
        run_number=1,
        run_name=RUN_NAME,
        spec=job or spec(),
        store_root=root / "store",
        dataset_prefix="datasets/1",
        dataset_version="dsv_1",
        base_model_prefix="models/base",
        base_model="base",
        checkpoint_prefix="checkpoints/job",
        artifact_prefix="artifacts/job",
        workspace=root / "workspace",
        ray_address=plane.ray_address,
    )


def step_settings(*behaviours: str, **changes: Any) -> dict[str, Any]:
    trainer = [sys.executable, str(TRAINER), *behaviours]
    return {"trainer": trainer, "pauses": [0.05], "stop_grace": 5.0, "patience": 60.0, **changes}


@dataclass
class LocalRun:
    """A run that is not submitted yet; ``behaviours`` of its trainer, one per life."""

    plane: FakeControlPlane
    root: Path
    behaviours: tuple[str, ...]
    job: JobSpec = field(default_factory=lambda: spec(deploy=DeploySpec(endpoint="endpoint")))
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> RunContext:
        """The workspace is the run's folder, as the embedded server has it."""
        return run_context(self.plane, self.root, self.job).model_copy(update={"workspace": self.folder})

    @property
    def folder(self) -> Path:
        return self.root / "runs" / RUN_NAME

    def backend(self) -> LocalPipelineBackend:
        """Another server's back end, or the first."""
        settings = json.dumps(step_settings(*self.behaviours, **self.settings))
        return LocalPipelineBackend(self.root / "runs", sys.executable, {"WINDLASS_STEP_SETTINGS": settings})

    def submit(self) -> LocalPipelineBackend:
        backend = self.backend()
        backend.submit(self.context)
        return backend

    def until(self, *states: BackendState, limit: float = 90) -> BackendRun:
        """Poll until the run is in one of the states, by default until it does not run."""
        deadline = time.monotonic() + limit
        while True:
            found = self.backend().poll(RUN_NAME)
            if found.state in states if states else found.state is not BackendState.RUNNING:
                return found
            assert time.monotonic() < deadline, (found, self.log())
            time.sleep(0.05)

    def training(self, attempt: int = 1) -> None:
        """Wait until the trainer of an attempt has reported its first event."""
        self.plane.wait_for(lambda plane: plane.of(object, attempt) != [], timeout=90)

    def record(self) -> ProcessRecord:
        found = ProcessRecord.load(self.folder / "process.json")
        assert found is not None
        return found

    def trainer(self) -> ProcessRecord:
        found = ProcessRecord.load(self.context.workspace / "trainer.json")
        assert found is not None
        return found

    def members(self) -> list[int]:
        """Every process of the run."""
        return processes.members(self.record())

    def lives(self) -> int:
        """How often a trainer was started."""
        path = self.context.workspace / "lives"
        return path.stat().st_size if path.exists() else 0

    def log(self) -> str:
        path = self.folder / "run.log"
        return path.read_text() if path.exists() else ""

    def end(self) -> None:
        """Leave no process, whatever the test did."""
        self.backend().kill(RUN_NAME)
