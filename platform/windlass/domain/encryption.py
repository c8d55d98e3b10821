"""Data keys: each project has one, which encrypts its files and is stored only in wrapped form."""

from datetime import datetime

from windlass.domain.jobs import DomainModel


class DataKey(DomainModel):
    """The data key of a project, wrapped by a master key."""

    project: str
    master_key: str
    """Name of the master key."""
    wrapped: str
    created_at: datetime
    version: int = 1
