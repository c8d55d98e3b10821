"""`python -m windlass_pipelines.compile OUT.yaml` writes the pipeline as KFP intermediate representation.

With `--on-server` it is the pipeline with one step, without what an installation sets; `windlass pipeline compile` adds
that.
"""

import argparse
from pathlib import Path

from kfp import compiler

from windlass_pipelines.definitions.fine_tune import DEFAULT_IMAGE, fine_tune
from windlass_pipelines.definitions.on_server import fine_tune_on_server


def main() -> None:
    """Compile the pipeline to the given path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="file to write, .yaml or .json")
    parser.add_argument("--image", default=DEFAULT_IMAGE, help="container image of the steps (default: %(default)s)")
    parser.add_argument("--on-server", action="store_true", help="the pipeline for a Kubeflow Pipelines server")
    options = parser.parse_args()
    define = fine_tune_on_server if options.on_server else fine_tune
    compiler.Compiler().compile(define(options.image), str(options.out))


if __name__ == "__main__":
    main()
