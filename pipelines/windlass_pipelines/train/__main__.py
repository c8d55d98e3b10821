"""``python -m windlass_pipelines.train``: one attempt of the run that ``WINDLASS_RUN_CONTEXT`` names."""

import sys

from windlass_pipelines.train.driver import main

if __name__ == "__main__":
    sys.exit(main())
