"""`python -m windlass_pipelines.compile OUT.yaml` writes the pipeline as KFP intermediate representation."""

import argparse
from pathlib import Path

from kfp import compiler

from windlass_pipelines.definitions.fine_tune import DEFAULT_IMAGE, fine_tune


def main() -> None:
    """Compile the pipeline to the given path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="file to write, .yaml or .json")
    parser.add_argument("--image", default=DEFAULT_IMAGE, help="container image of the steps (default: %(default)s)")
    options = parser.parse_args()
    compiler.Compiler().compile(fine_tune(options.image), str(options.out))


if __name__ == "__main__":
    main()
