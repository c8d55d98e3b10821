"""Copies a process's output and log records to the control plane."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_FORMAT = "%(levelname)s %(name)s: %(message)s"
"""Without the time, which each line of a job's log has anyway."""


class Tee:
    """A text stream that writes to ``stream`` and to ``sink``."""

    def __init__(self, stream: TextIO, sink: Callable[[str], None]) -> None:
        self._stream, self._sink = stream, sink
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        """Write to both."""
        self._sink(text)
        return self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Return False, which disables progress bars."""
        return False

    def fileno(self) -> int:
        """Return the stream's file descriptor."""
        return self._stream.fileno()


@contextmanager
def capture_output(sink: Callable[[str], None]) -> Iterator[None]:
    """Copy to ``sink``: stdout, stderr, Python warnings, log records from INFO (libraries: WARNING)."""
    out, err = sys.stdout, sys.stderr
    root, ours = logging.getLogger(), logging.getLogger("windlass_pipelines")
    # Tee implements the part of TextIO that print and logging use
    sys.stdout, sys.stderr = Tee(out, sink), Tee(err, sink)
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
