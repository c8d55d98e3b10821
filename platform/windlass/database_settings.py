"""Settings of the database: ``WINDLASS_DATABASE_<NAME>``."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

_ROLE_NAME = r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$"


class DatabaseSettings(BaseSettings):
    """Connection to PostgreSQL, which several replicas of the control plane share.

    Each process uses the URL of its role, so that row security restricts the API; one URL for all works without it.
    """

    model_config = SettingsConfigDict(
        env_prefix="WINDLASS_DATABASE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )
    url: SecretStr | None = Field(
        default=None,
        description="`postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE`; default: SQLite in the data directory",
    )
    api_url: SecretStr | None = Field(
        default=None,
        description="the same database as the API's role, which row security restricts to the project of a request; "
        "default: `url`",
    )
    worker_url: SecretStr | None = Field(
        default=None, description="the same database as the worker's role, which has all projects; default: `url`"
    )
    owner_url: SecretStr | None = Field(
        default=None, description="the same database as the owner of the tables, which migrates them; default: `url`"
    )
    api_role: str = Field(
        default="windlass_api",
        pattern=_ROLE_NAME,
        description="role that a migration gives what the API needs, if it exists",
    )
    worker_role: str = Field(
        default="windlass_worker",
        pattern=_ROLE_NAME,
        description="role that a migration gives what the worker needs, if it exists",
    )
    connections: int = Field(
        default=20,
        ge=2,
        le=500,
        description="maximum connections of one process; the server's `max_connections` must allow those of all "
        "replicas, one more for each worker, and some for administration",
    )
    statement_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="time after which the server cancels a statement"
    )
    lock_seconds: float = Field(default=10.0, gt=0, le=3600, description="time that a statement waits for a lock")

    @property
    def of_owner(self) -> SecretStr | None:
        """URL for migrations; None: the database is SQLite."""
        return self.owner_url or self.url

    @property
    def of_api(self) -> SecretStr | None:
        """URL of a process that serves users only."""
        return self.api_url or self.url

    @property
    def of_worker(self) -> SecretStr | None:
        """URL of a process that runs the worker."""
        return self.worker_url or self.url
