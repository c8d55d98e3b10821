"""``windlass pipeline``: the compiled pipelines."""

from pathlib import Path
from typing import Annotated

import typer

from windlass import __version__
from windlass.orchestration.kfp.job_package import render_job_package
from windlass.orchestration.kfp.package import StepPod, render_package

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def pipeline() -> None:
    """Write compiled pipelines for Kubeflow Pipelines."""


@app.command("compile")
def compile_pipeline(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    image: Annotated[str, typer.Option(help="Image of the pod of the step.")] = f"windlass/pipelines:{__version__}",
    url: Annotated[
        str, typer.Option(help="URL of Windlass for pods, the default of the parameter url; empty: it is required.")
    ] = "",
    worker: Annotated[
        bool, typer.Option("--worker", help="Write the pipeline that the worker submits for each run instead.")
    ] = False,
) -> None:
    """Write a pipeline that users submit to a Kubeflow Pipelines server, with the spec of a job as its parameter.

    Its step submits the job to Windlass with the API key in a Secret of the run's namespace, which the parameter
    key_secret names, and follows it. Terminating the run cancels the job.

    Example: windlass pipeline compile -o fine-tune.yaml
    """
    pod = StepPod(image=image)
    package = render_package(pod) if worker else render_job_package(pod, url)
    out.write_bytes(package.content)
    typer.echo(f"{out}: version {package.version}")
