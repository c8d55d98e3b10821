"""The deploy step: asks the control plane to serve the registered version."""

from windlass.runtime.context import RunContext
from windlass_pipelines.steps.client import ControlPlane
from windlass_pipelines.steps.progress import step
from windlass_pipelines.steps.settings import StepSettings


def deploy() -> None:
    """Run the step."""
    context, settings = RunContext.load(), StepSettings.load()
    with ControlPlane(context, settings.patience) as plane, step("deploy", context, plane) as progress:
        endpoint = plane.deploy().endpoint
        progress.log.line(f"endpoint {endpoint} will serve the new version")
