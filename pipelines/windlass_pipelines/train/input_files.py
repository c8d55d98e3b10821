"""The files that a training reads: one copy for all of its processes on a node."""

from pathlib import Path

from windlass.domain.artifacts import MANIFEST_NAME
from windlass.kit.files import locked
from windlass.ports import FolderTransfer


def fetch_once(transfer: FolderTransfer, uri: str, folder: Path) -> Path:
    """Return a folder with the files published at ``uri``: the first process fetches it, the others wait for it.

    Raises: as of ``FolderTransfer.fetch``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{folder.name}.lock")):
        if (folder / MANIFEST_NAME).is_file():  # it is written after all other files
            return folder
        return transfer.fetch(uri, folder)
