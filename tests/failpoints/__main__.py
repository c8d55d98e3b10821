"""``python -m tests.failpoints MODULE ARGUMENTS``: run a module as a program with armed failpoints."""

import os
import runpy
import sys

from tests.failpoints import VARIABLE, arm

if __name__ == "__main__":
    del sys.argv[0]
    arm(os.environ.get(VARIABLE, ""))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
