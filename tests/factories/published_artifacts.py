"""Artifacts as a trainer publishes them, with a minimal weights file."""

from datetime import UTC, datetime
from pathlib import Path

from tests.factories.training_runs import artifact_folder

from windlass.domain.artifacts import Manifest
from windlass.domain.reports import ResultItem, ResultStatus
from windlass.runtime.context import RunEnvironment
from windlass.storage.file_transfer import FileTransfer

WEIGHTS = "model.safetensors"


def publish_model(environment: RunEnvironment) -> Path:
    """Publish the artifact of attempt 1 and return its folder."""
    draft = environment.workspace / "draft"
    (draft / "deep").mkdir(parents=True)
    (draft / WEIGHTS).write_bytes((2).to_bytes(8, "little") + b"{}")
    (draft / "deep" / "config.json").write_text("{}")
    FileTransfer().publish(draft, environment.context.locations.artifact(1))
    return artifact_folder(environment)


def damage_weights(folder: Path) -> None:
    """Change a byte of the weights; their length stays."""
    (folder / WEIGHTS).write_bytes((2).to_bytes(8, "little") + b"[]")


def result_item(manifest: Manifest | None, outcome: ResultStatus = ResultStatus.SUCCEEDED) -> ResultItem:
    """Return the result that a trainer reports."""
    return ResultItem(outcome=outcome, manifest=manifest, time=datetime.now(UTC))
