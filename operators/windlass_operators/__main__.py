"""``python -m windlass_operators``."""

import sys

from windlass_operators.main import main

if __name__ == "__main__":
    sys.exit(main())
