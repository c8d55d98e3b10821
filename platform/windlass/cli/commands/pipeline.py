"""``windlass pipeline``: the compiled pipeline."""

from pathlib import Path
from typing import Annotated

import typer

from windlass import __version__
from windlass.orchestration.kfp.package import StepPod, render_package

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def pipeline() -> None:
    """Write the compiled pipeline for Kubeflow Pipelines."""


@app.command("compile")
def compile_pipeline(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    image: Annotated[str, typer.Option(help="Image of the pod of the step.")] = f"windlass/pipelines:{__version__}",
) -> None:
    """Write the pipeline that the worker uploads to a Kubeflow Pipelines server, as its intermediate representation.

    Its parameter names the Secret with the context of a run, which the worker creates for each run.

    Example: windlass pipeline compile -o fine-tune.yaml
    """
    package = render_package(StepPod(image=image))
    out.write_bytes(package.content)
    typer.echo(f"{out}: version {package.version}")
