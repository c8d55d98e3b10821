"""The pipeline that users submit to a Kubeflow Pipelines server, with the spec of a job as its parameter.

It makes no run of Windlass itself: its step submits a job through the API, under the key of the caller.
"""

from kfp import dsl
from kfp.dsl import HTML, Metrics, Model, Output
from kfp.dsl.base_component import BaseComponent

from windlass_pipelines.definitions.fine_tune import DEFAULT_IMAGE

_MAX_RETRIES = 2
"""Of the pod of the step, which follows the same job again."""


# As in ``fine_tune``: kfp copies the function body into a program.
def submit_job(  # noqa: PLR0917 - kfp passes arguments by name
    url: str,
    project: str,
    job: dict,  # type: ignore[type-arg]  # kfp accepts no parameters of the type
    evaluation: Output[Metrics],
    loss: Output[HTML],
    report: Output[HTML],
    model: Output[Model],
) -> str:
    """Submit a job to Windlass, and wait until it has ended; return its id."""
    from windlass_pipelines.steps.server_step import RunArtifacts  # noqa: PLC0415 - see above
    from windlass_pipelines.steps.submit_job import submit_job  # noqa: PLC0415 - see above

    return submit_job(url, project, job, RunArtifacts(evaluation, loss, report, model))


def submit_job_on_server(image: str = DEFAULT_IMAGE) -> BaseComponent:
    """Return the pipeline; its parameter ``key_secret`` names the Secret with the API key of the caller."""
    step = dsl.component(submit_job, base_image=image, install_kfp_package=False)

    def pipeline(job: dict, url: str, project: str = "default", key_secret: str = "windlass-key") -> None:  # type: ignore[type-arg]  # noqa: S107 - the name of a Secret; kfp accepts no parameters of dict
        del key_secret  # the settings of the pod refer to it
        submitted = step(url=url, project=project, job=job)
        submitted.set_caching_options(False).set_retry(_MAX_RETRIES, "10s", 2.0, "60s")

    description = "Fine-tune a model with Windlass: submit a job, and follow it to its end."
    return dsl.pipeline(name="windlass-job", description=description)(pipeline)
