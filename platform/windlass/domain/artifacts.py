"""Manifests: the files of an artifact with their lengths and sha256 (invariant I9)."""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from windlass.domain.errors import ChecksumMismatchError

SHA256_PATTERN = r"^[0-9a-f]{64}$"
Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]

MANIFEST_NAME = "manifest.json"
MODEL_METADATA_NAME = "windlass.json"
"""File of a model's artifact: how it was trained, and what serving needs."""
MODEL_METADATA_FORMAT = 1
"""Version of its format."""
_CHUNK = 1 << 20
_MAX_PATH = 1000
_MAX_MANIFEST_BYTES = 16 << 20


class FileEntry(BaseModel):
    """One file: its length in bytes and the sha256 of its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bytes: int = Field(ge=0)
    sha256: Sha256


class Manifest(BaseModel):
    """The files of an artifact by relative POSIX path; the manifest itself is not listed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    files: dict[str, FileEntry]

    @field_validator("files")
    @classmethod
    def _safe_paths(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for path in files:
            check_relative_path(path)
        return files

    @classmethod
    def read(cls, stream: BinaryIO, folder: str) -> Self:
        """Read the manifest of a folder, whose name is for errors.

        Raises:
            ChecksumMismatchError: it is too large or not valid.
        """
        content = stream.read(_MAX_MANIFEST_BYTES + 1)
        if len(content) > _MAX_MANIFEST_BYTES:
            raise ChecksumMismatchError(f"{folder}: {MANIFEST_NAME} is larger than {_MAX_MANIFEST_BYTES:,} bytes")
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise ChecksumMismatchError(f"{folder}: {MANIFEST_NAME} is not valid") from error

    @property
    def bytes(self) -> int:
        """Total length of the files."""
        return sum(entry.bytes for entry in self.files.values())

    def digest(self) -> str:
        """Return one sha256 over paths, lengths and hashes of all files, in path order."""
        lines = (f"{path}\0{entry.bytes}\0{entry.sha256}\n" for path, entry in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_relative_path(path: str) -> None:
    """Reject a path that could leave its folder.

    Raises:
        ValueError: the path is absolute, empty or not normalized, or contains ``..``, a backslash or a control
            character.
    """
    parts = PurePosixPath(path).parts
    bad = not parts or path.startswith("/") or ".." in parts or "\\" in path or not path.isprintable()
    if bad or len(path) > _MAX_PATH or str(PurePosixPath(path)) != path:
        raise ValueError(f"not a plain relative path: {path[:200]!r}")


def sha256_file(path: Path) -> FileEntry:
    """Return the length and sha256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return FileEntry(bytes=size, sha256=digest.hexdigest())


def manifest_of(folder: Path) -> Manifest:
    """Hash every file below ``folder`` except the manifest itself."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).as_posix() != MANIFEST_NAME)
    return Manifest(files={p.relative_to(folder).as_posix(): sha256_file(p) for p in files})
