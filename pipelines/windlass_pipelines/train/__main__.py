"""``python -m windlass_pipelines.train`` runs one attempt of the run in ``WINDLASS_RUN_CONTEXT``."""

import sys

from windlass_pipelines.train.driver import main

if __name__ == "__main__":
    sys.exit(main())
