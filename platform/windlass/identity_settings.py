"""Settings of the sign-in of users, as those of ``windlass.settings``."""

from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class OidcSettings(BaseSettings):
    """Sign-in by an OpenID Connect provider; without an issuer there are only API keys."""

    model_config = SettingsConfigDict(
        env_prefix="WINDLASS_OIDC_", frozen=True, extra="forbid", hide_input_in_errors=True
    )
    issuer: str = Field(default="", description="URL of the issuer, as in the `iss` claim of its tokens")
    client_id: str = Field(default="", description="id of the client that signs browsers in")
    client_secret: SecretStr | None = Field(default=None, description="its secret; default: a public client")
    device_client_id: str = Field(
        default="", description="id of the public client of `windlass login` (device flow); default: `client_id`"
    )
    public_url: str = Field(
        default="",
        description="URL of the API as browsers see it; the provider sends them back to `/v1/auth/callback` below it",
    )
    scope: str = Field(default="openid profile email", description="scopes of a sign-in, separated by blanks")
    audience: str = Field(
        default="", description="`aud` of access tokens for this API; default: access tokens are refused"
    )
    name_claim: str = Field(
        default="preferred_username",
        description="claim that becomes the name of the user; users must not be able to change it at the provider",
    )
    groups_claim: str = Field(default="groups", description="claim that lists the groups of the user")
    algorithms: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("RS256", "ES256"), description="accepted signature algorithms, separated by commas"
    )
    platform_admin_groups: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="groups whose users are platform admins, separated by commas"
    )
    platform_viewer_groups: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="groups whose users read everything, separated by commas"
    )
    session_hours: float = Field(default=12.0, gt=0, le=720, description="time after which a user signs in again")

    @model_validator(mode="after")
    def _require_complete(self) -> Self:
        missing = [name for name in ("client_id", "public_url") if not getattr(self, name)]
        if self.issuer and missing:
            raise ValueError(f"WINDLASS_OIDC_ISSUER needs WINDLASS_OIDC_{missing[0].upper()}")
        return self

    @field_validator("algorithms", "platform_admin_groups", "platform_viewer_groups", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
