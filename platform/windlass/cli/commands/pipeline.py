"""``windlass pipeline``: the compiled pipelines."""

from pathlib import Path
from typing import Annotated, Final

import typer

from windlass import __version__
from windlass.cli.output_files import require_folder
from windlass.domain.errors import InvalidError
from windlass.orchestration.kfp.job_package import render_job_package
from windlass.orchestration.kfp.package import StepPod, render_package

_SUFFIXES: Final = (".yaml", ".yml")
app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def pipeline() -> None:
    """Write compiled pipelines for Kubeflow Pipelines."""


@app.command("compile")
def compile_pipeline(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    image: Annotated[str, typer.Option(help="Image of the pod of the step.")] = f"windlass/pipelines:{__version__}",
    url: Annotated[
        str,
        typer.Option(
            help="URL of Windlass for pods, the default of the parameter url. Without it each run must set it."
        ),
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
    _check(out, url, worker=worker)
    pod = StepPod(image=image)
    package = render_package(pod) if worker else render_job_package(pod, url)
    try:
        out.write_bytes(package.content)
    except OSError as error:
        raise InvalidError(f"--out: {out} cannot be written: {error.strerror}", hint="choose another file") from error
    typer.echo(f"{out}: version {package.version}")


def _check(out: Path, url: str, *, worker: bool) -> None:
    require_folder(out)
    if out.suffix not in _SUFFIXES:
        raise InvalidError(f"--out: {out} is not a YAML file", hint="Kubeflow Pipelines reads .yaml and .yml")
    if worker and url:
        raise InvalidError("--url is not used with --worker", hint="leave one of them out")
    if url and not url.startswith(("http://", "https://")):
        raise InvalidError(f"--url: {url} is not a URL", hint="it begins with http:// or https://")
