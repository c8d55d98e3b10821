"""Refuses model files that can contain code. Importer, trainer and model server use the same rules; no file is loaded.

PyTorch's own formats, NumPy files and Keras archives are pickles, or can hold them. Transformers imports the Python
files that a configuration names. Only safetensors weights, JSON and plain text are left.
"""

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from windlass.domain.errors import InvalidError

_CODE_SUFFIXES = frozenset(
    {".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"}
    | {".npy", ".npz", ".h5", ".keras", ".pb", ".msgpack", ".zip", ".tar", ".gz", ".tgz", ".mar", ".nemo", ".llamafile"}
)
_MAGIC = {b"PK\x03\x04": "a zip archive (as torch.save writes)", b"\x1f\x8b": "compressed", b"\x7fELF": "a program"}
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_CODE_KEYS = frozenset({"auto_map", "trust_remote_code", "custom_pipelines", "custom_generate"})
_FREE_KEYS = frozenset(
    {"tokenizer.json", "vocab.json", "added_tokens.json", "model.safetensors.index.json", "report.json"}
)
"""Files whose keys are tokens, weight names or labels, so that any key is allowed."""
_LABELS = "label2id"
"""The field of a configuration whose keys are labels."""
_MAX_TEXT_BYTES = 64 << 20


def check_name(name: str) -> None:
    """Check the type of a file by its name.

    Raises:
        InvalidError: files with this suffix can contain code.
    """
    if PurePosixPath(name).suffix.lower() in _CODE_SUFFIXES:
        raise InvalidError(
            f"{name} can contain code: this file type is refused; delete it if the model has safetensors weights"
        )


def check_type(path: Path) -> None:
    """Check the type of a file by its name and its first bytes.

    Raises:
        InvalidError: the file can contain code.
    """
    check_name(path.name)
    if path.suffix == ".safetensors":
        return  # begins with the length of its header, which can be any bytes
    with path.open("rb") as stream:
        head = stream.read(4)
    _check_magic(path.name, head)
    if _PICKLE.match(head):
        raise InvalidError(f"{path.name} is a pickle; this content is refused under any file name")


def check_content(path: Path) -> None:
    """Check a file that a model library reads, by its type: the header of safetensors, the keys of JSON.

    Raises:
        InvalidError: the content does not match the suffix, or refers to code.
    """
    check_type(path)
    if path.suffix == ".safetensors":
        _check_safetensors(path)
    elif path.suffix == ".json":
        _check_json(path)


def read_text(path: Path) -> str:
    """Read a text file of a model.

    Raises:
        InvalidError: the file is too large, or not UTF-8.
    """
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise InvalidError(f"{path.name} is larger than {_MAX_TEXT_BYTES >> 20} MiB")
    try:
        return path.read_text(encoding="utf-8")
    except ValueError:
        raise InvalidError(f"{path.name} is not text in UTF-8") from None


def _check_magic(name: str, head: bytes) -> None:
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if kind is not None:
        raise InvalidError(f"{name} is {kind}; this content is refused under any file name")


def _check_safetensors(path: Path) -> None:
    """Check the header (https://github.com/huggingface/safetensors): 8 bytes of length, then JSON."""
    with path.open("rb") as stream:
        length = stream.read(8)
        size = int.from_bytes(length, "little")
        header = stream.read(size) if size <= min(path.stat().st_size, _MAX_TEXT_BYTES) else b""
    try:
        valid = isinstance(json.loads(header), dict)
    except (ValueError, RecursionError):
        valid = False
    if not valid:
        _check_magic(path.name, length)
        raise InvalidError(f"{path.name} is not a safetensors file")


def _check_json(path: Path) -> None:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError):
        raise InvalidError(f"{path.name} is not JSON") from None
    key = None if path.name in _FREE_KEYS else _find_code_key(content)
    if key is not None:
        raise InvalidError(f"{path.name} refers to custom code ({key}); such models are refused")


def _find_code_key(content: Any) -> str | None:
    pending = [content]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            key = next((key for key in node if key in _CODE_KEYS), None)
            if key is not None:
                return str(key)
            pending += (value for name, value in node.items() if name != _LABELS)
        elif isinstance(node, list):
            pending += node
    return None
