"""`python -m windlass_pipelines.compile OUT.yaml` writes the pipeline as KFP intermediate representation.

`--on-server` and `--for-users` are the pipelines for a Kubeflow Pipelines server, without what an installation sets;
`windlass.orchestration.kfp.package` adds that.
"""

import argparse
from pathlib import Path

from kfp import compiler

from windlass_pipelines.definitions.fine_tune import DEFAULT_IMAGE, fine_tune
from windlass_pipelines.definitions.on_server import fine_tune_on_server
from windlass_pipelines.definitions.submit_job import submit_job_on_server


def main() -> None:
    """Compile the pipeline to the given path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="file to write, .yaml or .json")
    parser.add_argument("--image", default=DEFAULT_IMAGE, help="container image of the steps (default: %(default)s)")
    for name, define, text in (
        ("--on-server", fine_tune_on_server, "the pipeline with one step that the worker submits to a server"),
        ("--for-users", submit_job_on_server, "the pipeline that users submit to a server, with a job as parameter"),
    ):
        parser.add_argument(name, dest="define", action="store_const", const=define, default=fine_tune, help=text)
    options = parser.parse_args()
    compiler.Compiler().compile(options.define(options.image), str(options.out))


if __name__ == "__main__":
    main()
