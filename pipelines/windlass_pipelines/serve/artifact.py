"""The gate before a model is loaded: the folder is exactly its manifest, and nothing in it can run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from windlass.domain.artifacts import MANIFEST_NAME, Manifest, sha256_file
from windlass.domain.errors import ChecksumMismatchError, InvalidError, NotFoundError, WindlassError
from windlass.domain.specs import Task

CARD_NAME = "windlass.json"
_MAX_JSON_BYTES = 64 * 1024 * 1024
_MESSAGE_CHARACTERS = 500
_RUNNABLE = frozenset(
    {".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth", ".py", ".pyc", ".so"}
)
"""Files that loaders of this field unpickle, import or map as code."""


class ModelLoadError(Exception):
    """A replica cannot start; the message is one line for the person who deployed it."""

    def __init__(self, cause: Exception | str) -> None:
        """Take the sentence, or the error that has it."""
        kind = "" if isinstance(cause, (WindlassError, str)) else f"{type(cause).__name__}: "
        super().__init__(" ".join(f"{kind}{cause}".split())[:_MESSAGE_CHARACTERS])


class ModelMemoryError(ModelLoadError):
    """There is no memory for the model now; the artifact is not to blame, and another time it may start."""


@dataclass(frozen=True)
class Card:
    """What ``windlass.json`` says of an artifact and serving needs."""

    task: Task
    labels: tuple[str, ...]
    max_length: int | None
    """Tokens per row at training, None when the artifact does not say."""


def admit(folder: Path, digest: str, task: Task) -> Card:
    """Do all that can be done before a model library is imported: ``verify`` and ``read_card``.

    Raises:
        ModelLoadError: either refuses.
    """
    try:
        verify(folder, digest)
        return read_card(folder, task)
    except (WindlassError, OSError) as error:
        raise ModelLoadError(error) from error


def check_manifest(folder: Path, digest: str) -> Manifest:
    """Read the manifest and compare its digest; cheap, no file is hashed.

    Raises:
        NotFoundError: no folder or no manifest.
        ChecksumMismatchError: it is the manifest of something else.
        InvalidError: it is no manifest, or lists a file that could run.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except FileNotFoundError:
        raise NotFoundError(f"the artifact has no {MANIFEST_NAME}: {folder}") from None
    except ValidationError as error:
        raise InvalidError(f"{MANIFEST_NAME} of the artifact cannot be read: {error.errors()[0]['msg']}") from None
    if manifest.digest() != digest:
        raise ChecksumMismatchError(
            f"the artifact's manifest has digest {manifest.digest()}, {digest} was to be served"
        )
    for path in manifest.files:
        if Path(path).suffix.lower() in _RUNNABLE:
            raise InvalidError(f"the artifact holds {path}: only safetensors weights and data files are served")
    return manifest


def verify(folder: Path, digest: str) -> Manifest:
    """Check all of ``folder``: the manifest's digest, each file's length and sha256, and that no other file is there.

    Raises:
        NotFoundError: no folder or no manifest.
        ChecksumMismatchError: the content is not what the manifest says.
        InvalidError: something in it could run: pickle, Python, or a configuration that names code to import.
    """
    manifest = check_manifest(folder, digest)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise InvalidError(f"the artifact holds {name}, which is not a plain file")
        if path.is_file() and name != MANIFEST_NAME and name not in manifest.files:
            raise ChecksumMismatchError(f"the artifact holds {name}, which its manifest does not list")
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ChecksumMismatchError(f"the artifact lacks {name}")
        if sha256_file(path) != entry:
            raise ChecksumMismatchError(f"{name} of the artifact is not the file that was registered")
        if path.suffix == ".safetensors":
            _check_safetensors(path)
        elif path.suffix == ".json":
            _check_json(path)
    if not any(name.endswith(".safetensors") for name in manifest.files):
        raise InvalidError("the artifact holds no safetensors weights")
    return manifest


def read_card(folder: Path, task: Task) -> Card:
    """Read ``windlass.json`` and compare its task with the one to be served.

    Raises:
        InvalidError: it is missing, cannot be read, or is for another task.
    """
    try:
        card = json.loads((folder / CARD_NAME).read_bytes())
        found = Task(card["task"])
        labels = tuple(str(label) for label in card.get("labels") or ())
        max_length = card.get("max_length")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidError(f"{CARD_NAME} of the artifact cannot be read: {error!r}") from None
    if found is not task:
        raise InvalidError(f"the artifact is for {found}, it cannot serve {task}")
    return Card(found, labels, int(max_length) if isinstance(max_length, int) else None)


def _check_safetensors(path: Path) -> None:
    """Look at the header that https://github.com/huggingface/safetensors defines: 8 bytes of length, then JSON."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = stream.read(size) if size <= min(path.stat().st_size, _MAX_JSON_BYTES) else b""
    try:
        good = isinstance(json.loads(header), dict)
    except (ValueError, RecursionError):
        good = False
    if not good:
        raise InvalidError(f"{path.name} is named safetensors and is something else")


def _check_json(path: Path) -> None:
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise InvalidError(f"{path.name} is larger than {_MAX_JSON_BYTES} bytes")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise InvalidError(f"{path.name} is not JSON") from None
    if _names_code(content):
        raise InvalidError(f"{path.name} names code to import (auto_map); it is not loaded")


def _names_code(content: Any) -> bool:
    pending = [content]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if "auto_map" in node or node.get("trust_remote_code"):
                return True
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    return False
