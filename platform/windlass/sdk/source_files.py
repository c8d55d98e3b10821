"""Files to upload."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass.dataset_files.checking import check_file
from windlass.dataset_files.findings import name_list
from windlass.dataset_files.streams import UnreadableError
from windlass.domain.artifacts import FileEntry, sha256_file
from windlass.domain.datasets import Split
from windlass.domain.errors import InvalidError
from windlass.domain.ingest import IngestOptions
from windlass.domain.specs import Task
from windlass.sdk.arguments import as_list

Progress = Callable[[str, int, int], None]
"""Called with the file name, the bytes sent and the total bytes."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to upload and its split (None: the rows belong to train until they are split)."""

    path: Path
    split: Split | None = None


@dataclass(frozen=True)
class FileToSend:
    """A local file, and how many of its bytes the server has."""

    name: str
    path: Path
    received: int
    bytes: int


def source_files(files: Iterable[str | Path | SourceFile | Mapping[str, Any]]) -> list[SourceFile]:
    """Return the files of the argument ``files``.

    Raises:
        InvalidError: it is a single path, is empty, or has an item that is invalid or no regular file.
    """
    sources = [_source_file(file) for file in as_list("files", files)]
    if not sources:
        raise InvalidError("no files to upload", hint="pass at least one file")
    for source in sources:
        _check_regular(source.path)
    return sources


def check_content(sources: Sequence[SourceFile], names: Sequence[str], task: Task, options: IngestOptions) -> None:
    """Check the first rows of the files.

    Raises:
        InvalidError: a file would be rejected. If its columns do not fit, ``context`` has ``columns``, ``missing`` and
            ``has_header``.
    """
    for source, name in zip(sources, names, strict=True):
        try:
            check_file(source.path, name, task, options)
        except UnreadableError as error:
            line = f", line {error.line}" if error.line is not None else ""
            row = f": {name_list(error.columns)}" if error.code == "no-header" else ""
            raise InvalidError(
                f"{source.path}{line}: {error.message}{row}",
                hint=error.action,
                context=_columns_context(error),
            ) from error
        except OSError as error:
            raise InvalidError(f"cannot read {source.path}: {error.strerror}") from error


def _columns_context(error: UnreadableError) -> dict[str, Any]:
    if not error.columns:
        return {}
    return {"columns": [*error.columns], "missing": [*error.missing], "has_header": error.code != "no-header"}


def _source_file(file: str | Path | SourceFile | Mapping[str, Any]) -> SourceFile:
    if isinstance(file, SourceFile):
        return file
    if isinstance(file, str | Path):
        return SourceFile(Path(file))
    try:
        values = dict(file)
        split = values.pop("split", None)
        source = SourceFile(Path(values.pop("path")), None if split is None else Split(split))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidError(f"invalid file {file!r}", hint='use {"path": ..., "split": "train"}') from error
    if values:
        raise InvalidError(f"a file has no field {min(values)}", hint="the fields are path and split")
    return source


def _check_regular(path: Path) -> None:
    if not path.exists():
        raise InvalidError(f"cannot read {path}: no such file")
    if not path.is_file():
        raise InvalidError(
            f"{path} is not a regular file",
            hint="write the content of a pipe to a file: an interrupted upload reads it again",
        )


def upload_names(paths: Sequence[Path]) -> list[str]:
    """Return the file names on the server: unsupported characters are replaced.

    Raises:
        InvalidError: two files have the same name.
    """
    names = [re.sub(r"[^A-Za-z0-9._-]", "_", path.name).lstrip("._-")[:100] or "file" for path in paths]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise InvalidError(f"duplicate file name {duplicates[0]}", hint="rename one of the files")
    return names


def model_files(source: Path) -> dict[str, Path]:
    """Return the files of a base model by relative path: of a folder, without hidden and empty files; or one file.

    Raises:
        InvalidError: there is no file.
    """
    if source.is_file():
        return {source.name: source}
    found = {
        path.relative_to(source).as_posix(): path
        for path in sorted(source.rglob("*"))
        if path.is_file() and path.stat().st_size and not any(p.startswith(".") for p in path.relative_to(source).parts)
    }
    if not found:
        raise InvalidError(f"{source} has no files", hint="give a folder with safetensors weights, or a GGUF file")
    return found


def hash_files(sources: Sequence[SourceFile]) -> list[FileEntry]:
    """Return the length and the sha256 of each file.

    Raises:
        InvalidError: a file cannot be read.
    """
    return [_hash_file(source.path) for source in sources]


def _hash_file(path: Path) -> FileEntry:
    try:
        return sha256_file(path)
    except OSError as error:
        raise InvalidError(f"cannot read {path}: {error.strerror}") from error
