"""Artifacts on the disk of a pod, so that a replica that starts again in the same pod fetches nothing."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from windlass.domain.endpoints import ServedApp
from windlass.kit.files import locked
from windlass.ports import FolderTransfer
from windlass.serving.environment import CACHE_VARIABLE


@contextmanager
def artifact_folder(app: ServedApp, transfer: FolderTransfer) -> Iterator[Path]:
    """Yield a folder with the artifact of an application. It is not verified.

    The cache drops an artifact when the block raises an error: it may be damaged.
    """
    cache = os.environ.get(CACHE_VARIABLE)
    if not cache:
        with TemporaryDirectory(prefix="windlass-model-") as scratch:  # a loaded model does not need its files
            yield transfer.fetch(app.artifact_uri, Path(scratch) / "artifact")
        return
    folder = Path(cache) / app.digest
    with locked(folder.with_suffix(".lock")):
        fetched = folder if folder.is_dir() else _fetch(app, transfer, folder)
        try:
            yield fetched
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _fetch(app: ServedApp, transfer: FolderTransfer, folder: Path) -> Path:
    """Fetch into a scratch folder, and rename it when it is complete."""
    scratch = folder.with_suffix(".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    fetched = transfer.fetch(app.artifact_uri, scratch)
    return scratch.rename(folder) if fetched == scratch else fetched
