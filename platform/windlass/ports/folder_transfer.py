"""Moves folders between the object store and the disk of a process."""

from pathlib import Path
from typing import Protocol

from windlass.domain.artifacts import Manifest


class FolderTransfer(Protocol):
    """Fetches and publishes folders and files by URI, for processes that have no object store of their own.

    The control plane chooses the URIs (``ObjectStore.uri``). A published folder has a manifest and never changes. What
    is fetched is not verified: see ``windlass.runtime.artifacts.verify``.
    """

    def fetch(self, uri: str, folder: Path) -> Path:
        """Return a local folder with the files that are published at ``uri``. The caller must not change it.

        A store on another machine puts the files into ``folder``, which does not exist yet. A store on the same disk
        returns its own folder instead of a copy.

        Raises:
            NotFoundError: no folder is published there.
            InvalidError: the URI is not supported.
            OSError, UnavailableError: the files cannot be fetched now.
        """
        ...

    def fetch_file(self, uri: str, path: Path) -> Path:
        """Return a local copy of one file, put at ``path`` or as of ``fetch``. It need not be part of a folder.

        Raises: as of ``fetch``.
        """
        ...

    def publish(self, folder: Path, uri: str) -> Manifest:
        """Publish the files of ``folder`` with their manifest; visible all at once and durable when this returns.

        The folder is used up: it may have been moved. A crash publishes all files or none.

        Raises:
            ConflictError: something is published there already; it does not change.
            InvalidError: the URI is not supported.
            OSError, UnavailableError: the files cannot be stored now, for example on a full disk; none is visible.
        """
        ...

    def published(self, uri: str) -> list[str]:
        """Return the URIs of the folders that are published below ``uri``, sorted."""
        ...

    def delete(self, uri: str) -> None:
        """Delete all files at and below ``uri``; no error when there are none."""
        ...
