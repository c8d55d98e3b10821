"""Settings of the audit log, as those of ``windlass.settings``."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class AuditSettings(BaseSettings):
    """The audit log."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_AUDIT_", frozen=True, extra="forbid")
    seal_seconds: float = Field(
        default=5.0, gt=0, le=3600, description="time after which the worker seals new audit entries into the chain"
    )
    denied_entries_per_caller: int = Field(
        default=10,
        ge=1,
        description="denied requests of one user or address in a minute that have an audit entry each, in each "
        "process; one more entry has the number of the others",
    )
    denied_entries: int = Field(
        default=120,
        ge=1,
        description="the same for all users together, and again for all requests without a valid credential",
    )
    trusted_proxies: str = Field(
        default="",
        description="addresses or networks, separated by commas, of the reverse proxies whose header X-Forwarded-For "
        "names the client; empty: the address of the connection is the client's",
    )

    @property
    def seal_interval(self) -> timedelta:
        """``seal_seconds`` as a timedelta."""
        return timedelta(seconds=self.seal_seconds)
