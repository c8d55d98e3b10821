"""The register step: compares the stored artifact with its manifest, then asks the control plane to register it."""

from pathlib import Path

from windlass.domain.artifacts import MANIFEST_NAME, Manifest
from windlass.domain.errors import ChecksumMismatchError, ConflictError
from windlass.domain.reports import Outcome, ResultItem
from windlass.runtime.artifacts import read_manifest, verify
from windlass.runtime.context import RunContext
from windlass_pipelines.steps.client import ControlPlane
from windlass_pipelines.steps.progress import step
from windlass_pipelines.steps.settings import StepSettings


def register() -> str:
    """Run the step; return what the evaluation gates decided: ``candidate`` or ``rejected``."""
    context, settings = RunContext.load(), StepSettings.load()
    with ControlPlane(context, settings.patience) as plane, step("register", context, plane) as progress:
        folder, manifest = artifact_of(context, plane.look().result)
        verify_artifact(folder, manifest)
        progress.log.line(f"verified {len(manifest.files)} files, {manifest.bytes} bytes")
        done = plane.register()
        progress.log.line(f"{done.model} version {done.number} is {done.decision} {done.reason}".rstrip())
        progress.outcome = done.decision
        return done.decision


def artifact_of(context: RunContext, result: ResultItem | None) -> tuple[Path, Manifest]:
    """Return where the result's artifact lies and what it should hold.

    Raises:
        ConflictError: the run has no artifact, or one outside of the prefix that it was given.
    """
    if result is None or result.outcome is not Outcome.SUCCEEDED:
        raise ConflictError("the run has no result to register")
    if result.artifact_prefix is None or result.manifest is None:
        raise ConflictError("the run's result names no artifact")
    root = (context.store_root / context.artifact_prefix).resolve()
    folder = (context.store_root / result.artifact_prefix).resolve()
    if root not in folder.parents:
        raise ConflictError("the run's result names an artifact outside of the prefix that the run was given")
    return folder, result.manifest


def verify_artifact(folder: Path, manifest: Manifest) -> None:
    """Require exactly the manifest's files, as regular files, with its lengths and hashes.

    Raises:
        ChecksumMismatchError: names the first file that differs.
        NotFoundError: the artifact was never committed.
    """
    if read_manifest(folder) != manifest:
        raise ChecksumMismatchError("the artifact's manifest is not the one that the trainer reported")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise ChecksumMismatchError(f"{folder.name}/{name} is a link")
        if not path.is_dir() and name not in manifest.files and name != MANIFEST_NAME:
            raise ChecksumMismatchError(f"{folder.name}/{name} is not in the manifest")
    verify(folder, manifest)
