"""What a server and its host process of model servers tell each other through files."""

import hashlib

from pydantic import BaseModel

from windlass.domain.endpoints import ServedApp, ServingStatus

WISH_NAME = "wish.json"
STATUS_NAME = "status.json"


class Wish(BaseModel):
    """What is to be served; the server writes it."""

    apps: tuple[ServedApp, ...] = ()


class HostStatus(BaseModel):
    """What the host process saw, and of which wish: the digest of the file's content."""

    wish: str = ""
    status: ServingStatus = ServingStatus()


def digest(content: bytes) -> str:
    """Return what tells one wish from another."""
    return hashlib.sha256(content).hexdigest()
