"""Selects the files of a model folder to import, by name, size and content. No file is executed or unpickled."""

import re
from pathlib import Path

from windlass.domain.errors import InvalidError
from windlass_pipelines.code_scan import check_content, check_type, read_text

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
_MAX_ENTRIES = 1000


def find_gguf(source: Path) -> Path | None:
    """Return the GGUF file of a source, or None when the folder has none.

    Raises:
        InvalidError: the source is neither file nor folder, has several GGUF files, or the file is not GGUF.
    """
    if source.is_file():
        gguf_files = [source]
    elif source.is_dir():
        gguf_files = sorted(source.glob("*.gguf"))
    else:
        raise InvalidError(f"{source} is neither a folder nor a file")
    if not gguf_files:
        return None
    if len(gguf_files) > 1:
        raise InvalidError(f"{source.name} has {len(gguf_files)} GGUF files; name the one to import")
    _check_regular_file(gguf_files[0])
    with gguf_files[0].open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise InvalidError(f"{gguf_files[0].name} is not a GGUF file; models are imported from safetensors or GGUF")
    return gguf_files[0]


def safe_files(source: Path) -> list[Path]:
    """Return the files of a safetensors model to import; other harmless files are skipped.

    Raises:
        InvalidError: a file can contain code or does not match its suffix, or a required file is missing.
    """
    files: list[Path] = []
    for number, path in enumerate(sorted(source.rglob("*"))):
        if number >= _MAX_ENTRIES:
            raise InvalidError(f"{source.name} has more than {_MAX_ENTRIES} entries; it is not a model folder")
        if path.is_dir() and not path.is_symlink():
            continue
        _check_regular_file(path)
        check_type(path)
        if path.parent == source and (path.name in _JSON | _TEXT or _WEIGHTS.fullmatch(path.name)):
            files.append(path)
    names = {path.name for path in files}
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise InvalidError(f"{source.name} has no {missing[0]}")
    if not any(_WEIGHTS.fullmatch(name) for name in names):
        raise InvalidError(f"{source.name} has no model.safetensors; only safetensors and GGUF weights are imported")
    for path in files:
        check_content(path)
        if path.name in _TEXT:
            read_text(path)
    return files


def _check_regular_file(path: Path) -> None:
    if path.is_symlink() or not path.is_file():
        raise InvalidError(f"{path.name} is a link or a special file; copy the model with 'cp -rL' first")
