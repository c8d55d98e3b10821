"""Sends what a process prints and logs to the control plane, and still prints it."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Tee:
    """A text stream that passes on what it is given, and tells it."""

    def __init__(self, stream: TextIO, tell: Callable[[str], None]) -> None:
        self._stream, self._tell = stream, tell
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        """Write and tell."""
        self._tell(text)
        return self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream below."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Say no, so that nobody draws progress bars into a log."""
        return False

    def fileno(self) -> int:
        """Return the descriptor of the stream below."""
        return self._stream.fileno()


@contextmanager
def captured(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell all that this process prints, its log records from INFO on (libraries': WARNING) and Python's warnings."""
    out, err = sys.stdout, sys.stderr
    root, ours = logging.getLogger(), logging.getLogger("windlass_pipelines")
    # a Tee has what print and logging use of a text stream
    sys.stdout, sys.stderr = Tee(out, tell), Tee(err, tell)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    level, our_level = root.level, ours.level
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.removeHandler(handler)
        root.setLevel(level)
        ours.setLevel(our_level)
        sys.stdout, sys.stderr = out, err
