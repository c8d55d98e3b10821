"""Which files of a model folder may be taken: by name, by size and by what is in them (no code is ever loaded here)."""

import json
import re
from pathlib import Path
from typing import Any

from windlass.domain.errors import InvalidError

_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
_JSON = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "model.safetensors.index.json",
    }
)
_TEXT = frozenset({"vocab.txt", "merges.txt", "chat_template.jinja"})
_REQUIRED = ("config.json", "tokenizer.json")
_CODE = frozenset(
    {".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"}
    | {".npy", ".npz", ".h5", ".keras", ".pb", ".msgpack", ".zip", ".tar", ".gz", ".tgz", ".mar", ".nemo", ".llamafile"}
)
_MAGIC = {b"PK\x03\x04": "a zip archive (as torch.save writes)", b"\x1f\x8b": "compressed", b"\x7fELF": "a program"}
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_RUNS_CODE = frozenset({"auto_map", "trust_remote_code", "custom_pipelines", "custom_generate"})
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json", "model.safetensors.index.json"})
"""Their keys are tokens and weight names, which may be any word."""
_MAX_ENTRIES = 1000
_MAX_TEXT_BYTES = 64 << 20


def find_gguf(source: Path) -> Path | None:
    """Return the one GGUF file of a source, None when it is a folder without.

    Raises:
        InvalidError: not a file or folder, or several GGUF files, or one that is not what its name says.
    """
    if source.is_file():
        found = [source]
    elif source.is_dir():
        found = sorted(source.glob("*.gguf"))
    else:
        raise InvalidError(f"{source} is neither a folder nor a file")
    if not found:
        return None
    if len(found) > 1:
        raise InvalidError(f"{source.name} has {len(found)} GGUF files; name the one to import")
    _check_plain(found[0])
    with found[0].open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise InvalidError(f"{found[0].name} is not a GGUF file; models are taken as safetensors or GGUF")
    return found[0]


def safe_files(source: Path) -> list[Path]:
    """Return the files of a safetensors model that are worth keeping; others that are harmless are passed over.

    Raises:
        InvalidError: a file can carry code or is not what its name says, or a needed one is missing.
    """
    kept: list[Path] = []
    for number, path in enumerate(sorted(source.rglob("*"))):
        if number >= _MAX_ENTRIES:
            raise InvalidError(f"{source.name} has more than {_MAX_ENTRIES} entries; it is not a model folder")
        if path.is_dir() and not path.is_symlink():
            continue
        _check_plain(path)
        _check_harmless(path)
        if path.parent == source and (path.name in _JSON | _TEXT or _WEIGHTS.fullmatch(path.name)):
            kept.append(path)
    names = {path.name for path in kept}
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise InvalidError(f"{source.name} has no {missing[0]}")
    if not any(_WEIGHTS.fullmatch(name) for name in names):
        raise InvalidError(f"{source.name} has no model.safetensors; only safetensors and GGUF weights are taken")
    for path in kept:
        _check_content(path)
    return kept


def _check_plain(path: Path) -> None:
    if path.is_symlink() or not path.is_file():
        raise InvalidError(f"{path.name} is a link or a special file; copy the model with 'cp -rL' first")


def _check_harmless(path: Path) -> None:
    if path.suffix.lower() in _CODE:
        raise InvalidError(
            f"{path.name} can carry code: files of this kind are refused; remove it when the model has safetensors"
        )
    with path.open("rb") as stream:
        head = stream.read(4)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if kind is None and _PICKLE.match(head) and path.suffix != ".safetensors":
        kind = "a pickle"
    if kind is not None:
        raise InvalidError(f"{path.name} is {kind}, which is refused whatever its name")


def _check_content(path: Path) -> None:
    if path.suffix == ".safetensors":
        return  # read by the safetensors library, which checks every offset
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise InvalidError(f"{path.name} is larger than {_MAX_TEXT_BYTES >> 20} MiB")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.name in _JSON else None
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"{path.name} is not {'JSON' if path.name in _JSON else 'text'}") from error
    if path.name in _JSON and path.name not in _VOCABULARIES:
        word = _code_word(content)
        if word is not None:
            raise InvalidError(f"{path.name} asks for code to be run ({word}); such models are refused")


def _code_word(content: Any) -> str | None:
    pending = [content]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            word = next((key for key in found if key in _RUNS_CODE), None)
            if word is not None:
                return str(word)
            pending += found.values()
        elif isinstance(found, list):
            pending += found
    return None
