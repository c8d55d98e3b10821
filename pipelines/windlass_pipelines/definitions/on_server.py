"""The fine-tuning pipeline on a Kubeflow Pipelines server: one step, which executes ``fine_tune`` with ``kfp.local``.

A step costs two pods on a server, one after the other, so the steps of ``fine_tune`` run in one pod. What an
installation sets (image, resources, the Secret of the run) is added by ``windlass.orchestration.kfp.package``.
"""

from kfp import dsl
from kfp.dsl import HTML, Metrics, Model, Output
from kfp.dsl.base_component import BaseComponent

from windlass_pipelines.definitions.fine_tune import DEFAULT_IMAGE

_MAX_RETRIES = 2
"""Of the pod of the step, which goes on where the first one was."""


# As in ``fine_tune``: kfp copies the function body into a program.
def fine_tune(evaluation: Output[Metrics], loss: Output[HTML], report: Output[HTML], model: Output[Model]) -> None:
    """Train, register the result, and optionally deploy it."""
    from windlass_pipelines.steps.on_server import run_pipeline  # noqa: PLC0415 - see above
    from windlass_pipelines.steps.server_step import RunArtifacts  # noqa: PLC0415 - see above

    run_pipeline(RunArtifacts(evaluation, loss, report, model))


def fine_tune_on_server(image: str = DEFAULT_IMAGE) -> BaseComponent:
    """Return the pipeline; its parameter ``secret`` names the Secret with the context of the run."""
    step = dsl.component(fine_tune, base_image=image, install_kfp_package=False)

    def pipeline(secret: str) -> None:
        del secret  # the settings of the pod refer to it
        step().set_caching_options(enable_caching=False).set_retry(_MAX_RETRIES, "10s", 2.0, "60s")

    description = "Fine-tune a model with Windlass, register the result, optionally serve it."
    return dsl.pipeline(name="windlass-fine-tune", description=description)(pipeline)
