"""Finds the exception and its last frame in the text of a Python traceback."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

_FRAME = re.compile(r'^\s*File "([^"]{1,500})", line (\d{1,9}), in (\S{1,200})', re.MULTILINE)
_EXCEPTION = re.compile(r"^([A-Za-z_][\w.]{0,200}(?:\([\w.]{1,200}\))?)(?:: (.*))?$")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_PATH_PARTS = 2
"""Parts of a path that are kept: folders of an installation are the same everywhere."""


@dataclass(frozen=True, slots=True)
class TracebackSummary:
    """The exception, as ``ValueError: bad label``, and where it was raised, as ``train/loss.py:12 in step``."""

    exception: str
    frame: str

    def __str__(self) -> str:
        """Return both on one line."""
        return f"{self.exception} ({self.frame})"


def summarize_traceback(text: str) -> TracebackSummary | None:
    """Return the exception and the last frame of the last traceback in ``text``; None if there is no traceback.

    A traceback may be followed by other output, and its end may be missing.
    """
    plain = _ANSI.sub("", text)
    frames = list(_FRAME.finditer(plain))
    for frame in reversed(frames):
        following = plain[frame.end() :].splitlines()[1:]
        for line in following:
            match = None if line[:1].isspace() else _EXCEPTION.match(line.rstrip())
            if match is not None:
                path = "/".join(PurePosixPath(frame[1]).parts[-_PATH_PARTS:])
                return TracebackSummary(line.strip(), f"{path}:{frame[2]} in {frame[3]}")
            if _FRAME.match(line):
                break
    return None
