"""Messages of Ray Serve about applications that do not start, as reasons for the user."""

import re
from dataclasses import dataclass

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LOAD_ERROR = re.compile(r"Model(Load|Memory)Error: (.+)")
"""The error with which a replica fails to start (``windlass_pipelines.serve.artifact``)."""
_MESSAGE_CHARACTERS = 500
NO_MESSAGE = "failed without a message"


@dataclass(frozen=True)
class AppFailure:
    """Why an application must be stopped; ``permanent`` when the artifact is invalid and a retry cannot succeed."""

    reason: str
    permanent: bool


def load_failure(message: str) -> AppFailure | None:
    """Return the failure of a replica that could not load its model; None if the message is about something else."""
    match = _LOAD_ERROR.search(message)
    return AppFailure(reason(message), permanent=match[1] == "Load") if match else None


def reason(message: str) -> str:
    """Return the message of a replica's load error, or else the last line of a Serve message (often a traceback)."""
    lines = [line.strip() for line in _ANSI.sub("", message).splitlines() if line.strip()]
    load_error_messages = [match[2] for line in lines if (match := _LOAD_ERROR.search(line))]
    return (load_error_messages or lines or [""])[-1][:_MESSAGE_CHARACTERS]
