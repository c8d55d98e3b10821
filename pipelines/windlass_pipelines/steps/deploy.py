"""The deploy step: requests the deployment of the registered version."""

from windlass.runtime.client import RunApiClient
from windlass.runtime.context import RunEnvironment
from windlass_pipelines.steps.progress import step
from windlass_pipelines.steps.settings import StepSettings


def deploy() -> None:
    """Run the step."""
    environment, settings = RunEnvironment.load(), StepSettings.load()
    with (
        RunApiClient(environment, retry_seconds=settings.control_plane_timeout_seconds) as client,
        step("deploy", environment.workspace, client) as step_context,
    ):
        endpoint = client.deploy().endpoint
        step_context.log.line(f"endpoint {endpoint} will serve the new version")
