"""Verifies an artifact before its model is loaded: the files match the manifest, and none can contain code."""

import json
from dataclasses import dataclass
from pathlib import Path

from windlass.domain.artifacts import MODEL_METADATA_FORMAT, MODEL_METADATA_NAME, Manifest
from windlass.domain.errors import ChecksumMismatchError, InvalidError, WindlassError
from windlass.domain.specs import Task
from windlass.runtime.artifacts import read_manifest, verify
from windlass_pipelines.code_scan import check_content, check_name

_MAX_MESSAGE_LENGTH = 500


class ModelLoadError(Exception):
    """A replica cannot start; the message is one line for the user."""

    def __init__(self, cause: Exception | str) -> None:
        """``cause`` is the message, or an error that has it."""
        kind = "" if isinstance(cause, (WindlassError, str)) else f"{type(cause).__name__}: "
        super().__init__(" ".join(f"{kind}{cause}".split())[:_MAX_MESSAGE_LENGTH])


class ModelMemoryError(ModelLoadError):
    """There is not enough free memory for the model now; a later start may succeed."""


@dataclass(frozen=True)
class ArtifactMetadata:
    """The fields of ``windlass.json`` that serving needs."""

    task: Task
    labels: tuple[str, ...]
    max_length: int | None
    """Maximum tokens per row in training, if known."""


def load_verified_metadata(folder: Path, digest: str, task: Task) -> ArtifactMetadata:
    """Verify the artifact and return its metadata, without importing a model library.

    Raises:
        ModelLoadError: the artifact is invalid.
    """
    try:
        verify_safe(folder, digest)
        return read_metadata(folder, task)
    except (WindlassError, OSError) as error:
        raise ModelLoadError(error) from error


def check_manifest(manifest: Manifest, digest: str) -> None:
    """Compare the digest of a manifest, and check the names of its files, without reading the files.

    Raises:
        ChecksumMismatchError: the manifest has another digest.
        InvalidError: a file can contain code, or there are no weights.
    """
    if manifest.digest() != digest:
        raise ChecksumMismatchError(f"the artifact's manifest has digest {manifest.digest()}, expected {digest}")
    for name in manifest.files:
        check_name(name)
    if not any(name.endswith(".safetensors") for name in manifest.files):
        raise InvalidError("the artifact has no safetensors weights")


def verify_safe(folder: Path, digest: str) -> Manifest:
    """Verify an artifact, and check that no file can contain code.

    Raises:
        NotFoundError: the manifest is missing.
        ChecksumMismatchError: the content does not match the manifest, or the manifest not the digest.
        InvalidError: a file can contain code: pickle, Python, or a configuration that refers to code.
    """
    check_manifest(read_manifest(folder), digest)
    manifest = verify(folder, digest=digest)
    for name in manifest.files:
        check_content(folder / name)
    return manifest


def read_metadata(folder: Path, task: Task) -> ArtifactMetadata:
    """Read ``windlass.json`` and check that its task is ``task``.

    Raises:
        InvalidError: the file is missing, invalid, or has another format or another task.
    """
    try:
        metadata = json.loads((folder / MODEL_METADATA_NAME).read_bytes())
        written_format = metadata.get("format")
        artifact_task = Task(metadata["task"])
        labels = tuple(str(label) for label in metadata.get("labels") or ())
        max_length = metadata.get("max_length")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidError(f"{MODEL_METADATA_NAME} of the artifact cannot be read: {error!r}") from None
    if written_format != MODEL_METADATA_FORMAT:
        raise InvalidError(
            f"{MODEL_METADATA_NAME} of the artifact has format {written_format!r}, "
            f"this server reads {MODEL_METADATA_FORMAT}",
            hint="serve it with the version of windlass that trained it",
        )
    if artifact_task is not task:
        raise InvalidError(f"the artifact is for {artifact_task}, it cannot serve {task}")
    return ArtifactMetadata(artifact_task, labels, int(max_length) if isinstance(max_length, int) else None)
