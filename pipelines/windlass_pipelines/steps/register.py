"""The register step: verifies the published artifact against the reported manifest, then registers it."""

from windlass.domain.artifacts import Manifest
from windlass.domain.errors import ConflictError
from windlass.domain.reports import ResultStatus
from windlass.ports import FolderTransfer
from windlass.runtime.artifacts import verify
from windlass.runtime.client import RunApiClient
from windlass.runtime.context import RunEnvironment
from windlass.storage.transfers import folder_transfer
from windlass.wire.runs import RunStatusOut
from windlass_pipelines.code_scan import check_content
from windlass_pipelines.steps.progress import step
from windlass_pipelines.steps.settings import StepSettings


def register() -> str:
    """Run the step; return the decision of the evaluation gates: ``candidate`` or ``rejected``."""
    environment, settings = RunEnvironment.load(), StepSettings.load()
    with (
        RunApiClient(environment, retry_seconds=settings.control_plane_timeout_seconds) as client,
        step("register", environment.workspace, client) as step_context,
    ):
        manifest = verify_artifact(environment, client.get_run(), folder_transfer(environment))
        step_context.log.line(f"verified {len(manifest.files)} files, {manifest.bytes} bytes")
        reply = client.register()
        step_context.log.line(f"{reply.model} version {reply.number} is {reply.decision} {reply.reason}".rstrip())
        step_context.outcome = reply.decision
        return reply.decision


def verify_artifact(environment: RunEnvironment, run: RunStatusOut, transfer: FolderTransfer) -> Manifest:
    """Check that the published artifact is the one that the run's attempt reported, and contains no code.

    Raises:
        ConflictError: the run has no artifact.
        ChecksumMismatchError: a file differs; the message names the first one.
        NotFoundError: the artifact was not published.
        InvalidError: a file can contain code.
    """
    result = run.result
    if run.attempt is None or result is None or result.outcome is not ResultStatus.SUCCEEDED:
        raise ConflictError("the run has no result to register")
    if result.manifest is None:
        raise ConflictError("the run's result has no artifact")
    uri = environment.context.locations.artifact(run.attempt)
    folder = transfer.fetch(uri, environment.workspace / "artifact")
    manifest = verify(folder, digest=result.manifest.digest())
    for name in manifest.files:
        check_content(folder / name)
    return manifest
