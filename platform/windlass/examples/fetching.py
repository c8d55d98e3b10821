"""Fetches an example: the package into a cache, its files into a folder, each whole or not at all."""

import errno
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from windlass.domain.errors import NotFoundError, StorageFullError
from windlass.examples.catalogue import CATALOGUE, Example
from windlass.examples.packages import fetch_package


@dataclass(frozen=True)
class FetchedExample:
    """The files of an example, its licence (an SPDX name where there is one), and where it comes from."""

    files: tuple[Path, ...]
    licence: str
    source: str


def fetch(name: str, target: Path, cache: Path, progress: Callable[[str], None]) -> FetchedExample:
    """Write the files of example ``name`` into the folder ``target``; files of the same names are replaced.

    Downloads the package into ``cache`` unless it is there, and tells ``progress`` in short sentences what it does.

    Raises:
        NotFoundError: there is no such example; the hint lists them.
        UnavailableError: the package cannot be downloaded.
        ChecksumMismatchError: the package is not the pinned one.
        StorageFullError: no space; nothing half-written is left.
    """
    example = CATALOGUE.get(name)
    if example is None:
        raise NotFoundError(f"there is no example {name!r}", hint=f"there are: {', '.join(CATALOGUE)}")
    try:
        package = fetch_package(example.package, cache, progress)
        files = _unpack(example, package, target)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            hint = f"free {3 * example.package.megabytes:.0f} MB and try again"
            raise StorageFullError(f"no space left for example {name}", hint=hint) from error
        raise
    progress(f"{name}: {example.licence}, {example.origin}")
    release = f"Python package {example.package.name} {example.package.version}"
    return FetchedExample(files, example.licence, f"{example.origin} ({release})")


def _unpack(example: Example, package: Path, target: Path) -> tuple[Path, ...]:
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target) as drafts:
        example.unpack(package, Path(drafts))
        return tuple(draft.replace(target / draft.name) for draft in sorted(Path(drafts).iterdir()))
