"""Settings of the encryption of files."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class EncryptionSettings(BaseSettings):
    """Encryption of the files of projects in an S3 bucket."""

    model_config = SettingsConfigDict(env_prefix="WINDLASS_ENCRYPTION_", frozen=True, extra="forbid")
    master_keys_file: Path | None = Field(
        default=None,
        description="file with the master keys, one `<name>:<32 bytes in base64>` a line, the current one first; new "
        "projects are encrypted. Default: new projects are not encrypted",
    )
