"""Files that the server and the Serve controller process exchange."""

import hashlib
import os
from pathlib import Path

from pydantic import BaseModel

from windlass.domain.endpoints import ServedApp, ServingStatus

DESIRED_NAME = "desired.json"
STATUS_NAME = "status.json"
HEARTBEAT_NAME = "heartbeat"
_HEARTBEAT_BYTES = 8


class DesiredState(BaseModel):
    """Applications to serve; written by the server."""

    apps: tuple[ServedApp, ...] = ()


class ServeControllerStatus(BaseModel):
    """Observed state; written by the controller."""

    controller: int = 0
    """Pid of the controller that wrote it."""
    desired_digest: str = ""
    """Identifies the desired state that the controller has processed."""
    base_url: str = ""
    """Address of Serve's HTTP proxy."""
    status: ServingStatus = ServingStatus()


class Heartbeat:
    """A counter that the controller increments in place: this works on a full disk, and no clock is compared."""

    def __init__(self, folder: Path) -> None:
        """Continue the counter in ``folder``."""
        self._path, self._count = folder / HEARTBEAT_NAME, read_heartbeat(folder)

    def beat(self) -> None:
        """Increment the counter."""
        self._count += 1
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, self._count.to_bytes(_HEARTBEAT_BYTES, "big"), 0)
        finally:
            os.close(descriptor)


def read_heartbeat(folder: Path) -> int:
    """Return the counter; 0 when there is none."""
    try:
        return int.from_bytes((folder / HEARTBEAT_NAME).read_bytes()[:_HEARTBEAT_BYTES], "big")
    except FileNotFoundError:
        return 0


def digest(content: bytes) -> str:
    """Return the SHA-256 of a desired state file."""
    return hashlib.sha256(content).hexdigest()
