"""Makes processes of tests fail at the failpoints of the product.

The environment variable ``WINDLASS_TEST_FAILPOINTS`` selects actions, separated by ``;``:

- ``NAME=kill``: the process is killed by SIGKILL.
- ``NAME=raise``: an ``OSError`` is raised.
- ``NAME=sleep:SECONDS``: the thread sleeps.
- ``NAME=hold:PATH``: the thread creates the file, and waits until it is deleted.

``NAME=kill@2`` acts when the process reaches the failpoint for the second time. ``@PATH`` reads the actions from a file
whenever a failpoint is reached, so that a test can arm a process that runs; no file means no action. The variable has
an effect only in a process that was started by ``python -m tests.failpoints MODULE``.
"""

import os
import signal
import time
from collections import Counter
from pathlib import Path

from windlass.kit.failpoints import install

VARIABLE = "WINDLASS_TEST_FAILPOINTS"


def arm(value: str) -> None:
    """Carry out actions in this process; ``value`` has the form of the environment variable."""
    path = Path(value[1:]) if value.startswith("@") else None
    hits: Counter[str] = Counter()

    def handle(name: str) -> None:
        hits[name] += 1
        actions = _read(path) if path else value
        for entry in actions.split(";"):
            point, _, what = entry.strip().partition("=")
            action, _, hit = what.partition("@")
            if point == name and int(hit or hits[name]) == hits[name]:
                _act(name, action)

    install(handle)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _act(name: str, action: str) -> None:
    kind, _, argument = action.partition(":")
    match kind:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()  # the signal is asynchronous
        case "raise":
            raise OSError(f"failpoint {name}")
        case "sleep":
            time.sleep(float(argument))
        case "hold":
            Path(argument).touch()
            while Path(argument).exists():
                time.sleep(0.01)
        case _:
            raise ValueError(f"{VARIABLE}: failpoint {name} has the unknown action {action!r}")
