"""Files of a download: written into a draft folder, verified, and published by a rename."""

from pathlib import Path
from typing import BinaryIO

from windlass.domain.artifacts import MANIFEST_NAME, FileEntry, Manifest, sha256_file
from windlass.wire.models import ModelFileOut


def is_complete(path: Path, file: ModelFileOut) -> bool:
    """Return whether a file exists with the length and the sha256 of the manifest."""
    return path.is_file() and sha256_file(path) == FileEntry(bytes=file.bytes, sha256=file.sha256)


def create_file(path: Path) -> BinaryIO:
    """Create a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def publish_folder(draft: Path, manifest: Manifest, target: Path) -> None:
    """Write the manifest and rename the draft."""
    (draft / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1), "utf-8")
    draft.rename(target)
