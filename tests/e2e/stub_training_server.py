"""The embedded server without Ray: runs start the stub trainer; everything else is the product.

``RAY_ADDRESS_VARIABLE`` is the address of a port that stands in for Ray; it outlives the server, as Ray does.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

from tests.factories.local_runs import step_settings

from windlass.ports import JoinableRay
from windlass_api import process
from windlass_api.embedded import build

RAY_ADDRESS_VARIABLE = "WINDLASS_TEST_RAY_ADDRESS"


class StubRay(JoinableRay):
    """A cluster at a fixed address."""

    def __init__(self, folder: Path, python: str) -> None:
        del folder, python

    def environment(self) -> dict[str, str]:
        return {"WINDLASS_STEP_SETTINGS": json.dumps(step_settings("ok"))}

    def ensure(self) -> str:
        return self.address()

    def address(self) -> str:
        return os.environ[RAY_ADDRESS_VARIABLE]

    def stop(self) -> None:
        return


if __name__ == "__main__":
    sys.exit(process.main("windlass_api.embedded", __doc__, partial(build, new_ray=StubRay)))
