"""What one pipeline run is told: a JSON file in the run folder, for its owner's eyes (it holds the run token)."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from windlass.domain.specs import JobSpec

CONTEXT_VARIABLE = "WINDLASS_RUN_CONTEXT"
"""Environment variable with the path of the context file; steps and trainer read it."""


CONTEXT_NAME = "context.json"


class RunContext(BaseModel):
    """Everything that the steps and the trainer of one run need. Paths of the store are local in embedded mode."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_url: str
    run_token: str
    project: str
    job: str
    run: str
    run_number: int
    run_name: str
    spec: JobSpec
    store_root: Path
    """Root of the object store; every key below is relative to it."""
    dataset_prefix: str
    """Holds ``manifest.json`` and one JSONL file per split in the internal form (``windlass.domain.datasets``)."""
    dataset_version: str
    base_model_prefix: str
    """Holds ``manifest.json``, safetensors weights, ``config.json`` and the tokenizer."""
    base_model: str
    checkpoint_prefix: str
    """Checkpoints go to ``<checkpoint_prefix>/<attempt>/<step>/``."""
    artifact_prefix: str
    """The finished model goes to ``<artifact_prefix>/<attempt>/``."""
    workspace: Path
    """A scratch folder of this run on the local disk: spool, logs, temporary files."""
    ray_address: str

    def write(self, path: Path) -> None:
        """Write atomically with mode 0600."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            stream.write(self.model_dump_json())
            stream.flush()
            os.fsync(stream.fileno())  # a power cut must not leave an empty file under the final name
        draft.replace(path)

    def current_api_url(self) -> str:
        """Return where the control plane is now: a server that comes back on another port says so in the run folder."""
        try:
            return RunContext.model_validate_json((self.workspace / CONTEXT_NAME).read_bytes()).api_url
        except (OSError, ValidationError):
            return self.api_url

    @classmethod
    def load(cls) -> "RunContext":
        """Read the context that the environment points at."""
        return cls.model_validate_json(Path(os.environ[CONTEXT_VARIABLE]).read_bytes())
